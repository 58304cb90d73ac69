"""Two sessions' runs of a cell: faster, slower, the same, or no answer."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.core.comparison import ASSUMED_NOISE
from pytest_mlperf.core.comparison import CellComparison
from pytest_mlperf.core.comparison import Change
from pytest_mlperf.core.comparison import compare_runs
from pytest_mlperf.core.comparison import compare_sessions
from pytest_mlperf.core.comparison import list_unselected
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

PASS = Check("seeds", Status.PASS, "v6.1's", "v6.1's", "log")
OFFLINE = Verdict(
    "resnet50", "Offline", "onnxruntime", "performance", "v6.1",
    Metric("result_samples_per_second", 100.0, "samples/s"), (PASS,), ("embedded",),
)  # fmt: skip
SERVER = replace(
    OFFLINE,
    scenario="Server",
    metric=Metric("result_completed_samples_per_sec", 50.0, "queries/s"),
    limit=Metric("target_latency", 15.0, "ms"),
    percentile=0.99,
    at_percentile=Metric("result_99.00_percentile_latency_ns", 10.0, "ms"),
)
STREAM = replace(
    OFFLINE,
    scenario="SingleStream",
    metric=Metric("result_90.00_percentile_latency_ns", 8.0, "ms"),
)


def at(verdict: Verdict, value: float, **run: object) -> Verdict:
    """Return a run with another figure."""
    assert verdict.metric
    facts = replace(verdict.run, **run)  # type: ignore[arg-type]
    return replace(verdict, metric=replace(verdict.metric, value=value), run=facts)


@pytest.mark.parametrize(
    ("old", "new", "change", "ratio"),
    [
        (OFFLINE, at(OFFLINE, 120.0), Change.FASTER, 1.2),
        (OFFLINE, at(OFFLINE, 80.0), Change.SLOWER, 0.8),
        (OFFLINE, at(OFFLINE, 95.0), Change.SAME, 0.95),
        (STREAM, at(STREAM, 4.0), Change.FASTER, 2.0),
        (STREAM, at(STREAM, 16.0), Change.SLOWER, 0.5),
        (SERVER, at(SERVER, 25.0), Change.SLOWER, 0.5),
    ],
)
def test_a_ratio_is_one_of_speeds(
    old: Verdict, new: Verdict, change: Change, ratio: float
) -> None:
    """Above 1 is faster, of rates and of latencies."""
    found = compare_runs([old], [new])

    assert found.change is change
    assert found.ratio == pytest.approx(ratio)
    assert found.noise == pytest.approx(ASSUMED_NOISE)


def test_a_load_that_a_second_run_lowered_is_told() -> None:
    """What looks slower may be a busy machine's first run."""
    first = {"outcome": "INVALID", "figure": "50 queries/s", "cause": "late"}
    first |= {"change": "target_qps 50 to 25", "folder": "logs"}
    lower = at(SERVER, 25.0, first_run=first)
    notes = compare_runs([SERVER], [lower]).notes, compare_runs([lower], [SERVER]).notes

    told = "second run: target_qps 50 to 25, the first was INVALID at 50 queries/s"
    assert notes == ((f"{told} (now)",), (f"{told} (before)",))


def test_server_runs_at_one_load_are_compared_by_their_latency() -> None:
    """They complete what they are given."""
    late = replace(SERVER, at_percentile=Metric("p99", 14.0, "ms"))
    found = compare_runs([SERVER], [at(late, 50.2)])

    assert found.change is Change.SLOWER
    assert found.figure == "p99 ms at 50.2 queries/s"
    assert found.ratio == pytest.approx(10 / 14)


TOKENS = replace(
    SERVER,
    metric=Metric("result_completed_tokens_per_second", 550.0, "tokens/s"),
    limit=Metric("ttft_ns", 2000.0, "ms"),
    at_percentile=Metric("first_token", 40.0, "ms"),
    tpot=Metric("tpot", 8.0, "ms"),
    tpot_limit=Metric("tpot_ns", 100.0, "ms"),
    run=RunFacts(target_qps=97.6, requests=500),
)


