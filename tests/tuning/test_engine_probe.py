"""The probe, with engines whose speed is known."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.engines.null import NULL
from pytest_mlperf.runner.runner import Runner
from pytest_mlperf.tuning import bare_loop as bare_loop_module
from pytest_mlperf.tuning import engine_probe as probe_module
from pytest_mlperf.tuning.bare_loop import bare_loop
from pytest_mlperf.tuning.engine_probe import ANSWER_RATES
from pytest_mlperf.tuning.engine_probe import EngineProbe
from pytest_mlperf.tuning.engine_probe import expect_mean
from pytest_mlperf.tuning.server_load import GPU_SLOWDOWN
from pytest_mlperf.tuning.server_load import HOPELESS_X
from pytest_mlperf.tuning.server_load import LOADS
from pytest_mlperf.tuning.server_load import LONGEST_TRIAL_S
from pytest_mlperf.tuning.server_load import OFFLINE_MARGIN
from pytest_mlperf.tuning.server_load import PACED
from pytest_mlperf.tuning.server_load import SLOWDOWN
from pytest_mlperf.tuning.server_load import TAIL_QUERIES
from pytest_mlperf.tuning.server_load import TRIAL_S
from pytest_mlperf.tuning.server_load import LoadSearch
from pytest_mlperf.tuning.server_load import Trial
from pytest_mlperf.tuning.server_load import Tuned
from pytest_mlperf.tuning.server_load import refuse_hopeless_load
from tests.support import doubles

BOUND_NS = 15_000_000


class OneOnly(doubles.Stream):
    """A stream of a device that has memory for one of them."""

    opened = 0

    def __init__(self, call: doubles.Infer) -> None:
        super().__init__(call)
        OneOnly.opened += 1

    def infer(self, batch: Batch, size: int) -> Any:
        if OneOnly.opened > 1:
            raise MemoryError("one stream fills the memory")
        return super().infer(batch, size)

    def close(self) -> None:
        OneOnly.opened -= 1


NOTHING = Tuning()


@dataclass
class Clock:
    """Stands in for ``time``: engines sleep by it, and no other program holds it up."""

    now: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def sleep(self, seconds: float) -> None:
        with self.lock:
            self.now += seconds

    def monotonic(self) -> float:
        self.sleep(5e-5)
        return self.now

    perf_counter = monotonic


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times candidates by a clock of their own, and for less long."""
    clock = Clock()
    for module in (doubles, bare_loop_module, probe_module):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(probe_module, "SLICE_S", 0.05)


@dataclass(frozen=True, slots=True)
class SideBySide(doubles.Double):
    """5 ms for a batch of any size: in each of two streams, or in one of two threads.

    Two streams sleep one after the other on the clock, so that each counts half.
    """

    def open(self, build: Build, threads: int) -> doubles.Stream:  # noqa: ARG002
        return doubles.Stream(partial(doubles.slow_batch, seconds=0.005 * threads / 2))


@dataclass
class Counted:
    """A probe, and how often it showed life."""

    beats: int = 0

    def __call__(self) -> None:
        self.beats += 1


def probe_of(
    provider: EngineProvider,
    *,
    cpus: int = 2,
    beat: Callable[[], None] = lambda: None,
    lengths: Array | None = None,
) -> EngineProbe:
    workload = doubles.Echo(doubles.numbers(lengths))
    build = provider.build(BuildRequest(workload, "fp32", Path("unused")))
    return EngineProbe(provider, build, workload, cpus, beat)


def tune_probe(
    probe: EngineProbe,
    scenario: Scenario,
    given: Tuning,
    bound_ns: int | None,
    trial: Trial | None,
) -> Tuned:
    """Return a cell's tuning; ``trial`` None (accuracy) skips Server's."""
    tuned = probe.measure(scenario, given, bound_ns)
    search = LoadSearch(probe.provider, probe.cpus, probe.beat)
    return search.find_load(tuned, scenario, given, bound_ns, trial)


