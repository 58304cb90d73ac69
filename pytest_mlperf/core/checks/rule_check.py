"""A rule's check: a pure function of a run, with the runs that it applies to."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace
from functools import partial

from pytest_mlperf.core.checks.context import Context
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.outcome import Outcome
from pytest_mlperf.core.checks.outcome import check_unreadable
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status

Judge = Callable[[JudgedRun], Outcome]
NamedJudges = Iterable[tuple[str, Judge]]
PERFORMANCE = (Mode.PERFORMANCE,)
"""Also of compliance runs that are performance runs as well."""
ACCURACY = (Mode.ACCURACY,)
COMPLIANCE = (Mode.COMPLIANCE,)
EVERY_MODE = tuple(Mode)
EVERY_SCENARIO = tuple(Scenario)
NOT_OFFLINE = tuple(set(Scenario) - {Scenario.OFFLINE})


@dataclass(frozen=True, slots=True)
class RuleCheck:
    """One rule, or one rule a metric, and the runs that it applies to."""

    name: str
    judge: Callable[[JudgedRun], Iterator[Check]]
    """Yields what comes out; what the log cannot answer is in error."""
    modes: Collection[Mode] = EVERY_MODE
    scenarios: Collection[Scenario] = EVERY_SCENARIO
    in_audits: bool = True
    """False where ``audit_settings`` answers the question of compliance runs."""
    any_scenario: bool = False
    """Also checked of a run whose scenario is not that of its folder."""
    when: Callable[[Rule], bool] | None = None
    """The rules that ask for it; None for all."""

    def applies(self, run: JudgedRun) -> bool:
        """Return whether a run is held to the rule."""
        modes, audit = {run.mode}, run.context.audit
        if self.when is not None and not self.when(run.rule):
            return False
        if run.mode is Mode.COMPLIANCE:
            if not self.in_audits:
                return False
            modes |= {*PERFORMANCE} if audit and audit.as_performance else set()
        return run.scenario in self.scenarios and not modes.isdisjoint(self.modes)


def check(
    name: str,
    *,
    modes: Collection[Mode] = EVERY_MODE,
    scenarios: Collection[Scenario] = EVERY_SCENARIO,
    in_audits: bool = True,
    any_scenario: bool = False,
    when: Callable[[Rule], bool] | None = None,
) -> Callable[[Judge], RuleCheck]:
    """Make a rule's check of a function; no waiver softens it."""

    def decorate(function: Judge) -> RuleCheck:
        def judge(run: JudgedRun) -> Iterator[Check]:
            yield attempt(name, lambda: function(run).check(name))

        return RuleCheck(name, judge, modes, scenarios, in_audits, any_scenario, when)

    return decorate


def check_limit(
    name: str,
    *,
    required: Callable[[JudgedRun], int],
    planned: Callable[[Context], int | None],
    modes: Collection[Mode] = PERFORMANCE,
    scenarios: Collection[Scenario] = EVERY_SCENARIO,
) -> Callable[[Callable[[JudgedRun, int], Outcome]], RuleCheck]:
    """Make a check of a function that compares a run with the rule's number.

    A waiver softens it and never drops it: the run must still give what the suite
    itself ``planned``.
    """

    def decorate(function: Callable[[JudgedRun, int], Outcome]) -> RuleCheck:
        def soften(run: JudgedRun) -> Check:
            full = function(run, required(run)).check(name)
            number, waived = planned(run.context), waive(run, full)
            if waived is full or number is None:
                return full
            short = function(run, number)
            return waived if short.ok else short.check(name)

        def judge(run: JudgedRun) -> Iterator[Check]:
            yield attempt(name, lambda: soften(run))

        return RuleCheck(name, judge, modes, scenarios)

    return decorate


def check_each(
    name: str, *, modes: Collection[Mode]
) -> Callable[[Callable[[JudgedRun], NamedJudges]], RuleCheck]:
    """Make checks of a function that yields any number of them; a waiver holds."""

    def decorate(function: Callable[[JudgedRun], NamedJudges]) -> RuleCheck:
        def judge(run: JudgedRun) -> Iterator[Check]:
            for own, one in function(run):
                yield attempt(own, partial(judge_one, run, own, one))

        def judge_one(run: JudgedRun, own: str, one: Judge) -> Check:
            return waive(run, one(run).check(own))

        return RuleCheck(name, judge, modes)

    return decorate


def waive(run: JudgedRun, check: Check) -> Check:
    """Return a failed check as waived where the run is not held to the rule."""
    reason = run.context.waiver(check.name)
    if check.status is not Status.FAIL or reason is None:
        return check
    return replace(check, status=Status.WAIVED, remedy=reason)


def attempt(name: str, judge: Callable[[], Check]) -> Check:
    """Return a check's outcome; one that the log cannot answer is in error."""
    try:
        return judge()
    except LogError as error:
        return check_unreadable(name, error)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        # Never a crash, whatever a log holds; the fuzz test finds none but the first.
        found = f"numbers that cannot be reckoned with ({error})"
        required, remedy = "LoadGen's own", "repeat the run; the log is wrong"
        return Check(name, Status.ERROR, found, required, DETAIL, remedy)
