"""Two sessions' runs of the same cells: what became faster, and by more than noise."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import KW_ONLY
from dataclasses import dataclass
from statistics import median

from pytest_mlperf.core.repeats import SAME_LOAD
from pytest_mlperf.core.repeats import list_runs
from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.types import TIME_UNITS
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Verdict

SIGMAS = 3
"""Standard errors of a mean rate that count as noise."""
REPEATS = 3
"""Runs of one side, from which on their own range is its noise."""
ASSUMED_NOISE = 0.12
"""Of a figure of which nothing else is known: four quiet runs of 5 s of one cell spread
by so much."""


class Change(enum.Enum):
    """What became of a cell."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"
    INCONCLUSIVE = "inconclusive"
    INCOMPARABLE = "not comparable"


@dataclass(frozen=True, slots=True)
class CellComparison:
    """One cell's runs before and now."""

    name: str
    """``bert-99 Server on onnxruntime``."""
    change: Change
    figure: str = ""
    """What is compared: ``samples/s``, ``p99 ms at 71.7 queries/s``."""
    old: float | None = None
    new: float | None = None
    ratio: float | None = None
    """Of speeds: above 1 it became faster, whatever the figure is."""
    noise: float = 0.0
    """Share by which the ratio may differ from 1 without a cause."""
    why: str = ""
    """Why there is no answer; empty where there is one."""
    notes: tuple[str, ...] = ()
    """What differs and may be the cause: another machine, another build."""

    @property
    def has_answer(self) -> bool:
        """False where nobody knows whether the cell became faster or slower."""
        return self.change not in (Change.INCONCLUSIVE, Change.INCOMPARABLE)

    def is_below(self, least: float) -> bool:
        """True where the cell became slower, by more than noise and than allowed."""
        return (
            self.change is Change.SLOWER
            and self.ratio is not None
            and self.ratio < least
        )

    def __str__(self) -> str:
        words = [f"{self.name}: {self.change.value}"]
        if self.ratio is not None:
            words.append(
                f"{self.old:,.6g} -> {self.new:,.6g} {self.figure}, ratio "
                f"{self.ratio:.3f}, noise {self.noise:.3f}"
            )
        words += [self.why] * bool(self.why)
        words += self.notes
        return "; ".join(words)


@dataclass(frozen=True, slots=True)
class _Figure:
    """One figure of a cell's runs before and now."""

    name: str
    olds: Sequence[float]
    news: Sequence[float]
    _: KW_ONLY
    is_rate: bool
    """A higher one is better."""

    @property
    def before(self) -> float:
        return median(self.olds)

    @property
    def now(self) -> float:
        return median(self.news)

    @property
    def ratio(self) -> float:
        """Of speeds."""
        pair = (self.now, self.before) if self.is_rate else (self.before, self.now)
        return pair[0] / pair[1]

    def noise(self, old: Sequence[Verdict], new: Sequence[Verdict]) -> float:
        return math.hypot(
            _find_noise(self.olds, old, is_rate=self.is_rate),
            _find_noise(self.news, new, is_rate=self.is_rate),
        )

    def __str__(self) -> str:
        return (
            f"{self.before:,.6g} -> {self.now:,.6g} {self.name}, ratio {self.ratio:.3f}"
        )


def compare_sessions(
    old: SessionResults, new: SessionResults
) -> tuple[CellComparison, ...]:
    """Return the comparison of each cell of the newer session, in its order.

    Behind them is what the older one measured and the newer one selected, but skipped
    or did not end: a package that is gone is no unchanged speed.
    """
    machine = _describe_machines(old, new)
    before, after = (_group(one.verdicts_to_compare) for one in (old, new))
    found = [
        compare_runs(before.get(key, []), runs, machine) for key, runs in after.items()
    ]
    unmeasured = {
        one.row: one
        for one in new.records
        if one.cell.get("mode") == Mode.PERFORMANCE.value and one.row not in after
    }
    for row, record in unmeasured.items():
        if any(one.valid for one in before.get(row, ())):
            reason = record.reason.partition("\n")[0]
            why = f"no VALID run now: {record.outcome}" + f": {reason}" * bool(reason)
            name = _name_cell(row)
            found.append(CellComparison(name, Change.INCOMPARABLE, why=why))
    return tuple(found)


def list_unselected(old: SessionResults, new: SessionResults) -> list[str]:
    """Return the names of the cells that only the older session had."""
    there = {*_group(new.verdicts), *(one.row for one in new.records)}
    return [_name_cell(row) for row in _group(old.verdicts) if row not in there]


def compare_runs(
    old: Sequence[Verdict], new: Sequence[Verdict], notes: Sequence[str] = ()
) -> CellComparison:
    """Return how one cell's performance runs differ; ``new`` has at least one.

    Medians of the VALID runs are compared. Runs of another workload, round or waiver
    are not comparable, and what ran beside other programs has no answer.
    """
    last = new[-1]
    name = _name_cell((last.benchmark, last.scenario, last.engine))
    valid_old = [one for one in list_runs(old) if one.valid and one.metric]
    valid_new = [one for one in list_runs(new) if one.valid and one.metric]
    if not valid_old or not valid_new:
        where, runs = ("now", new) if valid_old else ("before", old)
        why = f"no VALID run {where}: {'none is VALID' if runs else 'none ran'}"
        return CellComparison(name, Change.INCOMPARABLE, why=why)
    if differs := _find_difference(valid_old[-1], valid_new[-1]):
        return CellComparison(name, Change.INCOMPARABLE, why=differs)
    figures = _list_figures(valid_old, valid_new)
    worst, *others = sorted(figures, key=lambda one: one.ratio)
    noise = worst.noise(valid_old, valid_new)
    beside = (one.run.disturbance for one in (*valid_old, *valid_new))
    why = next((f"a run had {text}" for text in beside if text), "")
    change = Change.INCONCLUSIVE if why else _judge(worst.ratio, noise)
    differing = (*notes, *_list_notes(valid_old[-1], valid_new[-1]))
    return CellComparison(
        name, change, worst.name, worst.before, worst.now, worst.ratio, noise, why,
        (*map(str, others), *differing),
    )  # fmt: skip


