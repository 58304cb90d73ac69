"""What LoadGen is told of a load: from the bare loop's rate, or found by trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace

from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Scenario

OFFLINE_MARGIN = 1.15
"""Offline issues 1.1 x rate x duration at once; too few samples end it too early, so
the rate is stated this much above the probe's."""
LOADS = (0.85, 0.7, 0.55, 0.4, 0.25, 0.1)
"""Shares of the bare loop's rate that Server is tried at, highest first."""
PACED = 0.6
"""Share of the bare loop's rate that a run without a trial (accuracy) is paced at."""
BOUND_SHARE = 0.75
"""A short trial's percentile must stay this far under the bound: it has seen too few
queries to know its tail."""
CAUTION = 0.8
"""A trial of seconds found a load that a run of minutes has to keep (at 0.9 one in six
missed its bound by a little)."""
TRIAL_S = 3.0
LONGEST_TRIAL_S = 10.0
TAIL_QUERIES = 1000
"""A load that seconds kept is tried again until this many queries have shown its tail:
at nine tenths of what an engine can do, queues take that long to build up."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """How a cell runs on this machine."""

    streams: Streams
    batch: int
    delay_s: float = 0.0
    preferred: tuple[int, ...] = ()
    target_qps: float | None = None
    expected_latency_ns: int | None = None
    loop_rate: float | None = None
    """Samples/s of the best bare loop the probe saw."""
    note: str = ""
    hopeless: str = ""
    """Why no load keeps the bound, where the probe found none."""


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
        return self._server(tuned, layouts, rate, bound_ns, trial)

    def _server(
        self,
        tuned: Tuned,
        layouts: list[Streams],
        rate: float,
        bound_ns: int,
        trial: Trial,
    ) -> Tuned:
        """Return the heaviest load that a short real run keeps the bound at."""
        bound = f"{bound_ns / 1e6:g} ms"
        tails: dict[float, Tuned] = {}
        for share in LOADS:
            qps = rate * share
            for streams in dict.fromkeys(layouts):
                tried = replace(tuned, streams=streams, target_qps=qps)
                tail = self._tail(tried, qps, bound_ns * BOUND_SHARE, trial)
                if tail <= bound_ns * BOUND_SHARE:
                    kept = f"{share:.0%} of the bare loop kept {bound}"
                    note = f"{kept}, less {1 - CAUTION:.0%}"
                    return replace(tried, target_qps=qps * CAUTION, note=note)
                tails[tail] = tried
        tail, best = min(tails.items())
        note = (
            f"no load tried keeps {bound} with room to spare on this machine: at best "
            f"{tail / 1e6:.1f} ms at {best.target_qps:.2f} queries/s"
        )
        return replace(best, note=note, hopeless=note)

    def _tail(self, tried: Tuned, qps: float, most_ns: float, trial: Trial) -> float:
        """Return the worst percentile of a short trial and, if that kept the bound, of
        one long enough to show its tail.
        """
        self.beat()
        short = max(TRIAL_S, min(LONGEST_TRIAL_S, 50 / qps))
        tail = trial(tried, short)
        long = min(LONGEST_TRIAL_S, TAIL_QUERIES / qps)
        if tail > most_ns or long <= short:
            return tail
        self.beat()
        return max(tail, trial(tried, long))
