"""What a CI shows of a verdict: its cause, and its figures in junit and output."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.plugin.other_plugins import describe_figures
from pytest_mlperf.reporting import junit
from tests.support.exported_session import FEW
from tests.support.exported_session import FINE
from tests.support.exported_session import LATE
from tests.support.exported_session import LOADGEN
from tests.support.exported_session import SLOW


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        ((LOADGEN, FEW, LATE), "p99 50.1 ms > 15 ms at 12.5 queries/s"),
        ((LOADGEN, FEW), "early_stopping: 5 queries, should be at least 64"),
        ((LOADGEN,), "loadgen_validity: INVALID, should be VALID"),
        ((LATE, replace(FEW, status=Status.ERROR)), "early_stopping: 5 queries"),
        ((), "no rule was checked"),
    ],
)
def test_the_root_cause_is_the_first_line(
    checks: tuple[Check, ...], words: str
) -> None:
    """What others follow from, with its figures, as a CI cuts a message."""
    verdict = replace(SLOW, checks=checks)

    assert verdict.cause.startswith(words)
    assert verdict.explain().splitlines()[0] == verdict.cause


def test_a_valid_run_has_no_cause() -> None:
    """Its first line is its title."""
    assert FINE.cause == ""
    assert FINE.explain().startswith("bert-99 Server performance (torch): VALID")


def test_a_cause_is_one_short_line() -> None:
    """However long a server's answer was."""
    check = replace(FEW, found="line\n" * 1000)
    cause = replace(SLOW, checks=(check,)).cause

    assert len(cause) < 310
    assert "\n" not in cause


def test_junit_has_the_figures_as_numbers() -> None:
    """Limit, p99 and other load, each by itself."""
    found = dict(junit.list_properties(SLOW))

    assert float(found["mlperf.limit.value"]) == 15.0
    assert float(found["mlperf.latency.value"]) == 50.1
    assert float(found["mlperf.percentile"]) == 0.99
    assert float(found["mlperf.others_share"]) == 0.25
    assert found["mlperf.cause"] == SLOW.cause


def test_junit_has_the_time_per_token_as_a_number() -> None:
    """Beside that to the first token; it was in a line of words alone."""
    tpot, limit = Metric("tpot", 14.7, "ms"), Metric("tpot_ns", 100.0, "ms")
    found = dict(junit.list_properties(replace(SLOW, tpot=tpot, tpot_limit=limit)))

    assert found["mlperf.tpot.value"] == "14.7"
    assert found["mlperf.tpot.unit"] == "ms"
    assert found["mlperf.tpot.limit.value"] == "100.0"
    assert not any("tpot" in name for name in dict(junit.list_properties(SLOW)))


def test_a_passed_items_figures_are_in_its_output() -> None:
    """The latency with its limit beside the rate: a CI shows system-out alone."""
    stream = replace(FINE, metric=Metric("m", 7.25, "ms"), limit=None)

    assert [*describe_figures(FINE)] == ["  12.5 queries/s", "  p99 7.25 ms of 15 ms"]
    assert [*describe_figures(stream)] == ["  7.25 ms", "  p99 7.25 ms"]
