"""Peak and sweep by turns, on servers whose capacity at each setting is known."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pytest_mlperf.tuning.grid_file import Point
from pytest_mlperf.tuning.peak_search import PeakSearch
from pytest_mlperf.tuning.queue_model import RunLength
from pytest_mlperf.tuning.server_procedure import MOST_ROUNDS
from pytest_mlperf.tuning.server_procedure import ServerRound
from pytest_mlperf.tuning.server_procedure import ServerTuned
from pytest_mlperf.tuning.server_procedure import read_round
from pytest_mlperf.tuning.server_procedure import tune_server
from tests.support.queue_double import PERCENTILE
from tests.support.queue_double import QueueDouble

WHOLE_S, SWEEP_S, BOUND_S = 600.0, 60.0, 0.03


def settings(number: int) -> Point:
    return (("batch", str(number)),)


class Bench:
    """A server for each setting, with counts of what was asked."""

    def __init__(self, service_s: Mapping[int, float], seed: int) -> None:
        self.servers = {
            settings(n): QueueDouble(s, BOUND_S, seed) for n, s in service_s.items()
        }
        self.peaks = 0
        self.sweeps = 0

    def find_peak(self, point: Point) -> ServerRound | None:
        self.peaks += 1
        server = self.servers[point]
        length = RunLength(459, WHOLE_S)
        search = PeakSearch(server.run, PERCENTILE, BOUND_S, length)
        peak = search.confirm(
            search.find(server.rate), lambda qps: server.confirm(qps, WHOLE_S)
        )
        return read_round(point, peak)

    def find_fastest(self, qps: float) -> Point | None:
        self.sweeps += 1
        shares = {
            point: server.run(qps, SWEEP_S).latency_share
            for point, server in self.servers.items()
        }
        return min(shares, key=shares.__getitem__)

    def tune(self) -> ServerTuned:
        return tune_server(settings(1), self.find_peak, self.find_fastest)


@pytest.mark.parametrize("seed", range(5))
def test_it_ends_with_the_setting_that_keeps_most(seed: int) -> None:
    """From the worst setting, within 3 % of the best one's own peak."""
    service_s = {1: 0.006, 2: 0.005, 4: 0.003, 8: 0.002, 16: 0.004}
    bench = Bench(service_s, seed)

    tuned = bench.tune()

    best = Bench(service_s, 99).find_peak(settings(8))
    assert tuned.best is not None
    assert best is not None
    assert tuned.best.point == settings(8)
    assert tuned.best.qps == pytest.approx(best.qps, rel=0.03)
    assert (bench.peaks, bench.sweeps) == (2, 2)
    assert "no other settings have a lower latency" in tuned.reason


def test_a_peak_that_rises_no_more_ends_it_and_the_better_one_stays() -> None:
    """The sweep's favourite keeps no more load than what was there before."""
    peaks = [ServerRound(settings(1), 100.0), ServerRound(settings(2), 101.0)]
    known = {one.point: one for one in peaks}

    tuned = tune_server(settings(1), known.get, lambda _: settings(2))

    assert tuned.best is not None
    assert tuned.best.point == settings(2)
    assert tuned.reason == "the peak rises no more: 101 after 100"


def test_it_ends_after_the_most_rounds_and_without_a_peak() -> None:
    """A sweep that always likes something new, a machine that keeps no load."""
    loads = iter(range(100, 1000, 100))
    new = iter(range(2, 50))
    tuned = tune_server(
        settings(1),
        lambda point: ServerRound(point, next(loads), is_confirmed=False),
        lambda _: settings(next(new)),
    )
    assert tuned.best is None
    assert len(tuned.rounds) == MOST_ROUNDS

    none = tune_server(settings(1), lambda _: None, lambda _: settings(1))
    assert (none.best, none.reason) == (None, "no peak was found with these settings")

    halted = tune_server(settings(1), lambda p: ServerRound(p, 5.0), lambda _: None)
    assert halted.best is not None
    assert halted.reason == "no combination runs at that load"
