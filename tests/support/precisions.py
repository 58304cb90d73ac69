"""Engines whose speed depends on the precision, named by dotted spec as in doubles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from functools import partial

import numpy as np

from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.benchmarks.graph.workload import NodeWorkload
from tests.support import calls
from tests.support import doubles


@dataclass(frozen=True, slots=True)
class TwoSpeeds(doubles.Double):
    """A ``ComparesPrecisions`` provider."""

    seconds: Mapping[str, float] = field(default_factory=dict)
    """Precision -> seconds of a batch."""
    more_exact: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"int8": ("fp32",)}
    )
    on_gpu: bool = False

    def build(self, request: BuildRequest) -> Build:
        digest = content_hash({"speeds": self.seconds, "precision": request.precision})
        return Build(digest, None, request, "nothing", uses_gpu=self.on_gpu)

    def open(self, build: Build, threads: int) -> doubles.Stream:  # noqa: ARG002
        seconds = self.seconds[build.request.precision]
        return doubles.Stream(partial(calls.slow_batch, seconds=seconds))


SLOW_INT8 = TwoSpeeds(calls.echo, seconds={"int8": 0.03, "fp32": 0.003})
FAST_INT8 = TwoSpeeds(calls.echo, seconds={"int8": 0.003, "fp32": 0.03})
ON_GPU = TwoSpeeds(calls.echo, seconds={"int8": 0.03, "fp32": 0.003}, on_gpu=True)


@dataclass(frozen=True, slots=True)
class KnowsNodes(doubles.Double):
    """Classifies rgat's nodes by heart; of every so many, one is wrong."""

    wrong: Mapping[str, int] = field(default_factory=dict)
    """Precision -> one node in so many."""

    def open(self, build: Build, threads: int) -> doubles.Stream:  # noqa: ARG002
        workload = build.request.workload
        assert isinstance(workload, NodeWorkload)
        nodes = range(workload.dataset.total)
        features = workload.dataset.gather(nodes)["features"][: len(nodes)]
        keys = [row.tobytes() for row in features]
        classes = dict(zip(keys, workload.labels.tolist(), strict=True))
        every = self.wrong[build.request.precision]
        for number, key in enumerate(classes):
            if number % every == 0:
                classes[key] = (classes[key] + 1) % workload.classes

        def classify(batch: Batch, size: int, ids: object) -> list[Array]:  # noqa: ARG001
            rows = [classes[row.tobytes()] for row in batch["features"][:size]]
            return [np.eye(workload.classes, dtype=np.float32)[rows]]

        return doubles.Stream(classify)


FEW_WRONG = KnowsNodes(
    calls.echo, precisions=("fp32", "fp16", "int8"), batches=(512,),
    wrong={"fp32": 20, "fp16": 20, "int8": 10},
)  # fmt: skip
