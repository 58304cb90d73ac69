"""What a first run against an unknown service needs, found by short trials.

How many requests to keep outstanding, and what LoadGen has to be told: the rate that
Offline sizes its query by, a Server load that keeps the bounds, the latency that a
stream may expect. What a system file or the command line gives is taken as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from statistics import median

from pytest_mlperf.api.request_batch import RequestBatch
from pytest_mlperf.core.load_trials import LoadTrial
from pytest_mlperf.core.logs.keys import FIRST_TOKEN_LATENCY
from pytest_mlperf.core.logs.keys import LATENCY
from pytest_mlperf.core.logs.keys import format_share
from pytest_mlperf.core.logs.keys import list_bounds
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.sut.tuned_load import ServiceTuned
from pytest_mlperf.tuning.queue_model import SLOWDOWNS
from pytest_mlperf.tuning.queue_model import LoadChooser
from pytest_mlperf.tuning.queue_model import LoadPlan
from pytest_mlperf.tuning.queue_model import Queue
from pytest_mlperf.tuning.queue_model import RunLength
from pytest_mlperf.tuning.quiet import QuietMeter
from pytest_mlperf.tuning.server_load import LITTLE_ROOM
from pytest_mlperf.tuning.server_load import OFFLINE_MARGIN
from pytest_mlperf.tuning.server_load import PACED
from pytest_mlperf.tuning.server_load import refuse_hopeless_load

ANY_LENGTH = RunLength()
LEVELS = (4, 16, 64, 256, 1024)
"""Requests outstanding that are tried, fewest first, an endpoint."""
BETTER = 1.1
"""More outstanding requests have to bring this much, or they only wait in line."""
PASSES = 3
"""How often each of the outstanding requests is answered in a trial: the first pass
finds the server empty, and counts little by the third."""
STEADY_S = 2.0
"""Over which the rate is taken that sizes Offline's one query: a quick service answers
three passes before its connections and its clocks are up."""
LIMIT_S = 60.0
"""What one trial may take; of long answers it then counts those it has."""
TRIAL_S, TRIAL_QUERIES, LONGEST_TRIAL_S = 3.0, 60, 30.0
"""A trial of Server takes so long, or as long as so many queries take, at most."""
ANSWERS_S = 4
"""It also lasts this many answers' time: the first of them meet a server with little
to do."""
TRIALS = 5
"""Loads that are tried at most."""
SEARCH_S = 60.0
"""After which no further load is tried."""
NEAR = 0.8
"""A load that is this close to the best one is not tried again for it."""
ALONE = 10
"""Answers, one after another, that tell how soon a first token comes alone."""
LIGHTEST = 0.1
"""Share of that load which is asked for where no load is any good."""
SHARES = (0.5, 0.9, 0.95, 0.97, 0.99)
"""Percentiles of a trial that a queue is fitted to."""
MOST_LOAD = 0.85
"""Share of the best closed loop beyond which no queue is short."""
STREAM_ANSWERS, STREAM_S = 10, 20.0
STREAM_SHARE = 0.5
"""Of the median answer's time that a stream is told to expect: LoadGen lists twice the
queries that this lets expect, and ends with an error when they run out."""
EQUAL_SHARE = 1.5
"""The same with equal issue, where LoadGen asks all that it listed: for a third longer
than the run has to take."""


@dataclass(frozen=True, slots=True)
class LoadTails:
    """What a short real run at a load has shown."""

    queries: int
    worst: float
    """Latency at the bound's percentile as a share of its bound, the worst of all."""
    tails: Mapping[float, float]
    """Share of the queries -> latency there in seconds: of first tokens, where those
    are bounded."""


Loop = Callable[[int, int, float], RequestBatch]
"""(outstanding, answers wanted, seconds at most) -> what became of them."""
Trial = Callable[[ServiceTuned, float], LoadTails]
"""(load, seconds) -> what a real Server run of that length shows."""


