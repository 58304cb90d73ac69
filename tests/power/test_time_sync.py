"""Clocks are compared by answers that were prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pytest_mlperf.power import time_sync
from pytest_mlperf.power.line_socket import PowerFailed
from pytest_mlperf.power.time_sync import TRIES
from pytest_mlperf.power.time_sync import check_remote
from pytest_mlperf.power.time_sync import read_ntp_offset
from tests.support.power_stand import serve_ntp

HELD_UP_S = 1.0
"""Half of it is more than clocks may be apart."""


@dataclass
class Clock:
    """Stands in for the ``time`` module."""

    now: float = 1_700_000_000.0

    def time(self) -> float:
        return self.now

    def director(self, *took_s: float, ahead_s: float = 0.0) -> Callable[[], str]:
        """Return what asks a director, whose answers take so long, for its time."""
        left = iter(took_s)

        def ask() -> str:
            told = self.now + ahead_s
            self.now += next(left)
            return str(told)

        return ask


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time_sync, "time", clock)
    return clock


def test_a_machine_that_was_held_up_is_no_clock_that_is_off(clock: Clock) -> None:
    """The director is asked again, and the promptest answer counts."""
    once = check_remote(clock.director(HELD_UP_S, 0.01))
    slow = check_remote(clock.director(*[HELD_UP_S] * (TRIES - 1), 0.3))

    assert once == "director's clock: +0.0 to +10.0 ms"
    assert slow == "director's clock: +0.0 to +300.0 ms"


@pytest.mark.parametrize(
    ("took_s", "ahead_s"), [((0.01,), 0.5), ((0.01,), -0.5), ((HELD_UP_S,) * TRIES, 0)]
)
def test_what_may_be_a_clock_that_is_off_is_refused(
    clock: Clock, took_s: tuple[float, ...], ahead_s: float
) -> None:
    """Told at once where the answer was prompt."""
    with pytest.raises(PowerFailed, match="should be within 400 ms"):
        check_remote(clock.director(*took_s, ahead_s=ahead_s))


def test_the_promptest_answer_of_an_ntp_server_counts() -> None:
    """The first one tells half of its way as an offset."""
    with serve_ntp(late_s=[HELD_UP_S, HELD_UP_S]) as server:
        found = read_ntp_offset(server)

    assert abs(found) < HELD_UP_S / 2 - 0.2
