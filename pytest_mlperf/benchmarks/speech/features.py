"""Log-mel features of a recording, as the reference implementations compute them.

The sample in memory is the waveform: features are part of the measured time, as the
reference of RNN-T states and that of Whisper does.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float32]

RATE = 16_000
"""Samples a second of every recording."""
HOP = 160
"""Samples from one frame to the next: 10 ms."""
CLIP_S = 30
"""Seconds that Whisper's encoder reads; the rules forbid a shorter padding."""
CLIP_FRAMES = CLIP_S * RATE // HOP
WHISPER_WINDOW = 400
TRANSDUCER_WINDOW, TRANSDUCER_FFT, TRANSDUCER_MELS = 320, 512, 80
SPLICED = 3
"""Frames of RNN-T's features that stand beside each other as one."""
FRAME_WIDTH = SPLICED * TRANSDUCER_MELS
PRE_EMPHASIS = np.float32(0.97)
DITHER_POWER = np.float32(1e-10)
"""The square of the configured dither, which the reference adds to the power."""


@cache
def mel_filters(fft: int, mels: int) -> Floats:
    """Return triangular filters of equal area: float32 [mels, fft // 2 + 1].

    The scale is Slaney's: linear below 1 kHz, logarithmic above.
    """
    step, knee = 200 / 3, 1000.0
    ratio = np.log(6.4) / 27

    def to_hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
        above = knee * np.exp(ratio * (mel - knee / step))
        return np.where(mel < knee / step, step * mel, above)

    top = knee / step + np.log(RATE / 2 / knee) / ratio
    edges = to_hertz(np.linspace(0, top, mels + 2))
    bins = np.linspace(0, RATE / 2, fft // 2 + 1)
    slopes = (bins - edges[:, None]) / np.diff(edges, append=np.inf)[:, None]
    rising, falling = slopes[:-2], 1 - slopes[1:-1]
    triangles = np.maximum(0, np.minimum(rising, falling))
    areas = 2 / (edges[2:] - edges[:-2])
    return np.asarray(triangles * areas[:, None], np.float32)


@cache
def _window(size: int, *, periodic: bool, width: int) -> Floats:
    """Return Hann's window in the middle of ``width`` samples."""
    angles = 2 * np.pi * np.arange(size) / (size if periodic else size - 1)
    before = (width - size) // 2
    window = 0.5 - 0.5 * np.cos(angles)
    return np.pad(window, (before, width - size - before)).astype(np.float32)


def _power(padded: Floats, window: Floats, frames: int) -> Floats:
    """Return each frame's power spectrum: float32 [frames, bins]."""
    views = sliding_window_view(padded, len(window))[::HOP][:frames]
    spectrum = np.fft.rfft(views * window)
    return np.asarray(spectrum.real**2 + spectrum.imag**2, np.float32)


def whisper_features(audio: Floats, mels: int) -> Floats:
    """Return Whisper's features of up to 30 s: float32 [mels, 3000].

    The rest of the 30 s is silence, of which no spectrum need be computed.
    """
    audio = audio[: CLIP_S * RATE]
    half = WHISPER_WINDOW // 2
    # One frame more than the recording touches; all others hear nothing.
    frames = min(CLIP_FRAMES, (len(audio) + half) // HOP + 1)
    padded = np.zeros(frames * HOP + WHISPER_WINDOW, np.float32)
    heard = audio[: len(padded) - half]
    padded[half : half + len(heard)] = heard
    padded[:half] = audio[half:0:-1] if len(audio) > half else 0
    if frames == CLIP_FRAMES:
        whole = np.zeros(CLIP_S * RATE, np.float32)
        whole[: len(audio)] = audio
        padded = np.pad(whole, half, mode="reflect")
    window = _window(WHISPER_WINDOW, periodic=True, width=WHISPER_WINDOW)
    energies = _power(padded, window, frames) @ mel_filters(WHISPER_WINDOW, mels).T
    features = np.full((mels, CLIP_FRAMES), np.float32(-10))
    features[:, :frames] = np.log10(np.maximum(energies, 1e-10)).T
    features = np.maximum(features, features.max() - np.float32(8))
    return np.asarray((features + np.float32(4)) / np.float32(4), np.float32)


def count_frames(samples: int) -> int:
    """Return how many frames RNN-T's features of a recording have."""
    windows = (samples + HOP - 1) // HOP
    return (windows + SPLICED - 1) // SPLICED


def transducer_features(audio: Floats) -> Floats:
    """Return RNN-T's features: float32 [frames, 240], normalized per feature.

    Frames of 20 ms, three beside each other, so that one is 30 ms after the last.
    """
    audio = audio.copy()
    audio[1:] -= PRE_EMPHASIS * audio[:-1]
    half = TRANSDUCER_FFT // 2
    frames = 1 + len(audio) // HOP
    window = _window(TRANSDUCER_WINDOW, periodic=False, width=TRANSDUCER_FFT)
    power = _power(np.pad(audio, half, mode="reflect"), window, frames) + DITHER_POWER
    filters = mel_filters(TRANSDUCER_FFT, TRANSDUCER_MELS)
    energies = np.log(power @ filters.T + np.float32(1e-20))
    # The last frames have no followers: what is spliced behind them is zero.
    followed = np.zeros((frames + SPLICED - 1, TRANSDUCER_MELS), np.float32)
    followed[:frames] = energies
    parts = [followed[n : n + frames : SPLICED] for n in range(SPLICED)]
    spliced = np.concatenate(parts, axis=1)[: count_frames(len(audio))]
    spread = spliced.std(axis=0, ddof=1) if len(spliced) > 1 else np.float32(0)
    return np.asarray(
        (spliced - spliced.mean(axis=0)) / (spread + np.float32(1e-5)), np.float32
    )