@dataclass(frozen=True, slots=True)
class ServiceProbe:
    """What a probe measures with."""

    loop: Loop
    trial: Trial
    endpoints: int = 1
    tell: Callable[[str], None] = lambda _: None
    """Hears what is tried: a slow service's probe takes a minute."""
    meter: QuietMeter = field(default_factory=QuietMeter)
    """What measures a trial again that others disturbed."""

    def tune(
        self,
        rule: Rule,
        mode: Mode,
        given: Tuning,
        concurrency: int | None,
        length: RunLength = ANY_LENGTH,
    ) -> ServiceTuned:
        """Return how a cell runs; accuracy looks for nothing that has no part in it.

        ``length``: of a Server run.
        """
        if rule.scenario in (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM):
            return self._stream(given, rule, mode)
        rate, latency_s = None, 0.0
        offline = rule.scenario is Scenario.OFFLINE
        if concurrency is None:
            concurrency, rate, latency_s = self._widest()
        load = ServiceTuned(concurrency, loop_rate=rate)
        if given.target_qps is not None:
            if rate is not None and mode is Mode.PERFORMANCE:
                refuse_hopeless_load(rule.scenario, given.target_qps, rate)
            return replace(load, target_qps=given.target_qps, note="as given")
        if offline and mode is Mode.ACCURACY:
            return replace(load, note="one pass over the dataset")
        if rate is None:
            self.tell(f"{concurrency} outstanding")
            found = self.loop(concurrency, PASSES * concurrency, LIMIT_S)
            rate, latency_s = found.rate, median(found.latencies or (0.0,))
        if offline:
            rate = self._steady(concurrency, rate)
        note = f"{rate:,.4g} answers/s with {concurrency} outstanding"
        load = replace(load, loop_rate=rate, note=note)
        if offline:
            return replace(load, target_qps=rate * OFFLINE_MARGIN)
        if mode is Mode.ACCURACY:
            return replace(load, target_qps=rate * PACED)
        bound_ns = rule.ttft_ns or rule.target_latency_ns
        if bound_ns is None:
            return replace(load, target_qps=rate * MOST_LOAD / SLOWDOWNS[0])
        self.tell("1 outstanding")
        alone = self.loop(1, ALONE, STREAM_S)
        firsts = alone.firsts if rule.ttft_ns else ()
        queue = Queue(1 / rate, median(firsts or alone.latencies or (0.0,)))
        chooser = LoadChooser(
            bound_ns / 1e9, rule.percentile or 0.99, length, rate * MOST_LOAD
        )
        return self._server(load, queue, chooser, latency_s)

    def _widest(self) -> tuple[int, float, float]:
        """Return the requests outstanding beyond which nothing is won, the rate and
        the median latency in seconds.
        """
        best: tuple[int, float, float] | None = None
        for level in LEVELS:
            outstanding = level * self.endpoints
            self.tell(f"{outstanding} outstanding")
            found = self.loop(outstanding, PASSES * outstanding, LIMIT_S)
            latency_s = median(found.latencies or (LIMIT_S,))
            if best is not None and found.rate < BETTER * best[1]:
                break
            best = outstanding, found.rate, latency_s
        assert best is not None
        return best

    def _steady(self, concurrency: int, rate: float) -> float:
        """Return the better of a rate and the one over ``STEADY_S``."""
        if rate * STEADY_S <= PASSES * concurrency:
            return rate
        self.tell(f"{concurrency} outstanding")
        most = int(2 * rate * STEADY_S)  # it may be twice as fast once it is warm
        return max(rate, self.loop(concurrency, most, STEADY_S).rate)

    def _server(
        self, load: ServiceTuned, queue: Queue, chooser: LoadChooser, latency_s: float
    ) -> ServiceTuned:
        """Return the load whose run is over soonest and keeps the bounds.

        A trial at the limit shows what the queue really does there; the next load is
        that of a queue which fits it.
        """
        best: ServiceTuned | None = None
        roomiest: ServiceTuned | None = None
        most_qps, started = chooser.most_qps, time.monotonic()
        for _ in range(TRIALS):
            if time.monotonic() - started > SEARCH_S:
                break
            chooser = replace(chooser, most_qps=most_qps)
            plan = chooser.choose(queue)
            if plan is None or is_near(best, plan.qps):
                break
            tried, shown = self._try(load, plan, latency_s)
            load = replace(load, trials=tried.trials)
            roomiest = roomier(roomiest, tried)
            queue = queue.fit(plan.qps * plan.slowdown, shown.queries, shown.tails)
            if shown.worst > 1 / plan.slowdown:
                # Whatever was late, tokens too: less of it.
                most_qps = NEAR * plan.qps * plan.slowdown
                continue
            again = chooser.choose(queue)
            if again is not None and again.qps >= NEAR * plan.qps:
                best = tried
        found = best or self._give_up(load, queue, chooser, roomiest)
        return replace(found, trials=load.trials)

    def _try(
        self, load: ServiceTuned, plan: LoadPlan, latency_s: float
    ) -> tuple[ServiceTuned, LoadTails]:
        """Return a load with what a trial has shown: in slow motion, what the run does
        on a service that has become slower.
        """
        qps = plan.qps * plan.slowdown
        self.tell(f"{qps:.3g} queries/s")
        tried = replace(load, target_qps=qps)
        seconds = max(TRIAL_S, ANSWERS_S * latency_s, TRIAL_QUERIES / qps)
        seconds = min(seconds, LONGEST_TRIAL_S)
        shown = self.meter.measure(
            lambda: self.trial(tried, seconds),
            lambda shown: shown.worst,
            lambda shown: shown.worst <= 1 / plan.slowdown,
        )
        note = f"{load.note}; {qps:.3g} queries/s took {shown.worst:.0%} of a bound"
        note += f", less {1 - 1 / plan.slowdown:.0%} for a service that slows down"
        tried = replace(
            tried, target_qps=plan.qps, probed_share=shown.worst,
            queries=plan.queries, note=note,
            trials=(*load.trials, LoadTrial(qps, seconds, shown.worst, shown.queries)),
        )  # fmt: skip
        return tried, shown

    def _give_up(
        self,
        load: ServiceTuned,
        queue: Queue,
        chooser: LoadChooser,
        roomiest: ServiceTuned | None,
    ) -> ServiceTuned:
        """Return the load with the most room, and why it is no good where it is not."""
        if roomiest is None:
            text = f"an answer alone takes {queue.first_s * 1e3:,.0f} ms of "
            text += f"{chooser.bound_s * 1e3:,.0f} ms"
            roomiest = replace(load, target_qps=chooser.most_qps * LIGHTEST)
        else:
            share = roomiest.probed_share or 0.0
            if share * LITTLE_ROOM <= 1:
                return roomiest
            text = f"at best {share:.0%} of a bound at {roomiest.target_qps:.3g}/s"
        note = f"no load tried keeps the bounds on this service: {text}"
        return replace(roomiest, note=note, hopeless=note)

    def _stream(self, given: Tuning, rule: Rule, mode: Mode) -> ServiceTuned:
        most = rule.samples_per_query
        if given.expected_latency_ms is not None:
            latency_ns = int(given.expected_latency_ms * 1e6)
            return ServiceTuned(most, expected_latency_ns=latency_ns, note="as given")
        if mode is Mode.ACCURACY:
            return ServiceTuned(most, note="one pass over the dataset")
        found = self.loop(most, STREAM_ANSWERS * most, STREAM_S)
        middle = median(found.latencies)
        note = f"median {middle * 1e3:,.1f} ms in the probe"
        share = EQUAL_SHARE if rule.equal_issue else STREAM_SHARE
        latency_ns = max(1, int(middle * share * 1e9))
        return ServiceTuned(
            most, expected_latency_ns=latency_ns, note=note, latency_s=middle
        )


