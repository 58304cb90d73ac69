"""The probe, with engines whose speed is known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.engines.null import NULL
from pytest_mlperf.tuning.bare_loop import bare_loop
from pytest_mlperf.tuning.engine_probe import ANSWER_RATES
from pytest_mlperf.tuning.engine_probe import expect_mean
from pytest_mlperf.tuning.server_load import OFFLINE_MARGIN
from tests.support import calls
from tests.support import doubles
from tests.support.probing import BOUND_NS
from tests.support.probing import FAST
from tests.support.probing import NOTHING
from tests.support.probing import SideBySide
from tests.support.probing import Trials
from tests.support.probing import probe_of
from tests.support.probing import tune
from tests.support.probing import tune_probe

pytestmark = pytest.mark.usefixtures("undisturbed")


class OneOnly(doubles.Stream):
    """A stream of a device that has memory for one of them."""

    opened = 0

    def __init__(self, call: calls.Infer) -> None:
        super().__init__(call)
        OneOnly.opened += 1

    def infer(self, batch: Batch, size: int) -> Any:
        if OneOnly.opened > 1:
            raise MemoryError("one stream fills the memory")
        return super().infer(batch, size)

    def close(self) -> None:
        OneOnly.opened -= 1


@dataclass
class Counted:
    """A probe, and how often it showed life."""

    beats: int = 0

    def __call__(self) -> None:
        self.beats += 1


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
    return calls.slow_batch(batch, size, ids, 0.005)


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
    provider = SideBySide(calls.echo, spread=both, batches=(4,))
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


def test_a_device_that_throttles_is_timed_when_it_has_settled() -> None:
    """The rate is that after some seconds of full load, where a provider asks so."""
    rates = []
    for settle_s in (0.0, 0.4):
        call = calls.Warming(0.004, cold_batches=60)
        tuned = tune(
            doubles.Double(call, batches=(8,), settle_s=settle_s), Scenario.OFFLINE
        )
        rates.append(tuned.loop_rate or 0.0)
    throttled = 8 / (3 * 0.004)

    assert rates[0] > 1.02 * throttled
    assert rates[1] == pytest.approx(throttled, rel=0.02)


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
    engines = [doubles.Stream(calls.raising_early)]
    workload = doubles.Echo(doubles.numbers())
    with pytest.raises(RuntimeError, match="never worked"):
        bare_loop(engines, workload, [[1], [2]], 0.0)


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
