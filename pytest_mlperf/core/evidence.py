"""What a check looks at: one run's log beside the rule it is held to."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from datetime import UTC
from datetime import datetime

from pytest_mlperf.core.log import DETAIL
from pytest_mlperf.core.log import Log
from pytest_mlperf.core.logfile import LogError
from pytest_mlperf.core.rounds import Round
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import Cell
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status

MOST_QUERIES = 10**10
"""More than LoadGen can issue in an hour on any machine."""
STREAMS = (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM)
BOUNDED = (Scenario.SERVER, Scenario.INTERACTIVE)


@dataclass(frozen=True, slots=True)
class Context:
    """What the judge knows besides the log; nothing for a log that was found."""

    settings: Settings | None = None
    """What the suite asked for; None when judging somebody else's log."""
    reference: Mapping[str, float] | None = None
    """Metric -> the embedded workload's own fp32 reference, for the round's."""
    dataset_total: int | None = None
    """Samples that the workload has; None takes LoadGen's word for it."""
    waived: Mapping[str, str] = field(default_factory=dict)
    """Check name -> why the round's rule does not hold; adds to the settings'."""
    hopeless: str = ""
    """What a probe found where no load keeps the latency bound on this machine."""
    labels: tuple[str, ...] = ()
    expected_s: float | None = None
    actual_s: float | None = None
    build: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    def waiver(self, name: str) -> str | None:
        """Return why a check is not held to the round's rule; None when it is."""
        if self.settings and name in self.settings.waived:
            return self.settings.waived[name]
        if name == "dataset_size" and self.reference is not None:
            return self.waived.get(name, "the embedded workload has its own dataset")
        return self.waived.get(name)


@dataclass(frozen=True, slots=True)
class Run:
    """A log with everything that decides how to judge it."""

    log: Log
    cell: Cell
    mode: Mode
    rule: Rule
    round: Round
    context: Context

    @property
    def scenario(self) -> Scenario:
        return self.cell.scenario

    @property
    def queries(self) -> int:
        """Queries that LoadGen issued; Offline has one."""
        key = "result_query_count"
        count = self.log.integer(key)
        if not 0 < count <= MOST_QUERIES:
            path = self.log.folder / DETAIL
            found, required = f"{key} = {count}", f"between 1 and {MOST_QUERIES:,}"
            raise LogError(path, self.log.lines[key], found, required)
        return count

    @property
    def samples(self) -> int:
        """Samples that LoadGen issued in all."""
        return self.queries * self.log.integer("generated_samples_per_query")

    def latency_key(self, percentile: float) -> str:
        """Return the key of a measured latency: of queries in MultiStream."""
        kind = "latency"
        if self.scenario is Scenario.MULTI_STREAM:
            kind = "per_query_latency"
        return f"result_{percentile * 100:.2f}_percentile_{kind}_ns"


Judge = Callable[[Run], Check]
"""One rule: a pure function of a run."""


def check(
    name: str, ok: bool, found: str, required: str, where: str, remedy: str = ""
) -> Check:
    """Return a passed check, or a failed one with its remedy."""
    if ok:
        return Check(name, Status.PASS, found, required, where)
    return Check(name, Status.FAIL, found, required, where, remedy)


def elapsed_s(log: Log) -> float:
    """Return the seconds between LoadGen's power_begin and power_end (UTC, ms)."""
    begin, end = (moment(log, key) for key in ("power_begin", "power_end"))
    return (end - begin).total_seconds()


def moment(log: Log, key: str) -> datetime:
    """Return a time stamp of the log; ``LogError`` when it is none."""
    text = log.text(key)
    try:
        return datetime.strptime(text, "%m-%d-%Y %H:%M:%S.%f").replace(tzinfo=UTC)
    except ValueError:
        path = log.folder / DETAIL
        line = log.lines[key]
        raise LogError(path, line, f"{key} = {text[:40]!r}", "a time stamp") from None


def ms(nanoseconds: float) -> str:
    """Return a latency for people: ``15.00 ms``."""
    return f"{nanoseconds / 1e6:,.2f} ms" if nanoseconds >= 1e4 else f"{nanoseconds} ns"
