"""What dlrm and dlrm-v2 have in common as benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.api.sources import Source
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.recommender.embedded import open_embedded
from pytest_mlperf.benchmarks.recommender.generated import open_generated
from pytest_mlperf.benchmarks.recommender.official import OfficialRecommender
from pytest_mlperf.benchmarks.recommender.workload import RecommenderWorkload
from pytest_mlperf.core.rounds.rule import Rule


@dataclass(frozen=True, slots=True)
class RecommenderBenchmark:
    """A recommender as it registers itself."""

    name: str
    official: OfficialRecommender
    aliases: tuple[str, ...] = ()
    metric: str = "AUC"
    takes: frozenset[str] = frozenset({"tensors"})
    rules: tuple[Rule, ...] = ()
    deployment_batches: tuple[int, ...] = (256, 1024, 4096, 16_384, 65_536)
    """Pairs: the batches of NVIDIA's deployment guide."""

    @property
    def sources(self) -> tuple[Source, ...]:
        return self.official.sources

    def precision(self, target: str) -> str:  # noqa: ARG002
        """Return fp32: on a CPU the lookup is the larger part, and it has no int8."""
        return "fp32"

    def open_workload(self, kind: str, scratch: Path | None) -> RecommenderWorkload:
        """Open the workload of a kind.

        Raises ``RequirementMissing`` for absent files, ``ValueError`` for wrong files
        or another kind.
        """
        if kind == "embedded":
            return open_embedded(self.name)
        if kind == "official":
            return self.official.open(scratch)
        if kind == "generated":
            return open_generated(self.official)
        kinds = "official", "embedded", "generated"
        raise files.unknown_kind(self.name, kind, *kinds)
