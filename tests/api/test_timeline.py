"""A device's own clock: what a run's facts say of it."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_mlperf.api.engine import timelines_of
from pytest_mlperf.api.timeline import Timeline
from pytest_mlperf.api.timeline import summarize


@dataclass
class Timed:
    """An engine that keeps a timeline."""

    timeline: Timeline


def test_the_summary_has_median_and_tail_of_each_part() -> None:
    """All streams count together; the queue is what the host saw beyond the device."""
    line = Timeline()
    for _ in range(999):
        line.note(10.0, 1.0, 5.0, 2.0, 32)
    line.note(50.0, 1.0, 5.0, 2.0, 32)

    assert summarize([line]) == {
        "device ms p50 / p99": "queue 2.00 / 2.00, copy in 1.00 / 1.00, "
        "compute 5.00 / 5.00, copy out 2.00 / 2.00",
        "longest batch ms": "queue 42.00, copy in 1.00, compute 5.00, copy out 2.00",
        "device batches": "1,000 of 32.0 samples",
    }


def test_clocks_that_disagree_give_no_negative_queue() -> None:
    """Host and device clocks differ by microseconds."""
    line = Timeline()
    line.note(1.0, 0.5, 0.5, 0.1, 1)

    assert line.rows[0][0] == 0.0


def test_what_warm_up_left_is_forgotten() -> None:
    """A cleared timeline says nothing."""
    line = Timeline()
    line.note(1.0, 0.1, 0.1, 0.1, 1)
    line.clear()

    assert summarize([line]) == {}


def test_only_engines_with_a_timeline_have_one() -> None:
    """An engine without is measured as before."""
    line = Timeline()

    assert timelines_of([object(), Timed(line)]) == [line]