def _name_cell(row: tuple[str, str, str]) -> str:
    benchmark, scenario, engine = row
    return f"{benchmark} {scenario} on {engine}"


def _group(verdicts: Iterable[Verdict]) -> dict[tuple[str, str, str], list[Verdict]]:
    """Return the performance runs by cell, in order of appearance."""
    found: dict[tuple[str, str, str], list[Verdict]] = {}
    for one in verdicts:
        if one.mode == Mode.PERFORMANCE.value:
            key = one.benchmark, one.scenario, one.engine
            found.setdefault(key, []).append(one)
    return found


def _list_figures(old: Sequence[Verdict], new: Sequence[Verdict]) -> list[_Figure]:
    """Return what is compared, one figure at least.

    A Server run completes the load that it is given: at one load, latencies differ.
    Those of tokens are two, and each may become worse alone.
    """
    both = (old, new)
    olds, news = (_list_values(one.metric for one in side) for side in both)
    unit, limit = _metric(new[-1]).unit, new[-1].limit
    has_load = unit not in TIME_UNITS and limit is not None and limit.unit in TIME_UNITS
    if has_load and _is_one_load(old, new):
        at = f"p{(new[-1].percentile or 0) * 100:g} ms at {median(news):,.6g} {unit}"
        first = "TTFT " if new[-1].tpot else ""
        first_tokens = _Figure(
            f"{first}{at}",
            *(_list_values(one.at_percentile for one in side) for side in both),
            is_rate=False,
        )
        further_tokens = _Figure(
            f"TPOT {at}",
            *(_list_values(one.tpot for one in side) for side in both),
            is_rate=False,
        )
        found = [x for x in (first_tokens, further_tokens) if x.olds and x.news]
        if found:
            return found
    return [_Figure(unit, olds, news, is_rate=unit not in TIME_UNITS)]


def _list_values(metrics: Iterable[Metric | None]) -> list[float]:
    """Return their values; of a server that sends an answer at once, no time for a
    further token is 0.
    """
    return [one.value for one in metrics if one and one.value]


def _is_one_load(old: Sequence[Verdict], new: Sequence[Verdict]) -> bool:
    """Return whether all runs were given one load.

    A short run completes less of it where its last answers come late. What an older
    version measured says only what was completed.
    """
    loads = [one.run.target_qps for one in (*old, *new)]
    known = [load for load in loads if load is not None]
    if len(known) < len(loads):
        known = [median(_metric(one).value for one in side) for side in (old, new)]
    return max(known) - min(known) <= SAME_LOAD * max(known)


def _metric(verdict: Verdict) -> Metric:
    assert verdict.metric is not None, "VALID runs have a metric"
    return verdict.metric


def _find_noise(
    values: Sequence[float], runs: Sequence[Verdict], *, is_rate: bool
) -> float:
    """Return one side's noise: of its repeats, else of its rates, else assumed."""
    middle = median(values)
    if len(values) >= REPEATS and middle:
        return (max(values) - min(values)) / 2 / middle
    known = [one.run.rate_error for one in runs if one.run.rate_error]
    if is_rate and known:
        return SIGMAS * max(known)
    return ASSUMED_NOISE / math.sqrt(2)


def _judge(ratio: float, noise: float) -> Change:
    if abs(ratio - 1) <= noise:
        return Change.SAME
    return Change.FASTER if ratio > 1 else Change.SLOWER


def _find_difference(old: Verdict, new: Verdict) -> str:
    """Return why two runs measure different things; empty where they do not."""
    pairs = {
        "round": (old.round, new.round),
        "labels": (" ".join(old.labels), " ".join(new.labels)),
        "waived rules": tuple(
            " ".join(sorted(check.name for check in one.waived)) for one in (old, new)
        ),
    }
    for what, (before, now) in pairs.items():
        if before != now:
            return f"{what} differ: {before or 'none'} before, {now or 'none'} now"
    return ""


def _list_notes(old: Verdict, new: Verdict) -> list[str]:
    pairs = {
        "device": (old.run.device, new.run.device),
        "precision": (old.run.precision, new.run.precision),
    }
    notes = [f"{k}: {a} before, {b} now" for k, (a, b) in pairs.items() if a != b]
    for one, when in ((old, "before"), (new, "now")):
        notes += [f"{text} ({when})" for text in [one.run.second_run] if text]
    is_service = old.run.requests and new.run.requests
    other = (
        "URL, model or option of the server" if is_service else "build of the engine"
    )
    return notes + [f"another {other}"] * (old.build != new.build)


def _describe_machines(old: SessionResults, new: SessionResults) -> list[str]:
    names = [
        (one.header.get("host"), (one.header.get("system") or {}).get("name"))
        for one in (old, new)
    ]
    if names[0] == names[1]:
        return []
    before, now = (" ".join(str(x) for x in one if x) or "?" for one in names)
    return [f"another machine: {before} before, {now} now"]
