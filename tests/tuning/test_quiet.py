"""What others disturb is measured again."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence

import pytest

from pytest_mlperf.machine.cpu_usage import CpuTime
from pytest_mlperf.tuning.quiet import QuietMeter


def reading(*shares: float) -> Callable[[], CpuTime]:
    """Return a clock of one CPU that others use so much of, measurement by measurement.

    Each measurement reads it twice.
    """
    states, busy = [], 0
    for number, share in enumerate(shares):
        states.append(CpuTime(100 * number, busy, 0, 0))
        busy += int(100 * share)
        states.append(CpuTime(100 * number + 100, busy, 0, 0))
    left = iter(states)
    return lambda: next(left)


@pytest.mark.parametrize(
    ("shares", "costs", "expected", "tried"),
    [
        ((0.0,), (5.0,), 5.0, 1),
        ((0.6, 0.0), (5.0, 3.0), 3.0, 2),
        ((0.6, 0.6), (3.0, 5.0), 3.0, 2),
    ],
)
def test_a_disturbed_measurement_is_repeated_once(
    shares: Sequence[float], costs: Sequence[float], expected: float, tried: int
) -> None:
    """And the better of the two counts: others only make it worse."""
    given, done = iter(costs), []

    def measure() -> float:
        done.append(next(given))
        return done[-1]

    meter = QuietMeter(reading(*shares))

    assert meter.measure(measure, float) == expected
    assert len(done) == tried
    assert ("other programs used 60%" in meter.note) is (shares[-1] > 0)


def test_what_is_good_although_disturbed_is_taken() -> None:
    """Without others it would be better still."""
    meter = QuietMeter(reading(0.6))

    assert meter.measure(lambda: 2.0, float, lambda found: found < 3) == 2.0


def test_no_more_than_some_seconds_are_spent_on_repetitions() -> None:
    """A slow service's trial takes half a minute."""
    meter = QuietMeter(reading(0.6), spare_s=-1.0)

    assert meter.measure(lambda: 2.0, float) == 2.0


def test_where_nobody_can_tell_nothing_is_repeated() -> None:
    """The CPUs of another machine are not watched."""
    meter = QuietMeter()

    assert meter.measure(lambda: 2.0, float) == 2.0
    assert meter.note == ""