def tune(
    provider: EngineProvider,
    scenario: Scenario,
    given: Tuning = NOTHING,
    bound_ns: int | None = None,
) -> Tuned:
    return tune_probe(probe_of(provider), scenario, given, bound_ns, None)


@dataclass
class Trials:
    """Stands for short Server runs: a tail by load and layout, and what was tried."""

    tail_ns: Callable[[float, Streams], float]
    rate: float = 0.0
    tried: list[tuple[float, Streams]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __call__(self, tuned: Tuned, seconds: float) -> float:
        assert tuned.target_qps is not None
        assert tuned.loop_rate is not None
        share = round(tuned.target_qps / tuned.loop_rate, 3)
        self.tried.append((share, tuned.streams))
        self.seconds.append(seconds)
        return self.tail_ns(share, tuned.streams)


def test_a_batch_that_costs_the_same_at_any_size_is_large() -> None:
    """5 ms for 1 or 8: the rate grows with the batch, and the largest wins."""
    tuned = tune(doubles.SLOW_BATCH, Scenario.OFFLINE)

    assert tuned.batch == 8


def test_batches_that_do_not_pay_are_not_taken() -> None:
    """Where two samples together take twice as long as apart, each goes alone."""
    tuned = tune(doubles.COLD, Scenario.OFFLINE)

    assert tuned.batch == 1


def test_a_batch_that_eats_the_bound_is_not_taken() -> None:
    """2 ms a sample: a batch of 4 is over a third of 15 ms, Server stays below."""
    tuned = tune(doubles.SLOW_SAMPLE, Scenario.SERVER, bound_ns=BOUND_NS)

    assert tuned.batch in (1, 2)


def small_memory(batch: Batch, size: int, ids: list[int], most: int) -> Any:
    """Costs the same for every batch, and has memory for ``most`` samples."""
    if size > most:
        raise RuntimeError(f"CUDA out of memory: {size} samples")
    return doubles.slow_batch(batch, size, ids, 0.005)


def test_the_largest_batch_is_the_largest_that_memory_has_room_for() -> None:
    """Batches up to 8 pay, and there is memory for 4: nobody has to ask for it."""
    provider = doubles.Double(partial(small_memory, most=4))

    assert tune(provider, Scenario.OFFLINE).batch == 4


def test_a_layout_without_memory_leaves_the_choice_to_the_others() -> None:
    """Where not even one sample fits in any, the message says what to lower."""
    spread = (Streams(2, 1), Streams(1, 2))
    provider = replace(doubles.SLOW_BATCH, spread=spread, stream=OneOnly)
    OneOnly.opened = 0
    tuned = tune(provider, Scenario.OFFLINE)
    none = doubles.Double(partial(small_memory, most=0))

    assert tuned.streams == Streams(1, 2)
    with pytest.raises(BuildFailed) as refused:
        tune(none, Scenario.OFFLINE)
    assert str(refused.value) == (
        "no memory for a batch of 1 in 1 stream: CUDA out of memory: 1 samples; "
        "lower --mlperf-batch or --mlperf-streams, or end what else holds memory"
    )


def test_streams_that_pay_are_taken() -> None:
    """Two streams that sleep side by side do twice the work of one."""
    both = (Streams(2, 1), Streams(1, 2))
    provider = SideBySide(doubles.echo, spread=both, batches=(4,))
    tuned = tune(provider, Scenario.OFFLINE)

    assert Streams(2, 1) == tuned.streams


def test_offline_is_told_more_than_the_loop_did() -> None:
    """A query that ends too early is INVALID: the rate gets a margin, and a note."""
    tuned = tune(doubles.SLOW_BATCH, Scenario.OFFLINE)

    assert tuned.loop_rate is not None
    assert tuned.target_qps == pytest.approx(tuned.loop_rate * OFFLINE_MARGIN)
    assert OFFLINE_MARGIN > 1
    assert f"bare loop {tuned.loop_rate:,.1f}/s" == tuned.note


@pytest.mark.parametrize(
    ("scenario", "batch"), [(Scenario.SINGLE_STREAM, 1), (Scenario.MULTI_STREAM, 8)]
)
def test_streams_expect_half_the_median_latency(scenario: Scenario, batch: int) -> None:
    """LoadGen lists queries for twice the speed that was measured."""
    tuned = tune(doubles.SLOW_BATCH, scenario)
    said = re.fullmatch(r"median ([0-9.]+) ms in the probe", tuned.note)

    assert said is not None
    assert float(said[1]) >= 5
    assert tuned.expected_latency_ns == pytest.approx(float(said[1]) * 5e5, rel=1e-3)
    assert (Streams(1, 1), batch) == (tuned.streams, tuned.batch)
    assert tuned.target_qps is None


@pytest.mark.parametrize("scenario", [Scenario.OFFLINE, Scenario.SERVER])
def test_given_values_win(scenario: Scenario) -> None:
    """What the system file or the command line fixes is not looked for."""
    given = Tuning(
        batch=3, streams=2, threads=5, max_delay_ms=1.5, preferred=(2,), target_qps=77
    )
    trials = Trials(lambda _share, _streams: 0.0)
    tuned = tune_probe(probe_of(doubles.SLOW_BATCH), scenario, given, BOUND_NS, trials)

    assert (Streams(2, 5), 3, 77) == (tuned.streams, tuned.batch, tuned.target_qps)
    assert (tuned.delay_s, tuned.preferred) == (0.0015, (2,))
    assert tuned.note == "as given"
    assert trials.tried == []


def test_a_given_load_far_beyond_the_engine_is_refused() -> None:
    """LoadGen would work it off for hours, without a word; where a load is no promise
    (Offline, accuracy) or nothing is measured, it is taken.
    """
    given = Tuning(batch=3, streams=2, target_qps=1e6)
    trials = Trials(lambda _share, _streams: 0.0)
    probe, null = probe_of(doubles.SLOW_BATCH), probe_of(NULL)
    with pytest.raises(RunRefused) as caught:
        tune_probe(probe, Scenario.SERVER, given, BOUND_NS, trials)

    assert str(caught.value).startswith("1e+06 queries/s are asked for (--mlperf-")
    assert "leave it out" in str(caught.value)
    refuse_hopeless_load(Scenario.SERVER, HOPELESS_X, 1.0)
    with pytest.raises(RunRefused, match=r"at 4\.01 times that"):
        refuse_hopeless_load(Scenario.INTERACTIVE, HOPELESS_X + 0.01, 1.0)
    for taken in (
        tune_probe(probe, Scenario.SERVER, given, BOUND_NS, None),
        tune_probe(probe, Scenario.OFFLINE, given, None, trials),
        tune_probe(null, Scenario.SERVER, given, BOUND_NS, trials),
    ):
        assert taken.note == "as given"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Tuning(streams=2), Streams(2, 4)),
        (Tuning(threads=2), Streams(4, 2)),
        (Tuning(streams=3, threads=7), Streams(3, 7)),
        (Tuning(streams=100), Streams(100, 1)),
        (Tuning(threads=100), Streams(1, 100)),
    ],
)
def test_half_a_layout_is_made_whole_from_the_cpus(
    given: Tuning, expected: Streams
) -> None:
    """Streams get their share of the threads, threads their share of the streams."""
    provider = replace(doubles.ECHO, batches=(8,))
    tuned = tune_probe(probe_of(provider, cpus=8), Scenario.OFFLINE, given, None, None)

    assert expected == tuned.streams


