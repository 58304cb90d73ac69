"""What LoadGen is told of a load: from the bare loop's rate, or found by trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.load_trials import LoadTrial
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.machine.cgroup import Throttling
from pytest_mlperf.machine.cgroup import describe_throttling
from pytest_mlperf.machine.host import read_quota
from pytest_mlperf.sut.tuned_load import Tuned
from pytest_mlperf.tuning.quiet import QuietMeter

OFFLINE_MARGIN = 1.15
"""Offline issues 1.1 x rate x duration at once; too few samples end it too early, so
the rate is stated this much above the probe's."""
LOADS = (0.85, 0.7, 0.55, 0.4, 0.25, 0.1)
"""Shares of the bare loop's rate that Server is tried at, highest first."""
PACED = 0.6
"""Share of the bare loop's rate that a run without a trial (accuracy) is paced at."""
SLOWDOWN = 1.5
"""How much slower a machine may become in its run than it was in its probe. On a
machine 1.5 times as slow, a load of L / 1.5 is what the trial at L was, in slow motion:
it keeps the bound if the trial's latencies were below the bound / 1.5."""
GPU_SLOWDOWN = 1.3
"""The same of a GPU, which nobody shares while it is measured."""
LITTLE_ROOM = 1.05
"""Where no load leaves that much room, the lightest one that leaves this is taken; with
less, no load keeps the bound. Where lighter loads leave less room than heavier ones, a
trial of seconds was lucky, or CPUs are slow after a pause: that is not told apart."""
HOPELESS_X = 4
"""A given load of so many times the rate that was measured without any wait is no
load: LoadGen would work it off for as many times the duration, and fail it."""
TRIAL_S = 3.0
LONGEST_TRIAL_S = 10.0
TAIL_QUERIES = 1000
"""A load that seconds kept is tried again until this many queries have shown its tail:
at nine tenths of what an engine can do, queues take that long to build up."""


Trial = Callable[[Tuned, float], float]
"""(tuning, seconds) -> a real Server run's latency in ns at the bound's percentile."""


