"""Recordings: what is wrong with them is said when the dataset is opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_mlperf.benchmarks.speech.recordings import Recording
from pytest_mlperf.benchmarks.speech.recordings import RecordingDataset
from pytest_mlperf.benchmarks.speech.recordings import check_recordings
from pytest_mlperf.benchmarks.speech.recordings import read_manifest
from tests.support import speech


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_truncated_recording_is_named(tmp_path: Path, suffix: str) -> None:
    """Both kinds of file, each cut in the middle."""
    path = tmp_path / f"cut.{suffix}"
    speech.write_recording(path, 16_000)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(ValueError, match=r"it is cut off|whole wav") as caught:
        check_recordings([Recording(path, "words", 16_000)])

    assert str(path) in str(caught.value)
    assert "copy the file again" in str(caught.value)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_recording_of_another_rate_is_named(tmp_path: Path, suffix: str) -> None:
    """The remedy is the command that converts it."""
    path = tmp_path / f"fast.{suffix}"
    speech.write_recording(path, 16_000, rate=22_050)
    with pytest.raises(ValueError, match=r"22050 Hz.* should have 16000 Hz") as caught:
        check_recordings([Recording(path, "words", 16_000)])

    assert str(path) in str(caught.value)
    assert "sox IN -r 16000 -c 1 OUT" in str(caught.value)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_file_that_is_no_sound_is_named(tmp_path: Path, suffix: str) -> None:
    """An error page that was saved under the name."""
    path = tmp_path / f"page.{suffix}"
    path.write_text("<html>not found</html>")
    with pytest.raises(ValueError, match=r"cannot be read as sound"):
        check_recordings([Recording(path, "words", 16_000)])


def test_whole_recordings_pass(tmp_path: Path) -> None:
    """So that the checks above can fail for their own reason."""
    paths = [tmp_path / "one.wav", tmp_path / "two.flac"]
    for path in paths:
        speech.write_recording(path, 16_000)

    check_recordings([Recording(path, "words", 16_000) for path in paths])


def test_a_manifest_of_another_machine_finds_its_files(tmp_path: Path) -> None:
    """The reference's conversion writes absolute names of its container."""
    manifest = tmp_path / "dev.json"
    rows = [("dev/a.wav", 1600, "one"), ("dev/b.wav", 3200, "two")]
    speech.write_dataset(manifest, rows, prefix="/data/")
    found = read_manifest(manifest, [tmp_path], 30)

    assert found == [
        Recording(tmp_path / "dev/a.wav", "one", 1600),
        Recording(tmp_path / "dev/b.wav", "two", 3200),
    ]


def test_longer_recordings_are_left_out(tmp_path: Path) -> None:
    """15 s is the longest of RNN-T's; one of exactly that length takes part."""
    manifest = tmp_path / "dev.json"
    rows = [("a.wav", 240_000, "one"), ("b.wav", 240_001, "two")]
    speech.write_dataset(manifest, rows)

    assert [one.transcript for one in read_manifest(manifest, [tmp_path], 15)] == [
        "one"
    ]


def entry(**changes: Any) -> str:
    return json.dumps([{**speech.make_entry("a.wav", 1600, "one"), **changes}])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "should hold a list of recordings"),
        ("{}", "should hold a list of recordings"),
        (entry(transcript=" "), r"entry 0 \(a.wav\) has the transcript ' '"),
        (entry(transcript=None), r"entry 0 \(a.wav\) has the transcript None"),
        (entry(files=[]), "entry 0 is .*should have 'files'"),
        (entry(original_num_samples="many"), "entry 0 is .*original_num_samples"),
        (entry(), "a.wav is in the manifest, but not below"),
    ],
)
def test_a_wrong_manifest_is_named(tmp_path: Path, text: str, found: str) -> None:
    """Manifest, entry, and what to do."""
    manifest = tmp_path / "dev.json"
    manifest.write_text(text)
    with pytest.raises(ValueError, match=found) as caught:
        read_manifest(manifest, [tmp_path], 30)

    assert str(tmp_path) in str(caught.value)
    assert "again" in str(caught.value) or "Copy the folder" in str(caught.value)


def test_a_batch_has_the_features_of_its_recordings_in_order(tmp_path: Path) -> None:
    """Samples are scaled to [-1, 1); an unloaded one is refused."""
    recordings = []
    for seed in range(3):
        path = tmp_path / f"{seed}.wav"
        speech.write_recording(path, 1600 + seed, seed=seed)
        recordings.append(Recording(path, "words", 1600 + seed))
    dataset = RecordingDataset(
        recordings, lambda sounds: {"first": np.array([sound[0] for sound in sounds])}
    )
    dataset.load([0, 2])
    expected = [speech.make_sound(1600 + n, n)[0] / 32768 for n in (2, 0)]

    assert dataset.lengths.tolist() == [1600, 1601, 1602]
    assert dataset.gather([2, 0])["first"].tolist() == expected
    dataset.unload([0])
    with pytest.raises(KeyError):
        dataset.gather([0])