def test_a_given_latency_is_expected_without_a_probe() -> None:
    """No stream is opened to find out what is known."""
    given = Tuning(expected_latency_ms=2.5, threads=3)
    tuned = tune(doubles.RAISING_EARLY, Scenario.SINGLE_STREAM, given)

    assert (tuned.expected_latency_ns, tuned.note) == (2_500_000, "as given")
    assert Streams(1, 3) == tuned.streams


@pytest.mark.parametrize("scenario", [Scenario.OFFLINE, Scenario.SERVER])
def test_an_engine_that_only_answers_is_asked_for_a_fixed_rate(
    scenario: Scenario,
) -> None:
    """There is nothing to measure but the suite: no trial, the largest batch."""
    trials = Trials(lambda _share, _streams: 0.0)
    tuned = tune_probe(probe_of(NULL), scenario, NOTHING, BOUND_NS, trials)

    assert ANSWER_RATES[scenario] == tuned.target_qps
    assert (tuned.batch, tuned.note) == (1024, "nothing to probe")
    assert trials.tried == []


WIDE = Streams(1, 2)
NARROW = Streams(2, 1)
FAST = SideBySide(doubles.echo, spread=(NARROW, WIDE), batches=(1,))


@pytest.mark.parametrize(
    ("tail_ns", "share", "streams"),
    [
        (lambda _share, _streams: 1e6, LOADS[0], NARROW),
        (lambda share, _streams: 1e6 if share < 0.5 else 1e9, LOADS[3], NARROW),
        (lambda _share, streams: 1e6 if streams == WIDE else 1e9, LOADS[0], WIDE),
        # A tail that only just keeps the bound is no proof in so short a run.
        (lambda share, _streams: 11e6 if share > 0.3 else 1e6, LOADS[4], NARROW),
    ],
)
def test_server_gets_the_heaviest_load_that_kept_the_bound(
    tail_ns: Callable[[float, Streams], float], share: float, streams: Streams
) -> None:
    """Loads fall, layouts alternate; a little under the first with room is taken."""
    trials = Trials(tail_ns)
    tuned = tune_probe(probe_of(FAST), Scenario.SERVER, NOTHING, BOUND_NS, trials)

    assert tuned.loop_rate is not None
    assert tuned.target_qps == pytest.approx(share * tuned.loop_rate / SLOWDOWN)
    assert streams == tuned.streams
    assert trials.tried[-1] == (share, streams)
    assert sorted(trials.tried, key=lambda t: -t[0]) == trials.tried
    kept = f"{share:.0%} of the bare loop kept 15 ms, less 33%"
    assert tuned.note == f"{kept} for a machine that slows down"
    assert tuned.probed_share == pytest.approx(1 / 15)
    assert min(trials.seconds) >= TRIAL_S


