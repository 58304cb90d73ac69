"""Several runs of an item: whose verdict it has, and what a comparison sees."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_mlperf.core.comparison import Change
from pytest_mlperf.core.comparison import compare_runs
from pytest_mlperf.core.repeats import combine_runs
from pytest_mlperf.core.verdict import REPEATS
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

PASS = Check("seeds", Status.PASS, "v6.1's", "v6.1's", "log")
FAIL = replace(PASS, status=Status.FAIL)


def run(figure: float, *, valid: bool = True, unit: str = "samples/s") -> Verdict:
    """Return a run's verdict, whose folder is named by its figure."""
    return Verdict(
        "bert-99", "Offline", "torch", "performance", "v6.1",
        Metric("rate", figure, unit), (PASS if valid else FAIL,),
        folder=f"logs/{figure:g}",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("runs", "rule", "figure", "outcome"),
    [
        ((run(3), run(1), run(2)), "median", 2, "VALID"),
        ((run(4), run(1), run(2), run(3)), "median", 2, "VALID"),
        ((run(1, unit="ms"), run(2, unit="ms")), "median", 2, "VALID"),
        ((run(3), run(1), run(2, valid=False)), "median", 2, "INVALID"),
        ((run(3), run(1, valid=False), run(2)), "median", 2, "VALID"),
        ((run(3), run(2), run(1, valid=False)), "all", 1, "INVALID"),
        ((run(3), run(2), run(1)), "all", 2, "VALID"),
        ((run(9, valid=False), run(1, valid=False), run(2)), "any", 2, "VALID"),
        ((run(3, valid=False), run(1, valid=False)), "any", 1, "INVALID"),
    ],
)
def test_the_rule_chooses_the_run(
    runs: tuple[Verdict, ...], rule: str, figure: float, outcome: str
) -> None:
    """One that really ran, with all of them behind it."""
    verdict = combine_runs(runs, rule)

    assert verdict.metric is not None
    assert verdict.metric.value == figure
    assert verdict.outcome == outcome
    assert verdict.repeats == runs
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_at_one_load_the_latency_tells() -> None:
    """A Server run completes what it is given."""
    runs = [
        replace(run(rate), at_percentile=Metric("p99", late, "ms"), percentile=0.99)
        for rate, late in ((5.01, 7.0), (5.02, 9.0), (5.0, 8.0))
    ]

    assert combine_runs(runs, "median").at_percentile == Metric("p99", 8.0, "ms")


def test_a_run_without_a_figure_is_the_slowest() -> None:
    """It ended in an error."""
    broken = replace(run(0, valid=False), metric=None)

    assert combine_runs((broken, run(2), run(3)), "median").folder == "logs/2"
    assert combine_runs((broken, run(2), run(3)), "all").folder == "logs/0"


def test_each_run_is_told() -> None:
    """With the spread, the rule and the chosen folder."""
    text = combine_runs((run(98), run(102), run(100.5, valid=False)), "any")

    assert text.facts[REPEATS] == (
        "3 runs, 2 VALID; min 98, median 100.5, max 102 samples/s; verdict of 98 by "
        "rule any; 98 VALID 98 samples/s; 102 VALID 102 samples/s; 100.5 INVALID 100.5 "
        "samples/s"
    )


def test_repeats_are_the_noise_of_a_comparison() -> None:
    """Half their range on each side; without them a twentieth is lost in what is
    assumed.
    """
    old = combine_runs((run(99), run(100), run(101)), "median")
    new = combine_runs((run(94), run(95), run(96)), "median")

    assert compare_runs([run(100)], [run(95)]).change is Change.SAME
    assert compare_runs([old], [new]).change is Change.SLOWER
    assert compare_runs([old], [new]).noise == pytest.approx(0.0145, abs=1e-4)
    assert compare_runs([old], [old]).change is Change.SAME
