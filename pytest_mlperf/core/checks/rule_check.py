"""A rule's check: a pure function of a run, with the runs that it applies to."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace

from pytest_mlperf.core.checks.context import BOUNDED
from pytest_mlperf.core.checks.context import Context
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.outcome import check_unreadable
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status

Judge = Callable[[JudgedRun], Check]
Condition = Callable[[JudgedRun], bool]
NamedJudges = Iterable[tuple[str, Judge]]
PERFORMANCE = (Mode.PERFORMANCE,)
"""Compliance runs that are performance runs as well have these checks too."""
ACCURACY = (Mode.ACCURACY,)
COMPLIANCE = (Mode.COMPLIANCE,)
EVERY_MODE = tuple(Mode)


def applies_always(run: JudgedRun) -> bool:
    del run
    return True


def is_offline(run: JudgedRun) -> bool:
    return run.scenario is Scenario.OFFLINE


def is_not_offline(run: JudgedRun) -> bool:
    return run.scenario is not Scenario.OFFLINE


def is_bounded(run: JudgedRun) -> bool:
    return run.scenario in BOUNDED


def is_not_audited(run: JudgedRun) -> bool:
    """True where ``audit_settings`` does not answer the same question."""
    return run.mode is not Mode.COMPLIANCE


@dataclass(frozen=True, slots=True)
class RuleCheck:
    """One rule, or one rule a metric, and when it applies."""

    name: str
    judges: Callable[[JudgedRun], NamedJudges]
    """The name in a verdict, and the function: more than one where metrics differ."""
    modes: Collection[Mode] = EVERY_MODE
    when: Condition = applies_always
    any_scenario: bool = False
    """Also checked of a run whose scenario is not that of its folder."""

    def applies(self, run: JudgedRun) -> bool:
        """Return whether a run is held to the rule."""
        modes = {run.mode}
        if run.context.audit and run.context.audit.as_performance:
            modes.add(Mode.PERFORMANCE)
        return not modes.isdisjoint(self.modes) and self.when(run)

    def check(self, run: JudgedRun) -> Iterator[Check]:
        """Yield what comes out; what the log cannot answer is in error."""
        for name, judge in self.judges(run):
            yield attempt(run, name, judge)


def check(
    name: str,
    *,
    modes: Collection[Mode] = EVERY_MODE,
    when: Condition = applies_always,
    any_scenario: bool = False,
) -> Callable[[Judge], RuleCheck]:
    """Make a rule's check of a function; no waiver softens it."""

    def decorate(function: Judge) -> RuleCheck:
        named = ((name, function),)
        return RuleCheck(name, lambda _: named, modes, when, any_scenario)

    return decorate


def check_limit(
    name: str,
    *,
    required: Callable[[JudgedRun], int],
    planned: Callable[[Context], int | None],
    modes: Collection[Mode],
    when: Condition = applies_always,
) -> Callable[[Callable[[JudgedRun, int], Check]], RuleCheck]:
    """Make a check of a function that compares a run with the rule's number.

    A waiver softens it and never drops it: the run must still give what the suite
    itself ``planned``.
    """

    def decorate(function: Callable[[JudgedRun, int], Check]) -> RuleCheck:
        def judge(run: JudgedRun) -> Check:
            full = function(run, required(run))
            number = planned(run.context)
            waived = waive(run, full)
            if waived is full or number is None:
                return full
            short = function(run, number)
            return waived if short.status is Status.PASS else short

        return check(name, modes=modes, when=when)(judge)

    return decorate


def check_each(
    name: str, *, modes: Collection[Mode]
) -> Callable[[Callable[[JudgedRun], NamedJudges]], RuleCheck]:
    """Make a check of a function that yields a named one for each metric."""

    def decorate(judges: Callable[[JudgedRun], NamedJudges]) -> RuleCheck:
        return RuleCheck(name, judges, modes)

    return decorate


def waive(run: JudgedRun, failed: Check) -> Check:
    """Return a failed check as waived where the run is not held to the rule."""
    reason = run.context.waiver(failed.name)
    if failed.status is not Status.FAIL or reason is None:
        return failed
    return replace(failed, status=Status.WAIVED, remedy=reason)


def attempt(run: JudgedRun, name: str, judge: Judge) -> Check:
    """Return a check's outcome; one that the log cannot answer is in error."""
    try:
        return judge(run)
    except LogError as error:
        return check_unreadable(name, error)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        # Never a crash, whatever a log holds; the fuzz test finds none but the first.
        found = f"numbers that cannot be reckoned with ({error})"
        required, remedy = "LoadGen's own", "repeat the run; the log is wrong"
        return Check(name, Status.ERROR, found, required, DETAIL, remedy)