@pytest.mark.parametrize("given", [Tuning(streams=2, threads=1), Tuning(threads=1)])
def test_streams_that_were_given_are_the_only_ones_tried(given: Tuning) -> None:
    """Another layout might keep more load, but nobody asked for it."""
    trials = Trials(lambda _share, streams: 1e6 if streams == WIDE else 1e9)
    tuned = tune_probe(probe_of(FAST), Scenario.SERVER, given, BOUND_NS, trials)

    assert tuned.streams != WIDE
    assert {tuned.streams} == {streams for _, streams in trials.tried}
    assert tuned.hopeless


def test_a_load_that_seconds_kept_has_to_keep_its_tail_too() -> None:
    """A slow engine's first trial has seen few queries: a longer one decides."""
    slow = Streams(1, 1)
    tails = iter([1e6, 1e9, 1e6, 1e6])
    trials = Trials(lambda _share, _streams: next(tails))
    engine = doubles.Double(
        partial(doubles.slow_batch, seconds=0.01), spread=(slow,), batches=(1,)
    )
    tuned = tune_probe(
        probe_of(engine), Scenario.SERVER, NOTHING, 10 * BOUND_NS, trials
    )

    assert [LOADS[0]] * 2 + [LOADS[1]] * 2 == [share for share, _ in trials.tried]
    assert tuned.loop_rate is not None
    assert tuned.target_qps == pytest.approx(LOADS[1] * tuned.loop_rate / SLOWDOWN)
    tail_s = TAIL_QUERIES / (LOADS[1] * tuned.loop_rate)
    assert trials.seconds[-1] == pytest.approx(min(LONGEST_TRIAL_S, tail_s))
    assert trials.seconds[-1] > TRIAL_S


