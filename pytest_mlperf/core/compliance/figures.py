"""TEST01, TEST04, TEST05: is the audited run as fast as it should be?

Each rule is the arithmetic of an official script of mlcommons/inference: b66003e1
compliance/TEST01/verify_performance.py (detail log) and TEST04/verify_performance.py
(summary); tag v2.0 compliance/nvidia/TEST01, TEST04-A and TEST05.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import Log

SHARE = 0.10
QUICK_SHARE = 0.20
"""Where a stream's latency is so short that the operating system is heard."""
QUICK = {"SingleStream": 200_000, "MultiStream": 1_600_000}
"""Nanoseconds; equality is quick."""
V2_SEED_SHARE = 0.05
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
LABELS = {
    "Server": "Completed samples per second",
    "Offline": "Samples per second",
}
"""Lines of the summary that TEST04 prints."""


@dataclass(frozen=True, slots=True)
class Tolerance:
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


def compare(test: str, reference: Log, tested: Log, *, v2: bool = False) -> Tolerance:
    """Return a test's comparison of an audited run with its reference.

    ``v2``: as in round v2.0. Raises ``LogError`` for a log without the figure.
    """
    rules: Mapping[str, Callable[[Log, Log], Tolerance]] = {
        "TEST01": v2_0 if v2 else as_fast,
        "TEST04": no_faster,
        "TEST04-B": v2_no_faster,
        "TEST05": v2_0_seeds if v2 else as_fast,
    }
    return rules[test](reference, tested)


def share_for(scenario: str, figure: float) -> float:
    """Return the relative tolerance of a scenario's figure."""
    return QUICK_SHARE if figure <= QUICK.get(scenario, -1) else SHARE


def as_fast(reference: Log, tested: Log) -> Tolerance:
    """TEST01: within 10 %, or 20 % for quick streams; the bounds pass."""
    return _two_sided(reference, tested, KEYS)


def v2_0(reference: Log, tested: Log) -> Tolerance:
    """TEST01 of v2.0: other figures, and the bounds fail."""
    return _two_sided(reference, tested, V2_KEYS, strict=True)


def v2_0_seeds(reference: Log, tested: Log) -> Tolerance:
    """TEST05 of v2.0: within 5 %, or 20 % for quick SingleStream."""
    return _two_sided(reference, tested, V2_KEYS, strict=True, narrow=True)


def _two_sided(
    reference: Log,
    tested: Log,
    keys: Mapping[str, str],
    *,
    strict: bool = False,
    narrow: bool = False,
) -> Tolerance:
    scenario = reference.text("effective_scenario")
    before = reference.number(keys.get(scenario, ""))
    share = share_for(scenario, before)
    if narrow and (share == SHARE or scenario != "SingleStream"):
        share = V2_SEED_SHARE
    invalid = unlike(reference, tested)
    after = before if invalid else tested.number(keys[scenario])
    low, high = before * (1 - share), before * (1 + share)
    shown = (f"{before}", f"{after}")
    return Tolerance(before, after, low, high, strict, invalid, lines=shown)


def unlike(reference: Log, tested: Log) -> str:
    """Return why two runs cannot be compared; empty when they can."""
    for log, which in ((reference, "the reference"), (tested, "the audited run")):
        if log.text("result_validity") != "VALID":
            return f"{which} is {log.text('result_validity')}"
    return other_scenario(reference, tested) or other_bound(reference, tested)


def other_scenario(reference: Log, tested: Log) -> str:
    """Return that two runs are of different scenarios; empty when they are not."""
    before, after = (log.text("effective_scenario") for log in (reference, tested))
    return "" if before == after else f"{after} against {before}"


def other_bound(reference: Log, tested: Log) -> str:
    """Return that two Server runs have different bounds; empty when they do not."""
    key = "effective_target_latency_ns"
    if reference.text("effective_scenario") != "Server":
        return ""
    before, after = reference.integer(key), tested.integer(key)
    return "" if before == after else f"a bound of {after} ns against {before} ns"


def no_faster(reference: Log, tested: Log) -> Tolerance:
    """TEST04: less than 10 % faster, in samples or queries a second.

    Streams get 20 % up to 200,000 (SingleStream) and 1,600,000 (MultiStream), which
    the script holds against queries a second: in practice always.
    """
    scenario = reference.text("effective_scenario")
    before, shown = rate(reference, scenario)
    share = share_for(scenario, before)
    invalid = unlike(reference, tested)
    after, after_shown = (before, shown) if invalid else rate(tested, scenario)
    high = before * (1 + share)
    lines = (shown, after_shown)
    return Tolerance(before, after, None, high, True, invalid, lines=lines)


def rate(log: Log, scenario: str) -> tuple[float, str]:
    """Return samples or queries a second, and how the official script prints it.

    It reads the summary, whose figures are the detail log's.
    """
    key = KEYS.get(scenario, "")
    value = log.number(key)
    if scenario in QUICK:
        if value <= 0:
            path = log.folder / DETAIL
            raise LogError(path, log.lines[key], f"{key} = {value:g}", "above 0")
        return 1e9 / value, f"{1e9 / value}"
    return value, log.summary.get(LABELS[scenario], f"{value}")


def v2_no_faster(unique: Log, same: Log) -> Tolerance:
    """TEST04-B of v2.0: at most 10 % (quick SingleStream: 20 %) faster than TEST04-A.

    Slower passes with a note; that MultiStream's latency is read as a rate there is
    the script's own.
    """
    scenario = unique.text("effective_scenario")
    before = unique.number(V2_KEYS.get(scenario, ""))
    share = SHARE
    if scenario == "SingleStream":
        share = share_for(scenario, before)
    invalid = other_scenario(unique, same)
    for log, key in ((unique, "unique"), (same, "same")):
        if not log.flag(f"effective_performance_issue_{key}"):
            invalid = f"a run without performance_issue_{key}"
    after = before if invalid else same.number(V2_KEYS[scenario])
    low, high = before * (1 - share), before * (1 + share)
    slower = after >= high if scenario == "SingleStream" else after <= low
    note = "TEST04-B is significantly slower than TEST04-A" if slower else ""
    shown = (f"{before}", f"{after}")
    if scenario == "SingleStream":
        return Tolerance(before, after, low, None, True, invalid, note, shown)
    return Tolerance(before, after, None, high, True, invalid, note, shown)
