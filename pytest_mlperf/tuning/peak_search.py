"""The largest load that a Server or Interactive cell keeps its bound at.

Load is doubled or halved around the bare loop's rate until one is kept and one is
missed, and then bisected. One short run decides nothing: late queries come in bursts,
so the runs at a load are pooled until early stopping's own statistic is sure of them.
A run of the whole length confirms what was found. Every loop here has an end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

from pytest_mlperf.core.early_stopping import beta
from pytest_mlperf.core.early_stopping import count_most_over
from pytest_mlperf.core.early_stopping import count_queries_needed
from pytest_mlperf.core.load_trials import CONFIRMATION
from pytest_mlperf.core.load_trials import LoadTrial
from pytest_mlperf.machine.cpu_usage import QUIET
from pytest_mlperf.tuning.queue_model import RunLength

DOUBT = 0.05
"""Chance of a wrong decision on a load at which a trial's runs are pooled no more."""
MOST_RUNS = 8
"""At one load; if they leave it open, the share of late queries decides."""
MOST_TRIALS = 80
"""In a search."""
TOLERANCE = 0.015
"""The bisection ends when the lowest missed load is so little above the best one."""
FIRST_SHARE = 0.7
"""Of the bare loop's rate: where the search begins."""
STEP_UP, STEP_DOWN = 1.3, 2.0
"""Between loads until one is kept and one is missed: far too high is seen at once."""
LIGHTEST = 1 / 64
"""Share of the bare loop's rate below which no load is tried."""
CONFIRMATION_STEPS = (0.015, 0.03, 0.06)
"""How much lower the next run of the whole length is, after each that was INVALID: a
GPU that short runs leave cool reaches its power cap in a whole one, some 10 % lower."""
TRIAL_SHARE, SHORTEST_S, LONGEST_S = 1 / 12, 2.0, 30.0
"""A trial lasts that share of a whole run, within these seconds."""
BOUNDS = 20
"""A trial also lasts so many times the bound: a queue has to build up."""
DISTURBED = 6
"""Trials that others disturbed, before the machine is called unfit."""
PRIOR = 2
"""Runs that the first guess of how late queries cluster counts as."""
BUSY = 0.05
"""Share of late queries above which a load says nothing of that: it has no end."""

CONFIRMED, UNCONFIRMED, UNFIT, HOPELESS = "confirmed", "found", "unfit", "hopeless"
"""Outcomes of a search."""

Trial = Callable[[float, float], LoadTrial]
"""(queries a second, seconds) -> what a real run of that length shows."""
WholeRun = Callable[[float], tuple[bool, LoadTrial]]
"""Queries a second -> whether a whole run was VALID, and what it showed."""


@dataclass(frozen=True, slots=True)
class Peak:
    """What a search found."""

    outcome: str
    qps: float | None = None
    """The largest load that was kept."""
    missed_qps: float | None = None
    """The smallest that was missed above it."""
    confidence: float = 0.0
    """Chance that the peak is between the two, as the trials there tell."""
    reason: str = ""
    """Why there is no better answer, in words."""
    trials: tuple[LoadTrial, ...] = ()

    @property
    def seconds(self) -> float:
        """That LoadGen ran for."""
        return sum(one.seconds for one in self.trials)

    def describe(self) -> str:
        """Return the answer in a line."""
        if self.qps is None:
            return self.reason
        text = f"peak {format_rate(self.qps)} queries/s"
        if self.missed_qps is not None:
            text += f"; {format_rate(self.missed_qps)} is too much"
        text += f" ({self.confidence:.0%} sure of both)"
        if self.outcome == CONFIRMED:
            return f"{text}; a run of the whole length was VALID"
        return f"{text}; {self.reason or 'not confirmed by a run of the whole length'}"


class SearchEnded(Exception):
    """The search cannot go on; the text says why."""