def test_a_device_that_throttles_is_timed_when_it_has_settled() -> None:
    """The rate is that after some seconds of full load, where a provider asks so."""
    rates = []
    for settle_s in (0.0, 0.4):
        call = doubles.Warming(0.004, cold_batches=60)
        tuned = tune(
            doubles.Double(call, batches=(8,), settle_s=settle_s), Scenario.OFFLINE
        )
        rates.append(tuned.loop_rate or 0.0)
    throttled = 8 / (3 * 0.004)

    assert rates[0] > 1.02 * throttled
    assert rates[1] == pytest.approx(throttled, rel=0.02)


def test_a_bound_that_no_load_keeps_is_said_so() -> None:
    """Every load and layout is tried; the best stays, with its tail in the note."""
    tails = {0.1: 20.25e6, 0.25: 40e6}
    trials = Trials(lambda share, _streams: tails.get(share, 1e9))
    tuned = tune_probe(probe_of(FAST), Scenario.SERVER, NOTHING, BOUND_NS, trials)

    assert tuned.loop_rate is not None
    assert tuned.target_qps == pytest.approx(0.1 * tuned.loop_rate)
    assert [(share, s) for share in LOADS for s in (NARROW, WIDE)] == trials.tried
    assert tuned.note == (
        "no load tried keeps 15 ms on this machine: at best 20.2 ms "
        f"at {tuned.target_qps:.2f} queries/s"
    )


def test_a_load_with_little_room_is_better_than_none() -> None:
    """12 of 15 ms at best: the room that there is, is taken off."""
    trials = Trials(lambda _share, _streams: 12e6)
    tuned = tune_probe(probe_of(FAST), Scenario.SERVER, NOTHING, BOUND_NS, trials)

    assert tuned.loop_rate is not None
    assert tuned.hopeless == ""
    assert tuned.target_qps == pytest.approx(LOADS[-1] * tuned.loop_rate / (15 / 12))


@pytest.mark.parametrize("slower", [1.0, 1.49])
def test_a_load_is_kept_by_a_machine_that_becomes_slower(slower: float) -> None:
    """One server in a queue, whose service time grows after the probe."""
    service_s = 0.002

    def tail_ns(qps: float, factor: float) -> float:
        random, now, free, late = Random(1), 0.0, 0.0, []
        for _ in range(20_000):
            now += random.expovariate(qps)
            free = max(now, free) + service_s * factor
            late.append(free - now)
        return sorted(late)[19_800] * 1e9

    rate = 1 / service_s
    tuned = Tuned(NARROW, 1, loop_rate=rate)
    search = LoadSearch(FAST, 2, lambda: None)
    found = search.find_load(
        tuned, Scenario.SERVER, Tuning(streams=2), BOUND_NS,
        lambda tried, _: tail_ns(tried.target_qps or 0.0, 1.0),
    )  # fmt: skip
    assert found.target_qps is not None

    assert found.hopeless == ""
    assert tail_ns(found.target_qps, slower) <= BOUND_NS


def test_an_accuracy_run_tries_no_load() -> None:
    """Without a trial Server is paced at a share that any machine keeps up with."""
    tuned = tune(FAST, Scenario.SERVER, bound_ns=BOUND_NS)

    assert tuned.loop_rate is not None
    assert tuned.target_qps == pytest.approx(PACED * tuned.loop_rate)


