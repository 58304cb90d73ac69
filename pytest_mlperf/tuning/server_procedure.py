"""The order in which NVIDIA's guide tunes a Server cell.

Find the peak load, sweep the other settings at that load, keep those of the lowest
latency, and begin again, until nothing changes. Every loop here has an end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_mlperf.core.load_trials import CONFIRMATION
from pytest_mlperf.tuning.grid_file import Point
from pytest_mlperf.tuning.peak_search import CONFIRMED
from pytest_mlperf.tuning.peak_search import TOLERANCE
from pytest_mlperf.tuning.peak_search import Peak
from pytest_mlperf.tuning.peak_search import format_rate

MOST_ROUNDS = 6
"""Peaks that are searched at most."""


@dataclass(frozen=True, slots=True)
class ServerRound:
    """One peak: of these settings."""

    point: Point
    qps: float
    is_confirmed: bool = True
    """False: short runs keep the load, and no whole run does. Good for a sweep."""


def read_round(point: Point, peak: Peak) -> ServerRound | None:
    """Return the round of a peak; None where the machine gave no answer."""
    if peak.outcome == CONFIRMED and peak.qps is not None:
        return ServerRound(point, peak.qps)
    last = peak.trials[-1] if peak.trials else None
    if last and last.kind == CONFIRMATION and not last.is_disturbed:
        return ServerRound(point, last.qps, is_confirmed=False)
    return None


@dataclass(frozen=True, slots=True)
class ServerTuned:
    """What the procedure ended with."""

    rounds: tuple[ServerRound, ...]
    reason: str
    """Why it ended, in words."""

    @property
    def best(self) -> ServerRound | None:
        """The round with the largest confirmed load; None where none has one."""
        confirmed = [one for one in self.rounds if one.is_confirmed]
        return max(confirmed, key=lambda one: one.qps, default=None)


def tune_server(
    first: Point,
    find_peak: Callable[[Point], ServerRound | None],
    find_fastest: Callable[[float], Point | None],
) -> ServerTuned:
    """Return the settings with the largest load, and the rounds that led there.

    ``find_peak``: settings -> the largest load that they keep.
    ``find_fastest``: a load -> the settings with the lowest latency there.
    """
    rounds: list[ServerRound] = []
    point = first
    while len(rounds) < MOST_ROUNDS:
        found = find_peak(point)
        if found is None:
            return ServerTuned(tuple(rounds), "no peak was found with these settings")
        qps, best = found.qps, max((one.qps for one in rounds), default=0.0)
        rounds.append(found)
        if qps <= best * (1 + TOLERANCE):
            reason = f"the peak rises no more: {format_rate(qps)} after "
            return ServerTuned(tuple(rounds), reason + format_rate(best))
        fastest = find_fastest(qps)
        if fastest is None:
            return ServerTuned(tuple(rounds), "no combination runs at that load")
        if fastest in [one.point for one in rounds]:
            reason = "no other settings have a lower latency at that load"
            return ServerTuned(tuple(rounds), reason)
        point = fastest
    return ServerTuned(tuple(rounds), f"{MOST_ROUNDS} rounds are the most")
