"""The peak of a cell: searched by short runs, confirmed by a whole one, kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from pathlib import Path

from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.load_trials import LoadTrial
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.verdict import RETARGETED
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.folders import make_task_folder
from pytest_mlperf.measure.peak_cache import KnownPeak
from pytest_mlperf.measure.peak_cache import cache_file
from pytest_mlperf.measure.peak_cache import read_peak
from pytest_mlperf.measure.peak_cache import write_peak
from pytest_mlperf.measure.peak_trials import PeakTrials
from pytest_mlperf.measure.peak_trials import plan_run_length
from pytest_mlperf.measure.peak_trials import read_trial
from pytest_mlperf.measure.rig import Rig
from pytest_mlperf.measure.under_test import UnderTest
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.tuned_load import TunedLoad
from pytest_mlperf.tuning.peak_search import CONFIRMED
from pytest_mlperf.tuning.peak_search import HOPELESS
from pytest_mlperf.tuning.peak_search import UNFIT
from pytest_mlperf.tuning.peak_search import Peak
from pytest_mlperf.tuning.peak_search import PeakSearch


@dataclass(slots=True)
class PeakFinder:
    """Finds the peak of one task."""

    rig: Rig
    task: Task
    tell: Callable[[str], None] = lambda _: None
    allows_noise: bool = False

    def __post_init__(self) -> None:
        # The load is what is looked for.
        tuning = replace(self.task.tuning, target_qps=None)
        self.task = replace(self.task, tuning=tuning, tuned=None)

    def find_cached(self) -> KnownPeak | None:
        """Return the confirmed peak of an earlier search of this task and build."""
        found = read_peak(self._file())
        return found if found and found.peak.outcome == CONFIRMED else None

    def find(self, run: Callable[[Task], Verdict]) -> KnownPeak:
        """Search, confirm by whole runs, and keep the peak.

        Raises as ``Runner.obey`` does, and ``RunRefused``.
        """
        known, search = self.search()
        if known.peak.qps is None:
            return known
        peak = search.confirm(known.peak, partial(self._run_whole, known, run))
        known = KnownPeak(peak, tuned_at(known.tuned, peak))
        self.keep(known)
        return known

    def keep(self, known: KnownPeak) -> None:
        """Write a confirmed peak into the cache."""
        if known.peak.outcome == CONFIRMED:
            write_peak(self._file(), known.peak, known.tuned)

    def keep_confirmed(self, known: KnownPeak, verdict: Verdict) -> None:
        """Keep a peak at which an item's run was VALID; a remedy's run was at another
        load.
        """
        if verdict.valid and RETARGETED not in verdict.facts:
            self.keep(replace(known, peak=replace(known.peak, outcome=CONFIRMED)))

    def search(self) -> tuple[KnownPeak, PeakSearch]:
        """Search the peak by short runs; nothing is confirmed yet."""
        tuned, rule = self._under_test.tune(), self.task.rule
        task = replace(self.task, tuned=tuned)
        bound_ns = rule.target_latency_ns or rule.ttft_ns
        assert bound_ns, "has_peak(rule)"
        search = PeakSearch(
            PeakTrials(self.rig, task).run,
            rule.percentile or 0.99,
            bound_ns / 1e9,
            plan_run_length(task),
            self.tell,
            self.allows_noise,
        )
        rate = (tuned.loop_rate or 0.0) * self.task.devices
        if rate <= 0:
            text = f"{self.task.cell.engine} has no rate of its own to begin at"
            return KnownPeak(Peak(HOPELESS, reason=text), tuned), search
        self.tell(f"probe: {tuned.note}")
        peak = search.find(rate)
        return KnownPeak(peak, tuned_at(tuned, peak)), search

    def _run_whole(
        self, known: KnownPeak, run: Callable[[Task], Verdict], qps: float
    ) -> tuple[bool, LoadTrial]:
        tuned = replace(known.tuned, target_qps=qps)
        task = replace(make_task_folder(self.task), tuned=tuned)
        verdict = run(task)
        shown = read_trial(Log.read(task.folder), task, qps, verdict.run)
        return verdict.valid, shown

    @property
    def _under_test(self) -> UnderTest:
        return UnderTest(self.rig, self.task)

    def _file(self) -> Path:
        digest = self._under_test.build().digest
        return cache_file(self.task, self.rig.session.system, digest)


def tuned_at(tuned: TunedLoad, peak: Peak) -> TunedLoad:
    """Return a tuning at a peak's load, with the trials that led to it."""
    if peak.qps is None:
        return tuned
    note = f"{peak.describe()}, by {len(peak.trials)} trials"
    return replace(tuned.at_load(peak.qps), note=note, trials=peak.trials)


def tune_to_peak(rig: Rig, task: Task) -> tuple[Task, Callable[[Verdict], None]]:
    """Return an item's task at its cell's peak, and what keeps the peak once the
    item's own run has confirmed it.

    Raises ``RunRefused`` where the machine is unfit for a search.
    """
    finder = PeakFinder(rig, task)
    if known := finder.find_cached():
        return replace(task, tuned=known.tuned), lambda _: None
    known, _ = finder.search()
    if known.peak.outcome == UNFIT:
        raise RunRefused(f"--mlperf-find-peak: {known.peak.reason}")
    if known.peak.qps is None:
        tuned = replace(known.tuned, hopeless=known.peak.reason)
        return replace(task, tuned=tuned), lambda _: None
    return replace(task, tuned=known.tuned), partial(finder.keep_confirmed, known)