def test_the_probe_shows_life_between_its_steps() -> None:
    """The watchdog hears of every pass and every trial."""
    beat = Counted()
    trials = Trials(lambda _share, _streams: 1e9)
    tune_probe(probe_of(FAST, beat=beat), Scenario.SERVER, NOTHING, BOUND_NS, trials)

    assert beat.beats >= len(trials.tried) + 2


@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize("size", [1, 8, 50, 200])
def test_candidates_work_on_the_same_samples(sort: bool, size: int) -> None:
    """Full batches over a fixed pick; Offline's are sorted by length, longest first."""
    lengths = np.arange(doubles.SAMPLES, dtype=np.int32)
    probe = probe_of(doubles.ECHO, lengths=lengths)
    batches = probe._batches(size, sort=sort)
    picked = [index for batch in batches for index in batch]

    assert batches == probe._batches(size, sort=sort)
    assert all(len(batch) == size for batch in batches[:-1])
    assert set(range(doubles.SAMPLES)) == set(picked)
    assert sort == (sorted(picked, reverse=True) == picked)


def test_what_an_engine_raises_ends_the_loop() -> None:
    """A pool of threads does not swallow it."""
    engines = [doubles.Stream(doubles.raising_early)]
    workload = doubles.Echo(doubles.numbers())
    with pytest.raises(RuntimeError, match="never worked"):
        bare_loop(engines, workload, [[1], [2]], 0.0)


@pytest.fixture
def runner() -> Iterator[Runner]:
    runner = Runner(stall_s=60, build_s=60)
    yield runner
    runner.close()


def test_a_server_run_is_tuned_by_real_trials_and_accuracy_takes_its_tuning(
    runner: Runner, tmp_path: Path
) -> None:
    """A short LoadGen run at 85 % keeps ten seconds' bound, however busy the machine;
    both modes run with that.
    """
    rule = replace(doubles.rule_for(Scenario.SERVER), target_latency_ns=10**10)
    changes = {"scenario": Scenario.SERVER, "rule": rule, "tuning": Tuning(batch=8)}
    job = doubles.make_task(tmp_path / "p", "SLOW_BATCH", **changes)  # type: ignore[arg-type]
    performed = runner.run(job)
    job = replace(job, mode=Mode.ACCURACY, folder=tmp_path / "a")
    scored = runner.run(job)

    texts = performed.facts.to_texts()
    kept = "85% of the bare loop kept 10000 ms, less 23%"
    assert texts["tuning"] == f"{kept} for a machine that slows down"
    assert performed.settings.target_qps == scored.settings.target_qps
    loop_rate = float(performed.facts.to_texts()["bare_loop_per_s"])
    qps = pytest.approx(0.85 * loop_rate / GPU_SLOWDOWN, rel=1e-4)
    assert performed.settings.target_qps == qps
    assert performed.facts.to_texts()["tuning"] == scored.facts.to_texts()["tuning"]
    assert scored.metrics == {"acc": 100.0}


def test_a_stream_of_equal_issue_expects_the_mean_of_the_dataset() -> None:
    """LoadGen then asks all that it lists: half the median would take four times the
    minimum duration. Samples that the probe did not meet count by their cost.
    """
    lengths = np.resize(np.array([1] * 7 + [25], np.int32), doubles.SAMPLES)
    one = replace(probe_of(doubles.SLOW_BATCH, lengths=lengths), equal_issue=True)
    batches = [[0], [1], [2], [3]]
    streams = one.provider.layouts(2)[-1]
    tuned = expect_mean(
        one.workload, streams, 1, [9.0, 9.0, 0.003, 0.003, 0.003], batches
    )

    assert tuned.latency_s == pytest.approx(0.003 * 32 / 8)
    assert tuned.expected_latency_ns == int(0.8 * 0.003 * 4 * 1e9)
    assert "mean" in one.measure(Scenario.SINGLE_STREAM, NOTHING, None).note
