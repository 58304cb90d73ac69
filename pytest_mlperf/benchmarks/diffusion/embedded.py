"""The embedded workload: a small diffusion model on digits, with its own judge."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.components import ModelComponents
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.sources import files_digest
from pytest_mlperf.api.workload import ArrayDataset
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.diffusion.captions import read_captions
from pytest_mlperf.benchmarks.diffusion.euler import GuidedSampler
from pytest_mlperf.benchmarks.diffusion.scores import Floats
from pytest_mlperf.benchmarks.diffusion.scores import Statistics
from pytest_mlperf.benchmarks.diffusion.scores import score_pictures
from pytest_mlperf.benchmarks.diffusion.workload import DiffusionWorkload

EMBEDDED = files.EMBEDDED / "stable-diffusion-xl"
SCRIPT = "make_diffusion.py"
SIDE, TOKENS = 16, 8
PARTS = {
    "text_encoder": (("tokens",), ("text",)),
    "unet": (("latents", "timestep", "text"), ("noise",)),
    "decoder": (("latents",), ("pictures",)),
}
"""Graph -> its inputs and outputs."""
BAND = {"CLIP_SCORE": 0.998, "FID_SCORE": 0.98}
"""Metric -> share of the reference model's value where its band begins: the official
limits are 31.68631873 of 31.74981837, and 23.01085758 of 23.48046692 (fp32)."""


def open_embedded(folder: Path = EMBEDDED) -> DiffusionWorkload:
    """Open the stand-in that ships with the package.

    Raises ``ValueError`` when a file is not the one that the manifest records.
    """
    files.require_package("onnxruntime", "the embedded pictures cannot be judged")
    manifest = files.read_manifest(folder, SCRIPT)
    captions = read_captions(folder / "captions.tsv")
    tokens = tokenize(captions, manifest["vocabulary"])
    latents = np.load(folder / "latents.npy", allow_pickle=False).astype(np.float32)
    steps, guidance = int(manifest["steps"]), float(manifest["guidance"])
    parts = {
        name: ModelFile(folder / f"{name}.onnx", inputs, outputs)
        for name, (inputs, outputs) in PARTS.items()
    }
    sampler = GuidedSampler(steps, guidance, np.zeros((1, TOKENS), np.int64))
    real = Statistics.read(folder / "statistics.npz")
    judge = partial(judge_pictures, folder, tuple(manifest["vocabulary"]))
    return DiffusionWorkload(
        kind="embedded",
        title=f"embedded: a small diffusion model, {len(captions)} captions of colored"
        " digits",
        digest=files_digest(
            [folder / name for name in manifest["sha256"]], repr((steps, guidance))
        ),
        dataset=ArrayDataset({"tokens": tokens, "latents": latents}, len(captions)),
        reference={
            name: share * manifest["fp32"][name] for name, share in BAND.items()
        },
        captions=captions,
        side=SIDE,
        score_all=partial(score_pictures, judge=judge, real=real),
        components=ModelComponents(parts, sampler.run),
    )


def tokenize(captions: Sequence[str], vocabulary: Sequence[str]) -> NDArray[np.int64]:
    """Return int64 [captions, 8]; raises ``ValueError`` for a word it does not have."""
    places = {word: place for place, word in enumerate(vocabulary)}
    tokens = np.zeros((len(captions), TOKENS), np.int64)
    for row, caption in zip(tokens, captions, strict=True):
        words = caption.split()
        if unknown := [word for word in words if word not in places]:
            raise ValueError(
                f"the caption {caption!r} has the word {unknown[0]!r}, but the embedded"
                f" model knows {', '.join(filter(None, vocabulary))}"
            )
        row[: len(words)] = [places[word] for word in words]
    return tokens


def judge_pictures(
    folder: Path, vocabulary: Sequence[str], pictures: Array, captions: Sequence[str]
) -> tuple[Floats, Floats]:
    """Return the judge's cosines and features, as ``scores.Judge`` says."""
    seen = pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255
    place, features = open_graph(folder / "judge_pictures.onnx").run(
        ["place", "features"], {"pictures": seen}
    )
    tokens = tokenize(captions, vocabulary)
    (said,) = open_graph(folder / "judge_captions.onnx").run(
        ["place"], {"tokens": tokens}
    )
    cosines = (place * said).sum(axis=1)
    return cosines.astype(np.float64), features.astype(np.float64)


@cache
def open_graph(path: Path) -> Any:
    """Return a session of one thread: its sums have the same order everywhere."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )
