"""The probe of a service, against services whose speed is a formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from random import Random

import pytest

from pytest_mlperf.api import request_batch
from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.request_batch import RequestBatch
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.service import EndpointStats
from pytest_mlperf.api.service import Listener
from pytest_mlperf.core.early_stopping import is_proof
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.sut.tuned_load import ServiceTuned
from pytest_mlperf.tuning.queue_model import SLOWDOWNS
from pytest_mlperf.tuning.queue_model import LoadChooser
from pytest_mlperf.tuning.queue_model import Queue
from pytest_mlperf.tuning.queue_model import RunLength
from pytest_mlperf.tuning.server_load import OFFLINE_MARGIN
from pytest_mlperf.tuning.server_load import PACED
from pytest_mlperf.tuning.service_probe import LEVELS
from pytest_mlperf.tuning.service_probe import MOST_LOAD
from pytest_mlperf.tuning.service_probe import SHARES
from pytest_mlperf.tuning.service_probe import LoadTails
from pytest_mlperf.tuning.service_probe import ServiceProbe
from pytest_mlperf.tuning.service_probe import pace
from pytest_mlperf.tuning.service_probe import share_of_bounds
from tests.support.service_doubles import rule_for

ANSWER = Answer("a", 1)
SECONDS = 0.1
"""Of one answer."""
LENGTH = RunLength(459, 600)


@dataclass
class Formula:
    """Answers so many at a time, and is late in proportion to its load."""

    slots: int = 20
    slowness: float = 1.0
    """Share of the bounds at the highest rate."""
    tried: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.slots / SECONDS

    def loop(self, outstanding: int, count: int, limit_s: float) -> RequestBatch:
        del limit_s
        rate = min(outstanding, self.slots) / SECONDS
        latency = outstanding / rate
        return RequestBatch((ANSWER,) * count, count / rate, (latency,) * count)

    def trial(self, load: ServiceTuned, seconds: float) -> LoadTails:
        assert load.target_qps is not None
        self.tried.append(load.target_qps)
        share = self.slowness * load.target_qps / self.rate
        return LoadTails(int(load.target_qps * seconds), share, {})

    def tuned(
        self,
        scenario: Scenario,
        mode: Mode = Mode.PERFORMANCE,
        given: Tuning | None = None,
        concurrency: int | None = None,
    ) -> ServiceTuned:
        probe = ServiceProbe(self.loop, self.trial)
        rule = rule_for(scenario)
        return probe.tune(rule, mode, given or Tuning(), concurrency, LENGTH)


def test_more_outstanding_requests_are_asked_for_while_they_bring_more() -> None:
    """20 slots are not filled by 16, are by 64, and 256 bring nothing more."""
    load = Formula(slots=20).tuned(Scenario.OFFLINE)

    assert load.concurrency == 64
    assert pytest.approx(load.target_qps) == 200 * OFFLINE_MARGIN


def test_offline_is_sized_by_what_a_quick_service_does_once_it_is_warm() -> None:
    """Three passes are over too soon to tell: Offline's query would be too small."""

    @dataclass
    class Warming(Formula):
        def loop(self, outstanding: int, count: int, limit_s: float) -> RequestBatch:
            batch = super().loop(outstanding, count, limit_s)
            return replace(batch, seconds=batch.seconds + 0.1)  # it connects first

    load = Warming(slots=64).tuned(Scenario.OFFLINE, concurrency=64)
    assert load.target_qps is not None

    assert 640 < load.target_qps <= 640 * OFFLINE_MARGIN


def test_a_service_that_takes_everything_is_given_the_most_that_is_tried() -> None:
    """Nothing beyond is guessed at."""
    assert LEVELS[-1] == Formula(slots=10**6).tuned(Scenario.OFFLINE).concurrency


def test_server_gets_a_load_that_a_slower_service_would_keep_too() -> None:
    """What was tried is as much heavier as its latencies had to be shorter."""
    formula = Formula(slowness=0.5)
    load = formula.tuned(Scenario.INTERACTIVE, concurrency=20)
    assert load.target_qps is not None

    assert formula.tried[-1] / load.target_qps == pytest.approx(SLOWDOWNS[0])
    assert formula.tried[-1] <= MOST_LOAD * formula.rate
    assert load.probed_share == pytest.approx(0.5 * formula.tried[-1] / formula.rate)
    assert load.hopeless == ""


def test_a_load_that_makes_tokens_late_is_lowered() -> None:
    """Whatever the queue's model says: a trial that missed a bound is no good."""
    formula = Formula(slowness=1.2)
    load = formula.tuned(Scenario.INTERACTIVE, concurrency=20)

    assert len(formula.tried) > 1
    assert sorted(formula.tried, reverse=True) == formula.tried
    assert load.probed_share is not None
    assert load.probed_share <= 1 / SLOWDOWNS[0]


@dataclass
class OneByOne(Formula):
    """A server with one slot, whose trials are a simulated queue."""

    slots: int = 1
    real_s: float = SECONDS
    """That a request really keeps the next one waiting."""
    bound_s: float = 0.5

    def trial(self, load: ServiceTuned, seconds: float) -> LoadTails:
        super().trial(load, seconds)
        assert load.target_qps is not None
        queries = int(load.target_qps * seconds)
        shown = sorted(self.latencies(load.target_qps, queries, len(self.tried)))
        tails = {share: shown[int(share * queries)] for share in SHARES}
        return LoadTails(queries, tails[0.99] / self.bound_s, tails)

    def latencies(self, qps: float, queries: int, seed: int) -> list[float]:
        random = Random(seed)
        now = free = 0.0
        found = []
        for _ in range(queries):
            now += random.expovariate(qps)
            found.append(max(free - now, 0.0) + SECONDS)
            free = max(now, free) + self.real_s
        return found


@pytest.mark.parametrize("real_s", [SECONDS, 1.2 * SECONDS, 1.4 * SECONDS])
def test_the_probe_finds_out_what_the_queue_really_does(real_s: float) -> None:
    """A run at its load is VALID, and the load is no lighter than half of the best."""
    service = OneByOne(real_s=real_s)
    probe = ServiceProbe(service.loop, service.trial)
    rule = rule_for(Scenario.INTERACTIVE)
    length = RunLength(459, 60, limit_s=600)
    load = probe.tune(rule, Mode.PERFORMANCE, Tuning(), 1, length)
    assert load.target_qps is not None
    assert load.queries is not None
    valid = 0
    for seed in range(20):
        found = service.latencies(load.target_qps, load.queries, 100 + seed)
        valid += is_proof(load.queries, sum(x > 0.5 for x in found), 0.99)
    best = LoadChooser(0.5, 0.99, length, 0.85 / real_s).choose(Queue(real_s, SECONDS))
    assert best is not None

    assert valid >= 17
    assert load.target_qps >= best.qps / 2


def test_the_users_own_count_of_queries_is_not_raised() -> None:
    """Neither is a load looked for that would need more of them."""
    service = OneByOne()
    probe = ServiceProbe(service.loop, service.trial)
    length = RunLength(500, 60, is_fixed=True)
    rule = rule_for(Scenario.INTERACTIVE)
    load = probe.tune(rule, Mode.PERFORMANCE, Tuning(), 1, length)

    assert load.queries == 500


def test_accuracy_asks_faster_than_a_run_that_is_bounded() -> None:
    """Nobody times it, and a hundred slow answers take long enough."""
    bounded = ServiceTuned(4, target_qps=3.0, loop_rate=10.0)

    assert pace(bounded).target_qps == 10.0 * PACED
    assert pace(replace(bounded, target_qps=9.0)).target_qps == 9.0
    assert ServiceTuned(4) == pace(ServiceTuned(4))


def test_what_is_tried_is_told() -> None:
    """A slow service's probe takes a minute, and a person watches."""
    formula, told = Formula(), list[str]()
    probe = ServiceProbe(formula.loop, formula.trial, tell=told.append)
    probe.tune(rule_for(Scenario.SERVER), Mode.PERFORMANCE, Tuning(), None)

    assert told[0] == "4 outstanding"
    assert "queries/s" in told[-1]


def test_where_no_load_keeps_the_bounds_the_roomiest_is_taken_and_named() -> None:
    """The verdict is then an honest INVALID whose remedy knows why."""
    formula = Formula(slowness=100)
    load = formula.tuned(Scenario.SERVER, concurrency=20)

    assert load.target_qps is not None
    assert load.target_qps < min(formula.tried)
    assert "no load tried keeps the bounds" in load.hopeless
    assert load.probed_share is not None
    assert load.probed_share > 1


def test_an_answer_that_is_late_alone_is_not_tried_at_any_load() -> None:
    """The first token takes as long as the whole bound."""
    service = Formula(slots=1)
    rule = replace(rule_for(Scenario.INTERACTIVE), ttft_ns=int(SECONDS * 1e9))
    probe = ServiceProbe(service.loop, service.trial)
    load = probe.tune(rule, Mode.PERFORMANCE, Tuning(), 1)

    assert service.tried == []
    assert "an answer alone takes 100 ms of 100 ms" in load.hopeless


def test_what_is_given_is_taken_and_nothing_is_tried() -> None:
    """A system file's rate is somebody's measurement."""
    formula = Formula()
    load = formula.tuned(Scenario.SERVER, given=Tuning(target_qps=7), concurrency=3)

    assert (load.concurrency, load.target_qps, formula.tried) == (3, 7, [])


def test_a_given_load_far_beyond_the_service_is_refused() -> None:
    """Where its rate is known; in accuracy it is no load to keep."""
    asked = Tuning(target_qps=1e6)
    formula = Formula(slots=1)
    with pytest.raises(RunRefused, match="1e\\+06 queries/s are asked for"):
        formula.tuned(Scenario.SERVER, given=asked)

    accurate = formula.tuned(Scenario.SERVER, Mode.ACCURACY, given=asked)
    assert accurate.note == "as given"


def test_a_stream_may_expect_half_its_median() -> None:
    """LoadGen lists twice the queries that this makes."""
    rule = replace(rule_for(Scenario.SINGLE_STREAM), equal_issue=False)
    formula = Formula(slots=1)
    probe = ServiceProbe(formula.loop, formula.trial)
    load = probe.tune(rule, Mode.PERFORMANCE, Tuning(), None)

    assert load.concurrency == 1
    assert int(SECONDS / 2 * 1e9) == load.expected_latency_ns


def test_a_stream_of_equal_issue_asks_for_a_third_longer_than_it_has_to() -> None:
    """There LoadGen does not end before it has asked all that it listed."""
    load = Formula(slots=1).tuned(Scenario.SINGLE_STREAM)
    assert load.expected_latency_ns is not None
    listed = 2 * 60 / (load.expected_latency_ns / 1e9)

    assert pytest.approx(listed * SECONDS) == 60 * 4 / 3


@pytest.mark.parametrize("scenario", [Scenario.OFFLINE, Scenario.SERVER])
def test_an_accuracy_run_tries_no_loads(scenario: Scenario) -> None:
    """Nothing is timed in it; Server is still paced by a rate."""
    formula = Formula()
    load = formula.tuned(scenario, Mode.ACCURACY, concurrency=20)

    assert formula.tried == []
    assert (load.target_qps is None) == (scenario is Scenario.OFFLINE)


def test_the_worst_bound_decides() -> None:
    """450 of 500 ms and 10 of 30 ms: nine tenths."""
    measured = {
        "result_first_token_99.00_percentile_latency_ns": 450e6,
        "result_time_per_output_token_99.00_percentile_ns": 10e6,
    }
    rule = rule_for(Scenario.INTERACTIVE)

    assert share_of_bounds(rule, measured.__getitem__) == 0.9
    untimed = replace(rule, ttft_ns=None, tpot_ns=None)
    assert share_of_bounds(untimed, measured.__getitem__) == 0.0


class Echoing:
    """A service that answers at once, on the thread that asks, or fails."""

    pulse = 0

    def __init__(self, listener: Listener, fails_at: int = -1) -> None:
        self.listener = listener
        self.fails_at = fails_at
        self.samples: list[int] = []
        self.waiting: list[int] = []
        self.most = 0
        self.closed = False

    def submit(self, ticket: int, sample: int) -> None:
        self.samples.append(sample)
        self.waiting.append(ticket)
        self.most = max(self.most, len(self.waiting))

    def answer(self) -> None:
        """Answer what waits, as the client's own thread does."""
        while self.waiting and not self.closed:
            ticket = self.waiting.pop(0)
            if ticket == self.fails_at:
                self.listener.failed(RequestFailed("u", 0, 0.0, "no"))
                self.listener.failed(RequestFailed("u", 1, 0.0, "it is closed"))
                return
            self.listener.done([(ticket, ANSWER)])

    def stats(self) -> Sequence[EndpointStats]:
        return ()

    def close(self) -> None:
        self.closed = True


def send_batch(
    count: int, outstanding: int, fails_at: int = -1
) -> tuple[RequestBatch, Echoing]:
    """Send requests over three samples."""
    import threading

    made: list[Echoing] = []

    def open_service(listener: Listener) -> Echoing:
        made.append(Echoing(listener, fails_at))
        threading.Timer(0.05, made[0].answer).start()
        return made[0]

    found = request_batch.send_all(
        open_service,  # type: ignore[arg-type]
        range(3), outstanding=outstanding, count=count, beat=lambda: None,
    )  # fmt: skip
    return found, made[0]


def test_a_batch_keeps_its_requests_outstanding_and_takes_samples_in_turn() -> None:
    """Seven answers, two at a time, over three samples."""
    found, service = send_batch(7, 2)

    assert 7 == len(found.answers) == len(found.latencies)
    assert service.samples[:7] == [0, 1, 2, 0, 1, 2, 0]
    assert service.most == 2
    assert service.closed


def test_a_batch_raises_what_the_service_fails_with_first() -> None:
    """Later failures follow from it: the service is closed."""
    with pytest.raises(RequestFailed, match=r"sample 0 failed after .*: no"):
        send_batch(7, 2, fails_at=3)
