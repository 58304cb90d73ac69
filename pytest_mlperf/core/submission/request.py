"""What is to be submitted, what a result consists of, and which results it needs."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field

from pytest_mlperf.core.compliance import AuditFinding
from pytest_mlperf.core.rounds import Round
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.submission.runs import Run
from pytest_mlperf.core.types import Scenario

Key = tuple[str, str]
"""Benchmark with its target, and scenario."""


@dataclass(frozen=True, slots=True)
class SubmissionRequest:
    """What is to be submitted."""

    org: str
    round: str
    division: str
    category: str
    """``edge``, ``datacenter`` or ``datacenter,edge``."""
    system: str
    rehearsal: bool = False

    @property
    def is_strict(self) -> bool:
        """True where the rules hold without exception: all divisions but open."""
        return self.division != "open"

    @property
    def table(self) -> str:
        """The category as the rounds' tables call it."""
        both = "datacenter" in self.category and "edge" in self.category
        return "datacenter_edge" if both else self.category


@dataclass(frozen=True, slots=True)
class Entry:
    """One result of the submission."""

    rule: Rule
    performance: Run
    accuracy: Run
    compliance: Mapping[str, Run] = field(default_factory=dict)
    verified: Mapping[str, tuple[AuditFinding, ...]] = field(default_factory=dict)
    """Audits that were compared with other runs than these: verified once more."""

    @property
    def runs(self) -> tuple[Run, ...]:
        return (self.performance, self.accuracy, *self.compliance.values())


def find_missing(
    table: Round, ask: SubmissionRequest, there: Collection[Key]
) -> Iterator[str]:
    """Yield a refusal for each scenario that a benchmark must have and lacks."""
    if not ask.is_strict:
        return
    for model in sorted({model for model, _ in there}):
        rules = [r for r in table.rules if r.model == model]
        own = [r for r in rules if ask.table in r.categories]
        asked = [r.scenario.value for r in own if ask.table in r.required_in]
        absent = [s for s in asked if (model, s) not in there]
        if absent:
            yield (
                f"{model}: {', '.join(absent)} missing; {ask.round} asks systems of "
                f"{ask.category} for {', '.join(asked)}: run what is missing, or leave "
                f"the benchmark out (-k 'not {model}')"
            )
        either = [r.scenario for r in own if ask.table not in r.required_in]
        names = [s.value for s in either]
        both = {Scenario.SERVER, Scenario.INTERACTIVE} <= set(either)
        if both and not any((model, name) in there for name in names):
            yield (
                f"{model}: {' or '.join(names)} missing; {ask.round} asks for at least "
                "one of them: run one"
            )
