"""Recordings and manifests for tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tokenizers import AddedToken
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.benchmarks import whisper
from pytest_mlperf.benchmarks.speech.workload import SpeechWorkload

RATE = 16_000
Infer = Callable[[Batch, int], Sequence[Array]]
"""(batch, its samples) -> outputs, as an engine has it."""


def make_sound(samples: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Return noise of a moderate level."""
    noise = np.random.default_rng(seed).standard_normal(samples)
    return np.asarray(noise * 3000, np.int16)


def write_recording(path: Path, samples: int, rate: int = RATE, seed: int = 0) -> None:
    """Write a wav or flac file, after the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, make_sound(samples, seed), rate, subtype="PCM_16")


def make_entry(name: str, samples: int, transcript: str) -> dict[str, Any]:
    """Return a manifest's entry as the reference's conversion writes it."""
    return {
        "transcript": transcript,
        "files": [{"fname": name, "speed": 1, "duration": samples / RATE}],
        "original_duration": samples / RATE,
        "original_num_samples": samples,
    }


def write_dataset(
    manifest: Path, rows: Sequence[tuple[str, int, str]], *, prefix: str = ""
) -> None:
    """Write recordings below the manifest's folder, and the manifest.

    ``rows``: file below the folder, samples, transcript; ``prefix`` stands before the
    file's name in the manifest.
    """
    for seed, (name, samples, _) in enumerate(rows):
        write_recording(manifest.parent / name, samples, seed=seed)
    entries = [make_entry(prefix + name, count, text) for name, count, text in rows]
    manifest.write_text(json.dumps(entries))


def write_whisper_tree(scratch: Path) -> Path:
    """Write three clips, a model's tokenizer and its configuration; return the folder.

    Clip n has 16,000 + n samples.
    """
    folder = scratch / "models/whisper-large-v3"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "preprocessor_config.json").write_text('{"feature_size": 128}')
    words = ["[UNK]", "hello", whisper.END, *whisper.PROMPT]
    tokenizer = Tokenizer(WordLevel({w: n for n, w in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(word) for word in words[2:]])
    tokenizer.save(str(folder / "tokenizer.json"))
    rows = [(f"dev-all-repack/{n}.wav", 16_000 + n, f"clip {n}") for n in range(3)]
    (scratch / "data").mkdir()
    write_dataset(scratch / "data/dev-all-repack.json", rows, prefix="/data/")
    return scratch


def answer_all(workload: SpeechWorkload, infer: Infer, batch: int) -> dict[int, bytes]:
    """Return LoadGen's bytes for every sample, in batches of neighbors in length."""
    lengths = workload.dataset.lengths
    assert lengths is not None
    order = np.argsort(-lengths, kind="stable").tolist()
    answers: dict[int, bytes] = {}
    for start in range(0, len(order), batch):
        indices = order[start : start + batch]
        workload.dataset.load(indices)
        outputs = infer(workload.dataset.gather(indices), len(indices))
        rows, sizes, _ = workload.respond(outputs, indices)
        assert sizes is not None
        answers |= {
            index: row.tobytes()[:size]
            for index, row, size in zip(indices, rows, sizes, strict=True)
        }
    return answers
