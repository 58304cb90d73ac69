"""Is an audited run as fast as it should be? What TEST01, TEST04 and TEST05 share.

Each rule is the arithmetic of an official script of mlcommons/inference: b66003e1
compliance/TEST01/verify_performance.py (detail log) and TEST04/verify_performance.py
(summary); tag v2.0 compliance/nvidia/TEST01, TEST04-A and TEST05.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from typing import runtime_checkable

from pytest_mlperf.core.checks.outcome import make_check
from pytest_mlperf.core.compliance import report
from pytest_mlperf.core.compliance.audit import AuditedRun
from pytest_mlperf.core.compliance.audit import AuditFinding
from pytest_mlperf.core.compliance.audit import AuditTest
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.rounds.rule import Rule

TOLERANCE = "compliance_performance"
"""The only check that a repetition may pass: a disturbed machine explains it."""
SHARE = 0.10
QUICK_SHARE = 0.20
"""For streams whose latency is so short that the operating system disturbs it."""
QUICK = {"SingleStream": 200_000, "MultiStream": 1_600_000}
"""Nanoseconds; equality is quick."""
KEYS = {
    "Offline": "result_samples_per_second",
    "SingleStream": "early_stopping_latency_ss",
    "MultiStream": "early_stopping_latency_ms",
    "Server": "result_completed_samples_per_sec",
}
"""What TEST01 compares (RESULT_FIELD)."""
V2_KEYS = {
    "Offline": "result_samples_per_second",
    "SingleStream": "result_90.00_percentile_latency_ns",
    "MultiStream": "result_99.00_percentile_per_query_latency_ns",
    "Server": "result_scheduled_samples_per_sec",
}


@dataclass(frozen=True, slots=True)
class SpeedComparison:
    """One comparison of two runs' figures."""

    reference: float
    tested: float
    low: float | None
    """None where slower is fine."""
    high: float | None
    strict: bool
    """Whether the bounds themselves fail."""
    invalid: str = ""
    """Why there is nothing to compare: a run that is not VALID, two scenarios."""
    note: str = ""
    lines: tuple[str, str] = ("", "")
    """The two figures as the official file prints them."""

    @property
    def passed(self) -> bool:
        """The official verdict."""
        if self.invalid:
            return False
        low = self.low if self.low is not None else float("-inf")
        high = self.high if self.high is not None else float("inf")
        if self.strict:
            return low < self.tested < high
        return low <= self.tested <= high

    @property
    def required(self) -> str:
        """The bounds for people."""
        if self.low is None:
            return f"less than {self.high:,.6g}"
        if self.high is None:
            return f"more than {self.low:,.6g}"
        return f"{self.low:,.6g} to {self.high:,.6g}"


@runtime_checkable
class SpeedTest(AuditTest, Protocol):
    """A test that compares the figures of two performance runs."""

    speed_reference: str = "performance"
    """The run that it is compared with, of those that it needs."""
    labels: tuple[str, str] = ("reference score", "test score")
    """What the official file calls the two figures."""
    remedy: str = "let nothing else work on this machine, and repeat the run"

    def compare(self, reference: Log, tested: Log, rule: Rule) -> SpeedComparison:
        """Return how the figures compare; ``LogError`` for a log without one."""
        ...

    def verify(self, run: AuditedRun) -> tuple[AuditFinding, ...]:
        return (self.compare_speed(run),)

    def compare_speed(self, run: AuditedRun) -> AuditFinding:
        """Return what the test says of the run's speed."""
        return report.attempt(
            self._compare_speed, run, TOLERANCE, report.VERIFY_PERFORMANCE
        )

    def _compare_speed(self, run: AuditedRun) -> AuditFinding:
        reference = Log.read(run.references[self.speed_reference])
        speed = self.compare(reference, Log.read(run.folder), run.rule)
        text = speed.invalid or f"{speed.tested:,.6g} against {speed.reference:,.6g}"
        remedy = "see the checks that failed with it" if speed.invalid else self.remedy
        made = make_check(TOLERANCE, speed.passed, text, speed.required, DETAIL, remedy)
        file = report.VERIFY_PERFORMANCE
        return AuditFinding((made,), file, format_speed(speed, self.labels))


def format_speed(speed: SpeedComparison, labels: tuple[str, str]) -> str:
    """Return verify_performance.txt."""
    if speed.invalid:
        return f"TEST FAIL: {speed.invalid}\n"
    lines = [f"{n} = {f}" for n, f in zip(labels, speed.lines, strict=True)]
    lines.append("TEST PASS" if speed.passed else "TEST FAIL: Test score invalid")
    lines += [f"Note: {speed.note}"] * bool(speed.note)
    return "\n".join([*lines, ""])


def choose_share(scenario: str, figure: float) -> float:
    """Return the relative tolerance of a scenario's figure."""
    return QUICK_SHARE if figure <= QUICK.get(scenario, -1) else SHARE


def compare_both_ways(
    reference: Log,
    tested: Log,
    keys: Mapping[str, str],
    *,
    share: float | None = None,
    strict: bool = False,
) -> SpeedComparison:
    """Return a comparison within ``share``: by default 10 %, or 20 % if quick.

    ``strict``: a figure on the bound fails.
    """
    scenario = reference.text("effective_scenario")
    before = reference.number(keys.get(scenario, ""))
    share = choose_share(scenario, before) if share is None else share
    invalid = explain_incomparable(reference, tested)
    after = before if invalid else tested.number(keys[scenario])
    low, high = before * (1 - share), before * (1 + share)
    shown = (f"{before}", f"{after}")
    return SpeedComparison(before, after, low, high, strict, invalid, lines=shown)


def explain_incomparable(reference: Log, tested: Log) -> str:
    """Return why two runs cannot be compared; empty when they can."""
    for log, which in ((reference, "the reference"), (tested, "the audited run")):
        if log.text("result_validity") != "VALID":
            return f"{which} is {log.text('result_validity')}"
    return explain_other_scenario(reference, tested) or explain_other_bound(
        reference, tested
    )


def explain_other_scenario(reference: Log, tested: Log) -> str:
    """Return that two runs are of different scenarios; empty when they are not."""
    before, after = (log.text("effective_scenario") for log in (reference, tested))
    return "" if before == after else f"{after} against {before}"


def explain_other_bound(reference: Log, tested: Log) -> str:
    """Return that two Server runs have different bounds; empty when they do not."""
    key = "effective_target_latency_ns"
    if reference.text("effective_scenario") != "Server":
        return ""
    before, after = reference.integer(key), tested.integer(key)
    return "" if before == after else f"a bound of {after} ns against {before} ns"