@dataclass(slots=True)
class PeakSearch:
    """A search by trials."""

    trial: Trial
    percentile: float
    bound_s: float
    length: RunLength
    """Of a whole run."""
    tell: Callable[[str], None] = lambda _: None
    """Hears what each trial showed."""
    allows_noise: bool = False
    """True: what others disturb counts too."""
    trials: list[LoadTrial] = field(default_factory=list)

    def find(self, rate: float) -> Peak:
        """Return the peak of what answers ``rate`` queries a second in a closed loop.

        Not confirmed yet.
        """
        best: float | None = None
        missed: float | None = None
        reason = ""
        try:
            qps = FIRST_SHARE * rate
            while best is None or missed is None:
                if qps < LIGHTEST * rate:
                    tried = format_rate(qps * STEP_DOWN)
                    text = (
                        f"no load keeps the bound: {tried} queries/s is too much, of "
                    )
                    text += f"{format_rate(rate)}/s in the closed loop"
                    return self._end(HOPELESS, None, missed, text)
                if self._is_good(qps):
                    best, qps = qps, qps * STEP_UP
                else:
                    missed, qps = qps, qps / STEP_DOWN
            while missed > best * (1 + TOLERANCE):
                qps = (best + missed) / 2
                best, missed = (qps, missed) if self._is_good(qps) else (best, qps)
        except SearchEnded as ended:
            reason = str(ended)
            return self._end(UNFIT, best, missed, reason)
        return self._end(UNCONFIRMED, best, missed, reason)

    def confirm(self, peak: Peak, run: WholeRun) -> Peak:
        """Return the peak once a run of the whole length was VALID there, or a little
        below.
        """
        if peak.outcome != UNCONFIRMED or peak.qps is None:
            return peak
        qps, missed = peak.qps, peak.missed_qps
        for step in (*CONFIRMATION_STEPS, 0.0):
            is_valid, shown = run(qps)
            self.trials.append(replace(shown, kind=CONFIRMATION))
            self.tell(self._describe(shown, "VALID" if is_valid else "INVALID"))
            if is_valid:
                return replace(
                    peak, outcome=CONFIRMED, qps=qps, missed_qps=missed,
                    trials=tuple(self.trials),
                )  # fmt: skip
            if shown.is_disturbed and not self.allows_noise:
                text = describe_neighbour(shown)
                return replace(
                    peak, outcome=UNFIT, reason=text, trials=tuple(self.trials)
                )
            qps, missed = qps / (1 + step), qps
        text = (
            f"{len(CONFIRMATION_STEPS) + 1} runs of the whole length were INVALID down "
            f"to {format_rate(qps)} queries/s, which short runs kept: the "
            "machine becomes slower in a long run (heat, clocks, a CPU quota, somebody "
            "else on the same hardware); see pytest-mlperf machine"
        )
        return replace(peak, outcome=UNFIT, reason=text, trials=tuple(self.trials))

    def _end(
        self, outcome: str, best: float | None, missed: float | None, reason: str
    ) -> Peak:
        sure = 1.0
        if best is not None:
            sure = 1 - self._chances(best)[0]
        if missed is not None:
            sure = min(sure, 1 - self._chances(missed)[1])
        return Peak(outcome, best, missed, sure, reason, tuple(self.trials))

    def _is_good(self, qps: float) -> bool:
        """Return whether a load is kept: by as many runs as it takes to be sure."""
        for _ in range(MOST_RUNS):
            self._run(qps)
            is_missed, is_good = self._chances(qps)
            if is_missed < DOUBT:
                return True
            if is_good < DOUBT:
                return False
        return is_missed < is_good

    def _run(self, qps: float) -> None:
        """Make one trial that counts; ``SearchEnded`` where the machine is unfit."""
        seconds = self.plan_seconds(qps)
        while len(self.trials) < MOST_TRIALS:
            shown = self.trial(qps, seconds)
            if self.allows_noise:
                shown = replace(shown, is_disturbed=False)
            self.trials.append(shown)
            self.tell(self._describe(shown))
            if not shown.is_disturbed:
                return
            if sum(one.is_disturbed for one in self.trials) >= DISTURBED:
                raise SearchEnded(describe_neighbour(shown))
        raise SearchEnded(f"no answer after {MOST_TRIALS} trials")

    def plan_seconds(self, qps: float) -> float:
        """Return how long a trial at a load lasts."""
        seconds = min(max(TRIAL_SHARE * self.length.seconds, SHORTEST_S), LONGEST_S)
        # All runs at a load together have more than one that proves it needs.
        some = 2 * count_queries_needed(0, self.percentile) / MOST_RUNS / qps
        return max(seconds, some, BOUNDS * self.bound_s)

    def _chances(self, qps: float) -> tuple[float, float]:
        """Return the chances that runs like these come from a load that is too high,
        and from one that is not.

        The first is what early stopping computes of one run: P[so few late ones]. Both
        are against the share of late queries that a whole run may have. What clusters
        counts as that much less.
        """
        own = [one for one in self._counted if one.qps == qps]
        queries = sum(one.queries or 0 for one in own)
        late = sum(one.late or 0 for one in own)
        if not queries:
            return 1.0, 1.0
        allowed = self.find_allowed_share(qps)
        cluster = self._find_cluster_size(allowed * queries / len(own))
        n, t = queries / cluster, late / cluster
        too_high = beta(1 - allowed, n - t, t + 1) if late < queries else 1.0
        return too_high, 1 - beta(1 - allowed, n - t + 1, t) if late else 1.0

    @property
    def _counted(self) -> list[LoadTrial]:
        return [one for one in self.trials if not one.is_disturbed]

    def find_allowed_share(self, qps: float) -> float:
        """Return which share of a whole run's queries may be late."""
        least = max(self.length.queries, count_queries_needed(0, self.percentile))
        queries = max(least, math.ceil(qps * self.length.seconds))
        # Where not one may be late, half a query is what tells few from none.
        return max(count_most_over(queries, self.percentile) or 0, 0.5) / queries

    def _find_cluster_size(self, first: float) -> float:
        """Return how many late queries come together: variance of a run's late ones,
        divided by their mean.

        ``first``: a guess, as good as ``PRIOR`` runs: all late ones that a run may have
        are one burst. Runs at the same loads tell better.
        """
        total, weight = PRIOR * max(1.0, first), PRIOR
        for qps in {one.qps for one in self._counted}:
            own = [one for one in self._counted if one.qps == qps]
            late = sum(one.late or 0 for one in own)
            queries = sum(one.queries or 0 for one in own)
            if len(own) < 2 or not late or late > BUSY * queries:
                continue
            means = [late * (one.queries or 0) / queries for one in own]
            total += sum(
                ((one.late or 0) - mean) ** 2 / mean
                for one, mean in zip(own, means, strict=True)
            )
            weight += len(own) - 1
        return max(1.0, total / weight)

    def _describe(self, shown: LoadTrial, result: str = "") -> str:
        """Return a trial in a line."""
        percent = f"p{self.percentile * 100:g}"
        text = f"{format_rate(shown.qps)} queries/s for {shown.seconds:,.3g} s: "
        text += f"{percent} at "
        text += f"{shown.latency_share:.0%} of the bound"
        if shown.late_share is not None:
            text += f", {shown.late_share:.2%} late"
        if shown.is_disturbed and shown.beside:
            text += ", disturbed: another session measured"
        elif shown.is_disturbed:
            text += f", disturbed: others used {shown.others_share:.0%} of the CPUs"
        return f"{text}: {result}" if result else text


def describe_neighbour(shown: LoadTrial) -> str:
    """Return why a disturbed machine has no peak."""
    if shown.beside:
        return (
            f"another session measured on this machine meanwhile ({shown.beside}), so "
            "that no figure is the system's own; wait until it has ended, or end it, "
            "and search again"
        )
    return (
        f"noisy neighbour: other programs used {shown.others_share:.0%} of the CPUs "
        f"(at most {QUIET:.0%} is quiet), so that no figure is the system's own; end "
        "what else runs here and search again"
    )


def format_rate(rate: float) -> str:
    """Return a rate in four digits, or whole from a thousand on."""
    return f"{rate:,.0f}" if rate >= 1000 else f"{rate:.4g}"