def test_each_latency_of_tokens_may_become_worse_alone() -> None:
    """The gate looked at the first token's only."""
    slow = replace(TOKENS, tpot=Metric("tpot", 16.0, "ms"))
    found = compare_runs([TOKENS], [slow])
    back = compare_runs([slow], [TOKENS])

    assert found.change is Change.SLOWER
    assert found.is_below(0.9)
    assert str(found) == (
        "resnet50 Server on onnxruntime: slower; 8 -> 16 TPOT p99 ms at 550 tokens/s, "
        "ratio 0.500, noise 0.120; 40 -> 40 TTFT p99 ms at 550 tokens/s, ratio 1.000"
    )
    assert back.change is Change.SAME
    assert back.notes == ("16 -> 8 TPOT p99 ms at 550 tokens/s, ratio 2.000",)


def test_a_load_is_what_runs_were_given() -> None:
    """A short run whose last answers come late completes 7 % less of it a second: a
    first token that took four times as long was called the same.
    """
    late = replace(TOKENS, at_percentile=Metric("first_token", 160.0, "ms"))
    short = at(late, 514.0)
    other_load = replace(short, run=replace(short.run, target_qps=110.0))
    unknown = replace(short, run=replace(short.run, target_qps=None))

    assert compare_runs([TOKENS], [short]).ratio == pytest.approx(0.25)
    for one in (other_load, unknown):
        assert compare_runs([TOKENS], [one]).figure == "tokens/s"


def test_an_answer_that_comes_at_once_has_no_time_a_further_token() -> None:
    """LoadGen counts none; nothing is divided by it."""
    at_once = replace(TOKENS, tpot=Metric("tpot", 0.0, "ms"))
    found = compare_runs([at_once], [TOKENS])

    assert found.change is Change.SAME
    assert found.figure == "TTFT p99 ms at 550 tokens/s"


def test_another_url_is_no_other_build() -> None:
    """A CI's server has another port each time."""
    found = compare_runs([TOKENS], [replace(TOKENS, build="1")])

    assert found.notes[-1] == "another URL, model or option of the server"


def test_the_spread_of_a_run_s_rates_is_its_noise() -> None:
    """A steady run shows a difference that is below the assumed noise."""
    old, new = at(OFFLINE, 100.0, rate_error=0.002), at(OFFLINE, 97.0, rate_error=0.004)

    found = compare_runs([old], [new])

    assert found.change is Change.SLOWER
    assert found.noise == pytest.approx(3 * math.hypot(0.002, 0.004))
    assert compare_runs([old], [at(new, 97.0, rate_error=0.02)]).change is Change.SAME


def test_a_slowdown_of_less_than_allowed_is_not_below() -> None:
    """It is more than noise, and the user allows it."""
    old, new = at(OFFLINE, 100.0, rate_error=0.002), at(OFFLINE, 98.0, rate_error=0.002)
    found = compare_runs([old], [new])

    assert found.change is Change.SLOWER
    assert found.is_below(0.99)
    assert not found.is_below(0.97)


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (replace(OFFLINE, labels=()), "labels differ: embedded before, none now"),
        (replace(OFFLINE, round="v5.1"), "round differ"),
        (
            replace(OFFLINE, checks=(replace(PASS, status=Status.WAIVED),)),
            "waived rules differ: none before, seeds now",
        ),
        (
            replace(OFFLINE, checks=(replace(PASS, status=Status.FAIL),)),
            "no VALID run now: none is VALID",
        ),
    ],
)
def test_what_measures_something_else_is_not_compared(new: Verdict, why: str) -> None:
    """However its figures are."""
    found = compare_runs([OFFLINE], [new])

    assert found.change is Change.INCOMPARABLE
    assert found.why.startswith(why)
    assert found.ratio is None
    assert not found.is_below(0.95)


def test_a_cell_that_never_ran_before_has_no_ratio() -> None:
    """It says so."""
    found = compare_runs([], [OFFLINE])

    assert str(found) == (
        "resnet50 Offline on onnxruntime: not comparable; no VALID run before: none ran"
    )


def test_a_contended_run_is_inconclusive() -> None:
    """Whichever of the two it was."""
    busy = at(OFFLINE, 50.0, others_share=0.4)

    for old, new in [(busy, OFFLINE), (OFFLINE, busy)]:
        found = compare_runs([old], [new])
        assert found.change is Change.INCONCLUSIVE
        assert found.why == "a run had other load of 40% of its CPUs"
        assert not found.is_below(0.95)


def repeat(generator: random.Random, speed: float) -> list[Verdict]:
    """Return 20 runs of a cell whose figures spread by 2 %."""
    return [at(OFFLINE, speed * generator.uniform(0.99, 1.01)) for _ in range(20)]


