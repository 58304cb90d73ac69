"""What a first run against an unknown service needs, found by short trials.

How many requests to keep outstanding, and what LoadGen has to be told: the rate that
Offline sizes its query by, a Server load that keeps the bounds, the latency that a
stream may expect. What a system file or the command line gives is taken as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace
from statistics import median

from pytest_mlperf.api.request_batch import RequestBatch
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.tuning.server_load import BOUND_SHARE
from pytest_mlperf.tuning.server_load import CAUTION
from pytest_mlperf.tuning.server_load import LOADS
from pytest_mlperf.tuning.server_load import OFFLINE_MARGIN
from pytest_mlperf.tuning.server_load import PACED

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
TRIAL_S, LONGEST_TRIAL_S = 3.0, 60.0
ANSWERS_S = 4
"""A trial of Server lasts this many answers' time: the first of them meet a server
with little to do."""
MOST_X = 100.0
"""Where a share is no number any more."""
ALONE = 3
"""Answers, one after another, that tell how soon a first token comes alone."""
STREAM_ANSWERS, STREAM_S = 10, 20.0
STREAM_SHARE = 0.5
"""Of the median answer's time that a stream is told to expect: LoadGen lists twice the
queries that this lets expect, and ends with an error when they run out."""
EQUAL_SHARE = 1.5
"""The same with equal issue, where LoadGen asks all that it listed: for a third longer
than the run has to take."""


@dataclass(frozen=True, slots=True)
class ServiceTuned:
    """How a cell asks its service on this machine."""

    concurrency: int
    target_qps: float | None = None
    expected_latency_ns: int | None = None
    loop_rate: float | None = None
    """Answers a second of the best closed loop that the probe saw."""
    note: str = ""
    hopeless: str = ""
    """Why no load keeps the bounds, where the probe found none."""


Loop = Callable[[int, int, float], RequestBatch]
"""(outstanding, answers wanted, seconds at most) -> what became of them."""
Trial = Callable[[ServiceTuned, float], float]
"""(load, seconds) -> the worst latency of a real Server run as a share of its bound."""


@dataclass(frozen=True, slots=True)
class ServiceProbe:
    """What a probe measures with."""

    loop: Loop
    trial: Trial
    endpoints: int = 1
    tell: Callable[[str], None] = lambda _: None
    """Hears what is tried: a slow service's probe takes a minute."""

    def tune(
        self,
        rule: Rule,
        mode: Mode,
        given: Tuning,
        concurrency: int | None,
        queries: int = 1,
    ) -> ServiceTuned:
        """Return how a cell runs; accuracy looks for nothing that has no part in it.

        ``queries``: that a Server run asks at least, and none of which may wait long.
        """
        if rule.scenario in (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM):
            return self._stream(given, rule, mode)
        rate, latency_s = None, 0.0
        offline = rule.scenario is Scenario.OFFLINE
        if concurrency is None:
            concurrency, rate, latency_s = self._widest()
        load = ServiceTuned(concurrency, loop_rate=rate)
        if given.target_qps is not None:
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
        most = 1.0
        if rule.ttft_ns:
            self.tell("1 outstanding")
            alone = self.loop(1, ALONE, STREAM_S)
            first_s = median(alone.firsts or alone.latencies or (0.0,))
            most = roomy(rate, first_s, rule.ttft_ns / 1e9, queries)
        return self._server(load, rate, latency_s, most)

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
        self, load: ServiceTuned, rate: float, latency_s: float, most: float
    ) -> ServiceTuned:
        """Return the heaviest load that a short real run keeps the bounds at.

        ``most``: share of the rate beyond which queues alone would miss them.
        """
        tails: dict[float, ServiceTuned] = {}
        heaviest = min(LOADS[0], max(most / CAUTION, LOADS[-1]))
        for share in (heaviest, *(s for s in LOADS if s < heaviest)):
            qps = rate * share
            self.tell(f"{qps:.3g} queries/s")
            tried = replace(load, target_qps=qps)
            seconds = max(TRIAL_S, ANSWERS_S * latency_s, min(10.0, 50 / qps))
            worst = self.trial(tried, min(seconds, LONGEST_TRIAL_S))
            if worst <= BOUND_SHARE:
                kept = f"{share:.0%} of it kept the bounds at {worst:.0%}"
                note = f"{load.note}; {kept}, less {1 - CAUTION:.0%}"
                return replace(tried, target_qps=qps * CAUTION, note=note)
            tails[worst] = tried
        worst, best = min(tails.items(), key=lambda item: item[0])
        note = (
            "no load tried keeps the bounds with room to spare on this service: at "
            f"best {worst:.0%} of a bound at {best.target_qps:.3g} queries/s"
        )
        return replace(best, note=note, hopeless=note)

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
        return ServiceTuned(most, expected_latency_ns=latency_ns, note=note)


def pace(load: ServiceTuned) -> ServiceTuned:
    """Return how accuracy asks where nobody times it: faster than a bounded run."""
    if load.loop_rate is None or load.target_qps is None:
        return load
    return replace(load, target_qps=max(load.target_qps, load.loop_rate * PACED))


def roomy(rate: float, first_s: float, bound_s: float, queries: int) -> float:
    """Return the share of a rate at which the longest wait leaves room to the bound.

    The service as one queue with a constant time a request, random arrivals: waits
    beyond t are exp(-x t rate) of all, where the share is x / (e^x - 1). Early stopping
    allows a run of few queries no late one, and a trial of seconds does not see it: at
    this share three runs of four have none beyond ``BOUND_SHARE``.
    """
    room = (BOUND_SHARE * bound_s - first_s) * rate
    if room <= 0:
        return 0.0
    x = math.log(2 * max(queries, 1)) / room
    return x / math.expm1(x) if x < MOST_X else 0.0


def share_of_bounds(rule: Rule, number: Callable[[str], float]) -> float:
    """Return the worst measured latency as a share of its bound.

    ``number`` reads a key of LoadGen's log.
    """
    percent = f"{(rule.percentile or 0.99) * 100:.2f}"
    bounds = {
        f"result_{percent}_percentile_latency_ns": rule.target_latency_ns,
        f"result_first_token_{percent}_percentile_latency_ns": rule.ttft_ns,
        f"result_time_per_output_token_{percent}_percentile_ns": rule.tpot_ns,
    }
    return max(
        (number(key) / bound for key, bound in bounds.items() if bound), default=0.0
    )
