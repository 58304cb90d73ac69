"""Performance-only workloads: true architectures, generated weights and inputs.

For machines without the official files. Their answers mean nothing, so they have no
accuracy item, and every figure is labelled ``performance only``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import ArrayDataset
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks.files import require_package
from pytest_mlperf.benchmarks.imagenet.pictures import CROP
from pytest_mlperf.benchmarks.imagenet.pictures import ImageNetWorkload
from pytest_mlperf.benchmarks.squad.windows import MAX_TOKENS
from pytest_mlperf.benchmarks.squad.windows import Features
from pytest_mlperf.benchmarks.squad.workload import SquadDataset
from pytest_mlperf.benchmarks.squad.workload import SquadWorkload
from pytest_mlperf.benchmarks.standins import graphs
from pytest_mlperf.config.options import find_cache
from pytest_mlperf.core.whole_file import is_whole
from pytest_mlperf.core.whole_file import note_content

WINDOWS = 10_833
"""Windows of 384 tokens that SQuAD v1.1's dev set is cut into."""
PICTURES = 1024
"""``resnet50.*.performance_sample_count_override`` of mlperf.conf."""
MEAN_TOKENS, SPREAD_TOKENS, FEWEST_TOKENS = 168, 0.42, 40
"""A log-normal with SQuAD's mean of 180 tokens a window, cut at 384."""
RECIPE = 1
"""Part of every digest; to be increased when the generated models or data change."""


def draw_lengths(
    count: int = WINDOWS, fewest: int = FEWEST_TOKENS
) -> NDArray[np.int32]:
    """Return tokens a window as SQuAD's dev set has them: mean 180, most 384."""
    drawn = np.random.default_rng(1).normal(np.log(MEAN_TOKENS), SPREAD_TOKENS, count)
    return np.clip(np.exp(drawn), fewest, MAX_TOKENS).astype(np.int32)


def cache_folder() -> Path:
    """Return the folder of generated models."""
    return find_cache(os.environ, Path.cwd()) / "generated"


def open_bert(
    size: graphs.BertSize = graphs.BertSize(),  # noqa: B008 - frozen
    count: int = WINDOWS,
    folder: Path | None = None,
    fewest: int = FEWEST_TOKENS,
) -> SquadWorkload:
    """Open BERT-large on windows of random tokens, ``fewest`` or more in each."""
    name = f"bert-{size.layers}x{size.hidden}"
    path = ensure_graph(folder, name, size, partial(graphs.write_bert, size=size))
    random = np.random.default_rng(2)
    tokens = draw_lengths(count, fewest)
    width = int(tokens.max())
    ids = random.integers(1000, size.vocabulary, (count, width), np.int64)
    ids[np.arange(width) >= tokens[:, None]] = 0
    features = Features(
        questions=(),
        ids=ids,
        lengths=tokens,
        heads=np.full(count, 14, np.int32),
        owners=np.arange(count, dtype=np.int32),
        firsts=np.zeros(count, np.int32),
        spans=(),
        unknown=100,
    )
    inputs = dict(zip(graphs.BERT_INPUTS, ("ids", "mask", "segments"), strict=True))
    workload = SquadWorkload(
        kind="generated",
        title=f"performance only: BERT of {size.layers} layers of {size.hidden}, "
        f"generated weights; {count:,} windows of random tokens, "
        f"mean {tokens.mean():.0f}",
        model=ModelFile(
            path=path,
            inputs=graphs.BERT_INPUTS,
            outputs=("start_logits", "end_logits"),
            dynamic_length=True,
        ),
        dataset=SquadDataset(features, inputs),
        reference={},
        features=features,
        files=(),
    )
    workload.digest = digest_parts("bert", size, count, fewest)
    return workload


def open_resnet50(
    count: int = PICTURES, folder: Path | None = None
) -> ImageNetWorkload:
    """Open ResNet-50 v1.5 on random pictures."""
    path = ensure_graph(folder, "resnet50-v1.5", None, graphs.write_resnet)
    pixels = np.random.default_rng(3).integers(
        -128, 128, (count, CROP, CROP, 3), dtype=np.int8
    )
    return ImageNetWorkload(
        kind="generated",
        title=f"performance only: ResNet-50 v1.5 with generated weights on {count:,} "
        "random pictures",
        digest=digest_parts("resnet50", count),
        model=ModelFile(
            path=path,
            inputs=("pictures",),
            outputs=("scores",),
            calibration=calibration_pictures,
        ),
        dataset=ArrayDataset({"pictures": pixels}, count),
        reference={},
        labels=np.zeros(count, np.int32),
    )


def calibration_pictures() -> Iterator[Batch]:
    """Yield pictures that are not among the workload's."""
    random = np.random.default_rng(4)
    for _ in range(4):
        shape = (32, CROP, CROP, 3)
        yield {"pictures": random.integers(-128, 128, shape, dtype=np.int8)}


def digest_parts(*parts: object) -> str:
    """Return the digest of what decides a generated workload."""
    return hashlib.sha256(repr((RECIPE, parts)).encode()).hexdigest()


def ensure_graph(
    folder: Path | None, name: str, key: object, write: Callable[[Path], None]
) -> Path:
    """Return a generated graph, written at its first use (BERT-large: 1.3 GB).

    ``key``: what decides the graph besides its name.
    """
    require_package("onnx", "generated workloads cannot be written")
    return ensure_file(folder, f"{name}.onnx", key, write)


def ensure_file(
    folder: Path | None, name: str, key: object, write: Callable[[Path], None]
) -> Path:
    """Return a generated file, written at its first use; ``key`` as for a graph."""
    from filelock import FileLock

    stem, suffix = Path(name).stem, Path(name).suffix
    path = (folder or cache_folder()) / f"{stem}-{digest_parts(stem, key)[:12]}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        weights = path.with_suffix(".weights")
        if not is_whole(path, weights):
            write(path)
            note_content(path, weights)
    return path
