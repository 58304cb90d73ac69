"""The run of a power session's phase that counts, after another where one went wrong.

Only the phase is repeated, while the meter runs on. With --mlperf-retarget an INVALID
run's remedy is applied where it costs least: another load is ranged again before it is
tested, because the meter's ranges, and the watts that the tested run may not fall
below, are a load's; a run that only has to be longer is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace

from pytest_mlperf.core.verdict import RETARGETED
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.folders import make_folder
from pytest_mlperf.measure.retarget import describe_first_run
from pytest_mlperf.measure.retarget import find_remedy
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import RunFailed

ATTEMPTS = 2
"""Runs of a phase at most."""


@dataclass(slots=True)
class PhaseRuns:
    """The runs of one session."""

    judge: Callable[[Task], Verdict]
    """Runs a task. Raises what ``Runner.run`` does."""
    retargets: bool
    """Whether a remedy is applied, once in a session."""
    retargeted: str = ""
    """What the remedy changed, and how the run before it ended."""

    def range(self, task: Task) -> tuple[Task, Verdict]:
        """Run the ranging phase: return the task that was run last, and its verdict."""
        return self._run(task, self._remedy)

    def follow(self, ranging: Task, verdict: Verdict) -> Task | None:
        """Return the ranging task with its remedy; None where that is no value, or was
        applied.
        """
        return self._remedy(ranging, verdict, keeps_load=True)

    def test(self, task: Task) -> Verdict:
        """Run the testing phase, again where it is not VALID."""

        def repeat(ran: Task, verdict: Verdict) -> Task | None:
            if verdict.valid:
                return None
            return self._remedy(ran, verdict, keeps_load=True) or ran

        _, verdict = self._run(task, repeat)
        if self.retargeted:
            facts = {**verdict.facts, RETARGETED: self.retargeted}
            verdict = replace(verdict, facts=facts)
        return verdict

    def _remedy(
        self, task: Task, verdict: Verdict, *, keeps_load: bool = False
    ) -> Task | None:
        if not self.retargets or self.retargeted:
            return None
        remedy = find_remedy(task, verdict)
        if remedy is None or remedy.keeps_load != keeps_load:
            return None
        self.retargeted = describe_first_run(remedy.note, verdict)
        return replace(task, tuned=remedy.tuned)

    def _run(
        self, task: Task, repeat: Callable[[Task, Verdict], Task | None]
    ) -> tuple[Task, Verdict]:
        """Run LoadGen, and once more where it failed, or ``repeat`` has a task."""
        wanted, history = task.folder, list[str]()
        for number in range(1, ATTEMPTS + 1):
            is_last = number == ATTEMPTS
            try:
                verdict = self.judge(task)
            except RunFailed as failed:
                if is_last:
                    raise
                history.append(str(failed).partition("\n")[0])
            else:
                again = None if is_last else repeat(task, verdict)
                if again is None:
                    break
                history.append(verdict.cause)
                task = again
            task = replace(task, folder=make_folder(wanted))
        if history:
            told = f"attempt {number} of {ATTEMPTS}: {'; '.join(history)}"
            facts = {**verdict.facts, "power phase": told}
            verdict = replace(verdict, facts=facts)
        return task, verdict
