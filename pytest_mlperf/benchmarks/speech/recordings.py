"""Recordings on disk: their manifest, checks at the dataset's opening, samples."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.benchmarks.file_dataset import FileDataset
from pytest_mlperf.benchmarks.files import SPEECH_EXTRA
from pytest_mlperf.benchmarks.files import require_package
from pytest_mlperf.benchmarks.speech.features import RATE

Sound = NDArray[np.int16]
MAKE_AGAIN = "Convert the dataset again, or copy the file again."


@dataclass(frozen=True, slots=True)
class Recording:
    """One sample: a file of 16 kHz speech, and what is said in it."""

    path: Path
    transcript: str
    samples: int


def require_soundfile() -> None:
    """Raise ``RequirementMissing`` unless recordings can be read."""
    require_package("soundfile", "recordings cannot be read", SPEECH_EXTRA)


def read_sound(recording: Recording) -> Sound:
    """Return the samples of a wav or flac file: int16 [samples].

    Raises ``ValueError`` for a file that is not the recording of its manifest.
    """
    import soundfile

    try:
        sound, rate = soundfile.read(recording.path, dtype="int16", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise ValueError(
            f"{recording.path} cannot be read as sound ({error}); it should be a whole"
            f" wav or flac file. {MAKE_AGAIN}"
        ) from error
    _check_header(recording, rate, sound.shape[1], len(sound))
    return np.ascontiguousarray(sound[:, 0])


def check_recording(recording: Recording) -> None:
    """Raise ``ValueError`` unless a file has the rate and the length that it should.

    A wav file's header and size tell; a flac file is decoded.
    """
    import soundfile

    if recording.path.suffix.lower() != ".wav":
        read_sound(recording)
        return
    try:
        header = soundfile.info(recording.path)
    except (OSError, soundfile.SoundFileError) as error:
        raise ValueError(
            f"{recording.path} cannot be read as sound ({error}); it should be a whole"
            f" wav file. {MAKE_AGAIN}"
        ) from error
    _check_header(recording, header.samplerate, header.channels, header.frames)


def _check_header(recording: Recording, rate: int, channels: int, count: int) -> None:
    if rate != RATE or channels != 1:
        raise ValueError(
            f"{recording.path} has {rate} Hz and {channels} channel(s), but should have"
            f" {RATE} Hz and 1: the model's features are of that rate. Convert it, for"
            f" example with: sox IN -r {RATE} -c 1 OUT"
        )
    if count != recording.samples:
        raise ValueError(
            f"{recording.path} has {count:,} samples, but should have"
            f" {recording.samples:,} as its manifest says: it is cut off or another"
            f" recording. {MAKE_AGAIN}"
        )


def check_recordings(recordings: Sequence[Recording]) -> None:
    """Check every file; raises ``ValueError`` that names the first wrong one."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for _ in pool.map(check_recording, recordings):
            pass


def read_manifest(
    path: Path, roots: Sequence[Path], longest_s: float
) -> list[Recording]:
    """Read the reference implementation's manifest: recordings of up to ``longest_s``.

    File names are looked for below ``roots``; those that another machine's conversion
    made absolute, by their last two folders. Raises ``ValueError`` that names manifest
    and entry.
    """
    try:
        entries = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as JSON ({error}); it should be the manifest that"
            " the reference implementation's conversion writes. Convert the dataset"
            " again."
        ) from error
    if not isinstance(entries, list) or not entries:
        raise ValueError(
            f"{path} holds {str(entries)[:60]!r}, but should hold a list of recordings."
            " Convert the dataset again."
        )
    recordings = []
    for number, entry in enumerate(entries):
        try:
            (file,) = [one for one in entry["files"] if one["speed"] == 1]
            name, transcript = str(file["fname"]), entry["transcript"]
            samples = int(entry["original_num_samples"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} entry {number} is {str(entry)[:80]!r}, but should have 'files'"
                " with one of speed 1, 'original_num_samples' and 'transcript'"
                f" ({type(error).__name__}: {error}). Convert the dataset again."
            ) from error
        if not isinstance(transcript, str) or not transcript.strip():
            raise ValueError(
                f"{path} entry {number} ({name}) has the transcript {transcript!r}, but"
                " should have the words that are said in it: without them nothing can"
                " be scored. Convert the dataset again."
            )
        if samples <= longest_s * RATE:
            found = find_recording(name, roots)
            recordings.append(Recording(found, transcript, samples))
    return recordings


def find_recording(name: str, roots: Sequence[Path]) -> Path:
    """Return where a manifest's file is; raises ``ValueError`` for an absent one."""
    parts = PurePosixPath(name).parts
    tails = [PurePosixPath(*parts[-count:]) for count in (len(parts), 2, 1)]
    for root in roots:
        for tail in tails:
            if (root / tail).is_file():
                return root / tail
    raise ValueError(
        f"{name} is in the manifest, but not below {' or '.join(map(str, roots))};"
        " it should be there. Copy the folder of recordings beside the manifest."
    )


class RecordingDataset(FileDataset[Recording]):
    """Recordings on disk, as waveforms: 2 bytes a value.

    ``gather`` computes the features of a batch with ``make_features``: sounds float32
    [samples] each -> named arrays.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        make_features: Callable[[Sequence[NDArray[np.float32]]], dict[str, Array]],
    ) -> None:
        super().__init__(recordings, len(recordings))
        lengths = [one.samples for one in recordings]
        # Neighbors in length have answers of like length, too.
        self.lengths: NDArray[np.int32] = np.array(lengths, np.int32)
        self._make_features = make_features

    def read(self, file: Recording) -> Sound:
        return read_sound(file)

    def write_wav(self, index: int) -> bytes:
        """Return a recording as a wav file; raises ``KeyError`` for one not loaded."""
        import soundfile

        file = io.BytesIO()
        soundfile.write(
            file, self._samples[index], RATE, format="WAV", subtype="PCM_16"
        )
        return file.getvalue()

    def gather(self, indices: Sequence[int]) -> dict[str, Any]:
        """Return a batch of features; raises ``KeyError`` for one not loaded."""
        scale = np.float32(1 / 32768)
        return self._make_features([self._samples[i] * scale for i in indices])