def is_near(best: ServiceTuned | None, qps: float) -> bool:
    """Return whether a load is hardly heavier than one that was good."""
    return (
        best is not None
        and best.target_qps is not None
        and (qps * NEAR <= best.target_qps)
    )


def roomier(one: ServiceTuned | None, other: ServiceTuned) -> ServiceTuned:
    """Return the load whose trial left more room."""
    if one is None or (other.probed_share or 0.0) < (one.probed_share or 0.0):
        return other
    return one


def pace(load: ServiceTuned) -> ServiceTuned:
    """Return how accuracy asks where nobody times it: faster than a bounded run."""
    if load.loop_rate is None or load.target_qps is None:
        return load
    return replace(load, target_qps=max(load.target_qps, load.loop_rate * PACED))


def share_of_bounds(rule: Rule, number: Callable[[str], float]) -> float:
    """Return the worst measured latency as a share of its bound.

    ``number`` reads a key of LoadGen's log.
    """
    bounds = list_bounds(rule).items()
    return max((number(key) / bound for key, bound in bounds), default=0.0)


def read_tails(rule: Rule, number: Callable[[str], float]) -> LoadTails:
    """Return what a short run's log shows; ``number`` reads a key of it."""
    key = FIRST_TOKEN_LATENCY if rule.ttft_ns else LATENCY
    tails = {one: number(key.format(format_share(one))) / 1e9 for one in SHARES}
    queries = int(number("result_query_count"))
    return LoadTails(queries, share_of_bounds(rule, number), tails)
