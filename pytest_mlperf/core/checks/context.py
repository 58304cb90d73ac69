"""The input of a check: one run's log and the rule that applies to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from datetime import UTC
from datetime import datetime

from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.compliance.audit import Audit
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.logs.dialect import Trait
from pytest_mlperf.core.logs.equal_issue import count_query_samples
from pytest_mlperf.core.logs.keys import LATENCY
from pytest_mlperf.core.logs.keys import QUERY_LATENCY
from pytest_mlperf.core.logs.keys import format_share
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import SIX_DIGITS
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.residency.rules import Claim
from pytest_mlperf.core.rounds import Round
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import BOUNDED
from pytest_mlperf.core.types import STREAMS
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario

MOST_QUERIES = 10**10
"""More than LoadGen can issue in an hour on any machine."""
BETWEEN_S = 0.002
"""Time between an answer and a stream's next query that no latency includes."""
CLOCK_TICK_S = 0.001
"""Of LoadGen's time stamps."""
STAMP = "%m-%d-%Y %H:%M:%S.%f"


@dataclass(frozen=True, slots=True)
class Context:
    """What the judge knows besides the log; empty for a log of unknown origin."""

    settings: Settings | None = None
    """What the suite asked for; None when judging somebody else's log."""
    reference: Mapping[str, float] | None = None
    """Metric -> the embedded workload's own fp32 reference, for the round's."""
    dataset_total: int | None = None
    """Samples of the workload; None uses the number in the log."""
    waived: Mapping[str, str] = field(default_factory=dict)
    """Check name -> why the round's rule does not hold; adds to the settings'."""
    hopeless: str = ""
    """The probe's finding that no load keeps the latency bound on this machine."""
    labels: tuple[str, ...] = ()
    expected_s: float | None = None
    actual_s: float | None = None
    build: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Beside the run's own, in words."""
    run: RunFacts = field(default_factory=RunFacts)
    audit: Audit | None = None
    """The compliance test that the run was made for."""
    claim: Claim | None = None
    """The evidence that allows the run to start from, or end on, the device."""
    devices: int = 1
    """Devices that answered together."""

    def waiver(self, name: str) -> str | None:
        """Return why the round's rule does not apply to a check; None when it does."""
        if self.settings and name in self.settings.waived:
            return self.settings.waived[name]
        if name == "dataset_size" and self.reference is not None:
            return self.waived.get(name, "the embedded workload has its own dataset")
        return self.waived.get(name)


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """A log with everything that decides how to judge it."""

    log: Log
    cell: Cell
    mode: Mode
    round: Round
    context: Context

    @property
    def rule(self) -> Rule:
        return self.cell.rule

    @property
    def scenario(self) -> Scenario:
        return self.cell.scenario

    @property
    def queries(self) -> int:
        """Queries that LoadGen issued; Offline has one."""
        if not self.log.has(Trait.QUERY_COUNT):
            return max(estimate_queries(self), 1)
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
        return self.queries * count_query_samples(self.log)

    def latency_key(self, percentile: float) -> str:
        """Return the key of a measured latency: of queries in MultiStream."""
        is_query = self.scenario is Scenario.MULTI_STREAM
        return (QUERY_LATENCY if is_query else LATENCY).format(format_share(percentile))


def estimate_queries(run: JudgedRun) -> int:
    """Return the most queries that a LoadGen that does not count them has issued.

    Server issues all that were generated. A stream's last query was answered no
    sooner than the quickest, and LoadGen logs the rate with six digits.
    """
    log = run.log
    if run.scenario not in STREAMS:
        return log.integer("generated_query_count")
    rate = log.number("result_qps_with_loadgen_overhead") * (1 + SIX_DIGITS)
    most = int(rate * (compute_final_s(run) + CLOCK_TICK_S)) + 1
    return min(most, log.integer("generated_query_count"))


def read_elapsed_s(log: Log) -> float:
    """Return the seconds between LoadGen's power_begin and power_end (UTC, ms)."""
    begin, end = min(read_times(log, "power_begin")), max(read_times(log, "power_end"))
    return (end - begin).total_seconds()


def compute_final_s(run: JudgedRun) -> float:
    """Return the seconds that LoadGen compares with the minimum duration.

    Offline: the last answer. Server: the last scheduled query. Streams: the last issued
    query, which the log of MultiStream has only as wall time.
    """
    log = run.log
    if run.scenario is Scenario.OFFLINE:
        return log.integer("result_max_latency_ns") / 1e9
    key = "result_scheduled_samples_per_sec"
    if run.scenario is Scenario.MULTI_STREAM:
        return read_elapsed_s(log)
    if run.scenario is Scenario.SINGLE_STREAM:
        key = "result_qps_with_loadgen_overhead"
        if not log.has(Trait.QUERY_COUNT):
            # The last query was answered no sooner than the quickest.
            return read_elapsed_s(log) - log.integer("result_min_latency_ns") / 1e9
    rate = log.number(key)
    final = (run.queries - 1) / rate if rate > 0 else 0.0
    if run.scenario in BOUNDED:
        return min(final, log.integer("generated_query_duration") / 1e9)
    return final


def compute_duration_range(run: JudgedRun) -> tuple[float, float]:
    """Return the least and the most seconds that the run can have taken."""
    log, final = run.log, compute_final_s(run)
    if run.scenario is Scenario.OFFLINE:
        return final, final
    slowest = log.integer("result_max_latency_ns") / 1e9
    if run.scenario is Scenario.MULTI_STREAM:
        mean = log.integer("result_mean_query_latency_ns") / 1e9
        return run.queries * mean, run.queries * (mean + BETWEEN_S)
    if run.scenario in BOUNDED:
        rate = log.number("result_completed_samples_per_sec")
        return (run.queries - 1) / rate if rate > 0 else final, final + slowest
    return final, final + slowest


def read_times(log: Log, key: str) -> list[datetime]:
    """Return the time stamps of the log; ``LogError`` for a malformed one.

    An accuracy run has one for each set of samples.
    """
    stamps = log.series.get(key) or (log.text(key),)
    try:
        return [datetime.strptime(s, STAMP).replace(tzinfo=UTC) for s in stamps]
    except ValueError as error:
        path, line = log.folder / DETAIL, log.lines[key]
        found = f"{key}: {str(error)[:60]}"
        raise LogError(path, line, found, "a time stamp") from None


def format_ms(nanoseconds: float) -> str:
    """Return a latency for people: ``15.00 ms``."""
    return f"{nanoseconds / 1e6:,.2f} ms" if nanoseconds >= 1e4 else f"{nanoseconds} ns"
