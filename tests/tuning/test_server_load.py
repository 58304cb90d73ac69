"""The load that Server is given: trials by engines whose speed is known."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest

from pytest_mlperf.api.engine import Streams
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.plan import plan_settings
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.engines.null import NULL
from pytest_mlperf.run.preflight import check_time
from pytest_mlperf.run.tuning_cache import find_least_qps
from pytest_mlperf.runner.runner import Runner
from pytest_mlperf.sut.tuned_load import Tuned
from pytest_mlperf.tuning.server_load import GPU_SLOWDOWN
from pytest_mlperf.tuning.server_load import HOPELESS_X
from pytest_mlperf.tuning.server_load import LITTLE_ROOM
from pytest_mlperf.tuning.server_load import LOADS
from pytest_mlperf.tuning.server_load import LONGEST_TRIAL_S
from pytest_mlperf.tuning.server_load import PACED
from pytest_mlperf.tuning.server_load import SLOWDOWN
from pytest_mlperf.tuning.server_load import TAIL_QUERIES
from pytest_mlperf.tuning.server_load import TRIAL_S
from pytest_mlperf.tuning.server_load import LoadSearch
from pytest_mlperf.tuning.server_load import refuse_hopeless_load
from tests.support import calls
from tests.support import doubles
from tests.support.probing import BOUND_NS
from tests.support.probing import FAST
from tests.support.probing import NARROW
from tests.support.probing import NOTHING
from tests.support.probing import WIDE
from tests.support.probing import Trials
from tests.support.probing import probe_of
from tests.support.probing import tune
from tests.support.probing import tune_probe

pytestmark = pytest.mark.usefixtures("undisturbed")


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


def test_a_heavy_load_that_was_lucky_once_is_not_taken() -> None:
    """Trials of a bert-99.9 on a machine that paused: at 0.55 one kept the bound by
    luck, and its run had 9 % of its queries late.
    """
    shares = {
        (0.55, NARROW): 0.86, (0.55, WIDE): 1.38, (0.4, NARROW): 1.08,
        (0.4, WIDE): 1.28, (0.25, NARROW): 0.94, (0.25, WIDE): 1.48,
    }  # fmt: skip
    trials = Trials(lambda load, streams: BOUND_NS * shares.get((load, streams), 1.8))
    probe = probe_of(FAST)
    tuned = tune_probe(probe, Scenario.SERVER, NOTHING, BOUND_NS, trials)

    assert tuned.loop_rate is not None
    expected = 0.25 * tuned.loop_rate * max(0.94, 1 / SLOWDOWN)
    assert tuned.target_qps == pytest.approx(expected)
    assert tuned.streams == NARROW


@pytest.mark.parametrize("given", [Tuning(streams=2, threads=1), Tuning(threads=1)])
def test_streams_that_were_given_are_the_only_ones_tried(given: Tuning) -> None:
    """Another layout might keep more load, but nobody asked for it."""
    trials = Trials(lambda _share, streams: 1e6 if streams == WIDE else 1e9)
    tuned = tune_probe(probe_of(FAST), Scenario.SERVER, given, BOUND_NS, trials)

    assert tuned.streams != WIDE
    assert {tuned.streams} == {streams for _, streams in trials.tried}
    assert tuned.hopeless


@pytest.mark.parametrize("tail_ns", [1e6, BOUND_NS / 1.4])
@pytest.mark.parametrize("room", [1.2, 1.01])
def test_a_load_is_not_so_low_that_its_run_is_refused(
    tail_ns: float, room: float
) -> None:
    """The machine may become less slow then, by a twentieth at least."""
    trials = Trials(lambda share, _streams: tail_ns if share == LOADS[-1] else 1e9)
    probe = probe_of(FAST)
    measured = probe.measure(Scenario.SERVER, NOTHING, BOUND_NS)
    kept = LOADS[-1] * (measured.loop_rate or 0.0)
    search = LoadSearch(probe.provider, probe.cpus, probe.beat, least_qps=kept / room)
    tuned = search.find_load(measured, Scenario.SERVER, NOTHING, BOUND_NS, trials)

    assert tuned.target_qps == pytest.approx(kept / max(room, LITTLE_ROOM))
    less = 1 - 1 / max(room, LITTLE_ROOM)
    assert tuned.note.endswith(f"less {less:.0%} for a machine that slows down")


def test_the_least_load_is_one_whose_run_is_in_time(tmp_path: Path) -> None:
    """Without a limit there is none."""
    task = doubles.make_task(tmp_path, scenario=Scenario.SERVER, seconds=60)
    limited = replace(task, time_limit_s=180.0)
    qps = find_least_qps(limited)
    settings = plan_settings(
        task.rule, task.seeds, task.mode, available=64, shortening=task.shortening,
        target_qps=qps,
    )  # fmt: skip

    assert find_least_qps(task) == 0
    check_time(settings, 180.0, "")
    with pytest.raises(RunRefused, match="may take 180 s"):
        check_time(replace(settings, target_qps=0.97 * qps), 180.0, "")


def test_a_load_that_seconds_kept_has_to_keep_its_tail_too() -> None:
    """A slow engine's first trial has seen few queries: a longer one decides."""
    slow = Streams(1, 1)
    tails = iter([1e6, 1e9, 1e6, 1e6])
    trials = Trials(lambda _share, _streams: next(tails))
    engine = doubles.Double(
        partial(calls.slow_batch, seconds=0.01), spread=(slow,), batches=(1,)
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
