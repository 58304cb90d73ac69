"""The oracle: the truth after a known time, and never by mistake."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.api import registry
from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import Simulated
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.core import rounds
from pytest_mlperf.core.plan import plan_settings
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.engines.null import NULL
from pytest_mlperf.engines.oracle import BATCH_S
from pytest_mlperf.engines.oracle import ORACLE
from pytest_mlperf.engines.oracle import SLOW
from pytest_mlperf.engines.oracle import pace
from pytest_mlperf.run.preflight import planned_samples
from pytest_mlperf.tuning import simulated
from tests.support.doubles import NUMBERS
from tests.support.doubles import rule_for

CACHE = Path("cache")


def synthetic() -> TensorWorkload:
    workload = registry.benchmark("resnet50").open_workload("synthetic", None)
    assert isinstance(workload, TensorWorkload)
    return workload


def build(precision: str = "fp32") -> Build:
    return ORACLE.build(BuildRequest(synthetic(), precision, CACHE))


def test_the_answers_are_the_arrays_that_were_gathered() -> None:
    """The oracle adds nothing and takes nothing away."""
    batch = {"start": np.arange(3), "end": np.arange(3) + 10}
    outputs = ORACLE.open(build(), 1).infer(batch, 3)

    assert [list(output) for output in outputs] == [[0, 1, 2], [10, 11, 12]]


def test_a_batch_is_never_early_by_more_than_the_one_before_was_late() -> None:
    """Batches in a row take their service times together, and not less."""
    engine = ORACLE.open(build(), 1)
    began = time.monotonic()
    for _ in range(max(SLOW)):
        engine.infer({}, 1)
    took = time.monotonic() - began

    assert max(SLOW) * ORACLE.service_s(1) - BATCH_S <= took


def test_both_reported_percentiles_lie_among_slow_batches() -> None:
    """p90 is of one batch in five and p99 of one in twenty, not of the usual ones."""
    paces = sorted(pace(turn) for turn in range(max(SLOW) * 50))
    p90, p99 = (paces[int(share * len(paces))] for share in (0.9, 0.99))

    assert [paces[0], p90, p99] == [1.0, *sorted(SLOW.values())]


def test_sleeping_costs_little_of_a_processor() -> None:
    """Ten runs find room on two cores."""
    engine = ORACLE.open(build(), 1)
    wall, used = time.monotonic(), time.thread_time()
    for _ in range(50):
        engine.infer({}, 1)
    share = (time.thread_time() - used) / (time.monotonic() - wall)

    assert share < 0.2


def test_a_workload_with_questions_to_answer_is_refused() -> None:
    """Handing an image classifier's pictures back would be no answer."""
    request = BuildRequest(NUMBERS.open_workload("embedded", None), "fp32", CACHE)

    with pytest.raises(BuildFailed, match=r"embedded workload, but .* --mlperf-reh"):
        ORACLE.build(request)


def test_the_build_says_that_nothing_was_inferred() -> None:
    """A verdict's facts carry it into every report."""
    assert "nothing is inferred" in build().facts["rehearsal"]


def test_builds_differ_by_precision() -> None:
    """The digest ties accuracy and performance of one precision together."""
    assert build("int8").digest == build("int8").digest
    assert build("int8").digest != build("fp32").digest


def test_the_oracle_alone_knows_its_speed() -> None:
    """Engines that work are probed."""
    assert isinstance(ORACLE, Simulated)
    assert not isinstance(NULL, Simulated)


@pytest.mark.parametrize("scenario", [Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM])
def test_a_streams_query_list_outlasts_the_rounds_ten_minutes(
    scenario: Scenario,
) -> None:
    """LoadGen lists twice what the latency lets expect, and it is below the true."""
    size = 8 if scenario is Scenario.MULTI_STREAM else 1
    found = simulated.tune(ORACLE, scenario, Tuning(), 50_000)

    assert found.expected_latency_ns is not None
    assert 0.9 < found.expected_latency_ns / 1e9 / ORACLE.service_s(size) < 1


@pytest.mark.parametrize("samples", [43, 50_000, 788_379])
def test_an_offline_run_lasts_ten_minutes_and_not_much_more(samples: int) -> None:
    """LoadGen's own slack of 1.1 is enough, since the rate is never exceeded."""
    rule = rule_for(Scenario.OFFLINE)
    found = simulated.tune(ORACLE, Scenario.OFFLINE, Tuning(), samples)
    seeds = rounds.get("v6.1").seeds
    settings = plan_settings(
        replace(rule, min_sample_count=samples),
        seeds,
        Mode.PERFORMANCE,
        available=50_000,
        target_qps=found.target_qps,
    )
    rate = found.batch / ORACLE.service_s(found.batch)
    count = planned_samples(settings, samples)

    assert count is not None
    assert 600 < count / rate < 800


def test_server_is_asked_for_less_than_half_of_what_one_stream_gives() -> None:
    """Queries seldom wait for two others, so that the bound is kept."""
    found = simulated.tune(ORACLE, Scenario.SERVER, Tuning(), 50_000)

    assert found.target_qps is not None
    assert found.target_qps * ORACLE.service_s(1) < 0.5


def test_what_the_command_line_gives_is_taken() -> None:
    """A rehearsal of a rate or a latency is a rehearsal of that."""
    given = Tuning(target_qps=12.5, expected_latency_ms=2.0, batch=16)
    offline = simulated.tune(ORACLE, Scenario.OFFLINE, given, 100)
    stream = simulated.tune(ORACLE, Scenario.SINGLE_STREAM, given, 100)

    assert (offline.batch, offline.target_qps) == (16, 12.5)
    assert stream.expected_latency_ns == 2_000_000