@pytest.mark.parametrize("seed", range(20))
def test_a_planted_slowdown_of_5_percent_is_found(seed: int) -> None:
    """And none is reported where there is none."""
    generator = random.Random(seed)
    old, same, slow = (repeat(generator, x) for x in (100.0, 100.0, 95.0))

    assert compare_runs(old, same).change is Change.SAME
    found = compare_runs(old, slow)
    assert found.change is Change.SLOWER
    assert found.is_below(0.97)


@given(value=st.floats(1e-3, 1e6), factor=st.floats(0.01, 100))
def test_comparing_the_other_way_round_turns_the_answer(
    value: float, factor: float
) -> None:
    """Faster becomes slower, by the inverse ratio."""
    old, new = at(OFFLINE, value), at(OFFLINE, value * factor)
    there, back = compare_runs([old], [new]), compare_runs([new], [old])
    assert there.ratio
    assert back.ratio

    assert there.ratio * back.ratio == pytest.approx(1)
    assert (there.change, back.change) != (Change.FASTER, Change.FASTER)


def make_session(host: str, verdicts: Sequence[Verdict]) -> SessionResults:
    records = tuple(
        Record(f"t::{number}", "passed", {"mode": "performance"}, verdict)
        for number, verdict in enumerate(verdicts)
    )
    header = {"host": host, "system": {"name": "box"}}
    return SessionResults(header, records, {"exitstatus": 0, "interrupted": False})


def test_sessions_are_compared_cell_by_cell() -> None:
    """Accuracy runs are no part of it; another machine and build are named."""
    accuracy = replace(OFFLINE, mode="accuracy", metric=Metric("acc", 76.0, "%"))
    rebuilt = replace(OFFLINE, build="1", run=RunFacts(precision="int8"))
    old = make_session("a", [OFFLINE, accuracy, STREAM])
    first, second = compare_sessions(old, make_session("b", [STREAM, rebuilt]))

    assert [first.name, second.name] == [
        "resnet50 SingleStream on onnxruntime", "resnet50 Offline on onnxruntime",
    ]  # fmt: skip
    assert (second.old, second.new) == (100.0, 100.0)
    assert first.notes == ("another machine: a box before, b box now",)
    assert second.notes[1:] == (
        "precision:  before, int8 now", "another build of the engine",
    )  # fmt: skip
    assert isinstance(second, CellComparison)


def test_what_was_selected_and_not_measured_has_no_answer() -> None:
    """A gate that passes over it would call a lost benchmark a good one."""
    old = make_session("a", [OFFLINE, SERVER, STREAM])
    cell = {
        "benchmark": "resnet50", "target": "", "scenario": "server",
        "engine": "onnxruntime", "mode": "performance",
    }  # fmt: skip
    skipped = Record("t::s", "skipped", cell, reason="no onnxruntime; pip install it\n")
    never_before = Record("t::b", "skipped", cell | {"benchmark": "dlrm-v3"})
    done = make_session("a", [OFFLINE])
    new = replace(done, records=(*done.records, skipped, never_before))
    first, second = compare_sessions(old, new)

    assert first.change is Change.SAME
    assert str(second) == (
        "resnet50 Server on onnxruntime: not comparable; no VALID run now: skipped: no "
        "onnxruntime; pip install it"
    )
    assert not second.has_answer
    assert list_unselected(old, new) == ["resnet50 SingleStream on onnxruntime"]


def test_what_a_test_asserts_takes_no_figure_away() -> None:
    """A run that --mlperf-fail-below refused was not comparable any more, and was no
    baseline either; one that did not end has no figure.
    """
    old = make_session("a", [OFFLINE])
    slower = make_session("a", [at(OFFLINE, 50.0)])
    (record,) = slower.records
    failed = replace(record, outcome="failed", reason="slower; 100 -> 50")
    broken = replace(record, outcome="error", reason="teardown")
    refused, torn = (replace(slower, records=(one,)) for one in (failed, broken))
    (now,), (before,), (none,) = (
        compare_sessions(*pair)
        for pair in [(old, refused), (refused, old), (old, torn)]
    )

    assert (now.change, now.ratio) == (Change.SLOWER, 0.5)
    assert (before.change, before.ratio) == (Change.FASTER, 2.0)
    assert none.change is Change.INCOMPARABLE
