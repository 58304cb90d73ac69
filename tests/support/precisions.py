"""Engines whose speed depends on the precision, named by dotted spec as in doubles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from functools import partial

from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import content_hash
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
        return doubles.Stream(partial(doubles.slow_batch, seconds=seconds))


SLOW_INT8 = TwoSpeeds(doubles.echo, seconds={"int8": 0.03, "fp32": 0.003})
FAST_INT8 = TwoSpeeds(doubles.echo, seconds={"int8": 0.003, "fp32": 0.03})
ON_GPU = TwoSpeeds(doubles.echo, seconds={"int8": 0.03, "fp32": 0.003}, on_gpu=True)