@dataclass(frozen=True, slots=True)
class LoadSearch:
    """What a load is looked for with: one device, or several alike."""

    provider: EngineProvider
    cpus: int
    """Of one device."""
    beat: Callable[[], None]
    """Called between trials, so that a watchdog sees life."""
    devices: int = 1
    slowdown: float = SLOWDOWN
    least_qps: float = 0.0
    """At less, the fewest queries take longer than a run may."""
    meter: QuietMeter = field(default_factory=QuietMeter)
    """What measures a trial again that others disturbed."""
    trials: list[LoadTrial] = field(default_factory=list)
    """Those made so far."""

    def find_load(
        self,
        tuned: Tuned,
        scenario: Scenario,
        given: Tuning,
        bound_ns: int | None,
        trial: Trial | None,
    ) -> Tuned:
        """Return a measured tuning with its load; ``trial`` None: none is tried.

        The loop's rate is one device's, the load is that of all.
        """
        if tuned.loop_rate is None:
            return tuned
        if given.target_qps is not None:
            if trial is not None and not self.provider.answers:
                refuse_hopeless_load(
                    scenario, given.target_qps, tuned.loop_rate * self.devices
                )
            return replace(tuned, target_qps=given.target_qps, note="as given")
        if self.provider.answers:
            return replace(tuned, target_qps=tuned.loop_rate, note="nothing to probe")
        rate = tuned.loop_rate * self.devices
        note = f"bare loop {tuned.loop_rate:,.1f}/s"
        note += f" x {self.devices} devices" * (self.devices > 1)
        if scenario is Scenario.OFFLINE:
            return replace(tuned, target_qps=rate * OFFLINE_MARGIN, note=note)
        if trial is None or bound_ns is None:
            return replace(tuned, target_qps=rate * PACED, note=note)
        layouts = [tuned.streams]
        if not (given.streams or given.threads):
            # This one serves most load; one wide stream answers sooner.
            layouts.append(self.provider.layouts(self.cpus)[-1])
        found = self._server(tuned, layouts, rate, bound_ns, trial)
        return replace(found, trials=tuple(self.trials))

    def _server(
        self,
        tuned: Tuned,
        layouts: list[Streams],
        rate: float,
        bound_ns: int,
        trial: Trial,
    ) -> Tuned:
        """Return the heaviest load that a slower machine would keep the bound at."""
        missed: list[tuple[float, float, Tuned]] = []
        before = Throttling.read()
        for share in LOADS:
            qps = rate * share
            for streams in dict.fromkeys(layouts):
                tried = replace(tuned, streams=streams, target_qps=qps)
                tail = self._tail(tried, qps, bound_ns / self.slowdown, trial)
                tried = replace(tried, probed_share=tail / bound_ns)
                if tail <= bound_ns / self.slowdown:
                    slowdown = self._keep_in_time(qps, self.slowdown)
                    return slow_down(tried, share, bound_ns, slowdown)
                missed.append((share, tail, tried))
        kept = [one for one in missed if one[1] * LITTLE_ROOM <= bound_ns]
        least = LITTLE_ROOM * self.least_qps / rate
        if kept:
            in_time = [one for one in kept if one[0] >= least]
            share, tail, best = min(in_time or kept, key=lambda one: one[:2])
            slowdown = self._keep_in_time(rate * share, bound_ns / tail)
            return slow_down(best, share, bound_ns, slowdown)
        _, tail, best = min(missed, key=lambda one: one[1])
        note = (
            f"no load tried keeps {bound_ns / 1e6:g} ms on this machine: at best "
            f"{tail / 1e6:.1f} ms at {best.target_qps:.2f} queries/s"
        )
        if held := describe_throttling(before, Throttling.read(), read_quota()):
            note += f"; {held}"
        return replace(best, note=note, hopeless=note)

    def _keep_in_time(self, qps: float, slowdown: float) -> float:
        """Return how much slower the machine may become at a load that was kept: less
        than ``slowdown`` where the load would be so low that the run is refused.
        """
        if qps >= slowdown * self.least_qps:
            return slowdown
        return max(LITTLE_ROOM, qps / self.least_qps)

    def _tail(self, tried: Tuned, qps: float, most_ns: float, trial: Trial) -> float:
        """Return the worst percentile of a short trial and, if that kept the bound, of
        one long enough to show its tail.
        """

        def measure(seconds: float) -> float:
            self.beat()
            tail = self.meter.measure(
                lambda: trial(tried, seconds), float, lambda tail: tail <= most_ns
            )
            share = tail / (most_ns * self.slowdown)
            self.trials.append(LoadTrial(qps, seconds, share))
            return tail

        short = max(TRIAL_S, min(LONGEST_TRIAL_S, 50 / qps))
        tail = measure(short)
        long = min(LONGEST_TRIAL_S, TAIL_QUERIES / qps)
        return tail if tail > most_ns or long <= short else max(tail, measure(long))


def slow_down(tried: Tuned, share: float, bound_ns: int, slowdown: float) -> Tuned:
    """Return a load that was tried, as a machine that becomes so much slower has it."""
    assert tried.target_qps is not None
    note = f"{share:.0%} of the bare loop kept {bound_ns / 1e6:g} ms"
    note += f", less {1 - 1 / slowdown:.0%} for a machine that slows down"
    return replace(tried, target_qps=tried.target_qps / slowdown, note=note)


def refuse_hopeless_load(scenario: Scenario, asked: float, rate: float) -> None:
    """Raise ``RunRefused`` for a Server load far beyond the measured rate.

    ``asked``: queries a second; ``rate``: samples a second of what answers, never idle.
    """
    if scenario.loadgen != Scenario.SERVER.loadgen or asked <= HOPELESS_X * rate:
        return
    raise RunRefused(
        f"{asked:,.6g} queries/s are asked for (--mlperf-target-qps, or target_qps in "
        f"the system file), but the probe has measured {rate:,.4g}/s without any wait: "
        f"no bound holds at {asked / rate:,.3g} times that, and the run would take as "
        "many times its duration. Ask for less, or leave it out: the probe finds a load"
    )
