"""Log-mel features, beside the definitions written out one value at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_mlperf.benchmarks.speech import features

Floats = NDArray[np.float64]


def slow_filters(fft: int, mels: int) -> Floats:
    """Return Slaney's triangles, from his scale's definition."""

    def to_mel(hertz: float) -> float:
        if hertz < 1000:
            return hertz * 3 / 200
        return 15 + 27 * math.log(hertz / 1000) / math.log(6.4)

    def to_hertz(mel: float) -> float:
        if mel < 15:
            return mel * 200 / 3
        return 1000 * math.exp(math.log(6.4) * (mel - 15) / 27)

    edges = [to_hertz(mel) for mel in np.linspace(0, to_mel(8000), mels + 2)]
    filters = np.zeros((mels, fft // 2 + 1))
    for band in range(mels):
        low, middle, high = edges[band : band + 3]
        for place in range(fft // 2 + 1):
            hertz = place * 16000 / fft
            rising, falling = hertz - low, high - hertz
            height = min(rising / (middle - low), falling / (high - middle))
            filters[band, place] = max(0, height) * 2 / (high - low)
    return filters


def slow_power(sound: Floats, window: Floats, fft: int) -> Floats:
    """Return each frame's power around every 160th sample, mirrored at both ends."""
    padded = np.pad(sound, fft // 2, mode="reflect")
    before = (fft - len(window)) // 2
    frames = []
    for start in range(0, len(sound) + 1, 160):
        frame = np.zeros(fft)
        inside = slice(start + before, start + before + len(window))
        frame[before : before + len(window)] = padded[inside] * window
        frames.append(np.abs(np.fft.rfft(frame)) ** 2)
    return np.array(frames)


def slow_whisper(sound: Floats, mels: int) -> Floats:
    """Return the features of the padded 30 s."""
    whole = np.zeros(30 * 16000)
    whole[: len(sound)] = sound
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    power = slow_power(whole, window, 400)[:-1]
    log = np.log10(np.maximum(power @ slow_filters(400, mels).T, 1e-10)).T
    return np.asarray((np.maximum(log, log.max() - 8) + 4) / 4)


def slow_transducer(sound: Floats) -> Floats:
    """Return spliced and normalized frames."""
    sharp = sound.copy()
    sharp[1:] -= 0.97 * sound[:-1]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(320) / 319)
    power = slow_power(sharp, window, 512) + 1e-10
    frames = np.log(power @ slow_filters(512, 80).T + 1e-20)
    count = math.ceil(math.ceil(len(sound) / 160) / 3)
    followed = np.concatenate([frames, np.zeros((3, 80))])
    rows = [np.concatenate(followed[3 * n : 3 * n + 3]) for n in range(count)]
    spliced = np.array(rows)
    return np.asarray((spliced - spliced.mean(0)) / (spliced.std(0, ddof=1) + 1e-5))


def make_sound(samples: int) -> NDArray[np.float32]:
    noise = np.random.default_rng(samples).standard_normal(samples)
    return (noise * 0.1).astype(np.float32)


@pytest.mark.parametrize(("fft", "mels"), [(400, 80), (400, 128), (512, 80)])
def test_filters_are_slaneys(fft: int, mels: int) -> None:
    """Both models' bands."""
    found = features.mel_filters(fft, mels)

    np.testing.assert_allclose(found, slow_filters(fft, mels), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("samples", [201, 16_000, 16_161, 479_700, 479_900, 480_000])
def test_whispers_features_are_those_of_the_whole_thirty_seconds(samples: int) -> None:
    """Silence that is not computed, and the mirror at a full clip's end."""
    sound = make_sound(samples)
    found = features.whisper_features(sound, 80)

    assert found.shape == (80, 3000)
    np.testing.assert_allclose(
        found, slow_whisper(sound.astype(np.float64), 80), atol=2e-4
    )


@settings(max_examples=10)
@given(st.integers(1600, 30_000))
def test_transducers_features_are_the_references(samples: int) -> None:
    """Any length: the last frames are spliced with zeros."""
    sound = make_sound(samples)
    found = features.transducer_features(sound)

    assert len(found) == features.count_frames(samples)
    np.testing.assert_allclose(
        found, slow_transducer(sound.astype(np.float64)), atol=2e-3
    )
