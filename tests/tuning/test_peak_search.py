"""The search for the largest load, on servers whose capacity is known."""

from __future__ import annotations

import pytest

from pytest_mlperf.core.load_trials import CONFIRMATION
from pytest_mlperf.core.load_trials import estimate_late_share
from pytest_mlperf.tuning import peak_search
from pytest_mlperf.tuning.peak_search import CONFIRMED
from pytest_mlperf.tuning.peak_search import HOPELESS
from pytest_mlperf.tuning.peak_search import UNFIT
from pytest_mlperf.tuning.peak_search import Peak
from pytest_mlperf.tuning.peak_search import PeakSearch
from pytest_mlperf.tuning.queue_model import RunLength
from tests.support.queue_double import PERCENTILE
from tests.support.queue_double import QueueDouble

WHOLE_S = 600.0
"""What a round's run takes."""
LOADS, REPEATS = 20, 5
"""Of the brute-force scan."""


def search(server: QueueDouble, seconds: float = WHOLE_S) -> Peak:
    """Return the peak, confirmed where it can be."""
    found = PeakSearch(server.run, PERCENTILE, server.bound_s, RunLength(459, seconds))
    return found.confirm(
        found.find(server.rate), lambda qps: server.confirm(qps, seconds)
    )


def scan(server: QueueDouble, middle: float) -> float:
    """Return the highest of 20 loads at which most of 5 whole runs are VALID."""
    best = 0.0
    for number in range(LOADS):
        qps = middle * (0.9 + 0.01 * number)
        good = sum(server.confirm(qps, WHOLE_S)[0] for _ in range(REPEATS))
        if good > REPEATS / 2:
            best = qps
    return best


@pytest.mark.parametrize(
    ("service_s", "bound_s"),
    [(0.002, 0.015), (0.004, 0.13)],
    ids=["short-line", "long-line"],
)
def test_ten_searches_find_what_a_scan_finds_in_a_tenth_of_its_time(
    service_s: float, bound_s: float
) -> None:
    """Within 3 %, ten times in a row: the virtual clock counts the seconds."""
    searches = [QueueDouble(service_s, bound_s, seed) for seed in range(10)]
    peaks = [search(server) for server in searches]
    scanned = QueueDouble(service_s, bound_s, 99)
    middle = sorted(peak.qps or 0.0 for peak in peaks)[5]
    best = scan(scanned, middle)

    assert [peak.outcome for peak in peaks] == [CONFIRMED] * 10
    assert [peak.qps for peak in peaks] == pytest.approx([best] * 10, rel=0.03)
    assert max(server.clock_s for server in searches) <= scanned.clock_s / 10
    assert all(peak.trials[-1].kind == CONFIRMATION for peak in peaks)


@pytest.mark.parametrize("seed", range(5))
def test_a_visible_neighbour_is_named_and_no_value_given(seed: int) -> None:
    """It takes half of the CPUs from some trial on: the search says so, and ends."""
    begins_s = 40.0 * seed
    server = QueueDouble(
        0.002, 0.015, seed,
        slow_down=lambda now: 1.6 if now >= begins_s else 1.0,
        others=lambda now: 0.5 if now >= begins_s else 0.0,
    )  # fmt: skip

    peak = search(server)

    assert peak.outcome == UNFIT
    assert "noisy neighbour: other programs used 50% of the CPUs" in peak.reason
    assert sum(one.is_disturbed for one in peak.trials) == peak_search.DISTURBED


def test_a_session_beside_is_named_and_not_the_load_of_others() -> None:
    """Beside a GPU nothing else of the CPUs may be used, and the session disturbs."""
    told: list[str] = []
    server = QueueDouble(0.002, 0.015, beside=lambda _: "reports/20261130-093249")
    length = RunLength(459, WHOLE_S)

    peak = PeakSearch(server.run, PERCENTILE, server.bound_s, length, told.append).find(
        server.rate
    )

    assert peak.outcome == UNFIT
    assert "another session measured on this machine meanwhile (reports/" in peak.reason
    assert "wait until it has ended" in peak.reason
    assert ["disturbed: another session measured" in text for text in told] == (
        [True] * peak_search.DISTURBED
    )
    assert "of the CPUs" not in peak.reason + "".join(told)


def test_a_machine_that_slows_down_unseen_is_called_unfit() -> None:
    """Short runs kept the load, no whole run does: nothing is confirmed."""
    server = QueueDouble(0.002, 0.015)
    found = PeakSearch(server.run, PERCENTILE, server.bound_s, RunLength(459, WHOLE_S))
    peak = found.find(server.rate)
    server.slow_down = lambda _: 1.3

    peak = found.confirm(peak, lambda qps: server.confirm(qps, WHOLE_S))

    assert peak.outcome == UNFIT
    assert "becomes slower in a long run" in peak.reason
    assert sum(one.kind == CONFIRMATION for one in peak.trials) == 4


def test_a_machine_that_is_a_twentieth_slower_in_a_whole_run_has_a_peak() -> None:
    """A GPU at its power cap: whole runs are tried in growing steps below."""
    server = QueueDouble(0.002, 0.015)
    found = PeakSearch(server.run, PERCENTILE, server.bound_s, RunLength(459, WHOLE_S))
    short = found.find(server.rate)
    server.slow_down = lambda _: 1.05

    peak = found.confirm(short, lambda qps: server.confirm(qps, WHOLE_S))
    whole = scan(server, peak.qps or 0.0)

    assert peak.outcome == CONFIRMED
    assert short.qps is not None
    assert peak.qps is not None
    assert peak.missed_qps is not None
    assert 0.89 * short.qps < peak.qps < 0.96 * short.qps
    assert peak.qps < whole < 1.01 * peak.missed_qps


def test_a_passing_disturbance_costs_trials_and_nothing_else() -> None:
    """What others disturbed is tried again, and decides nothing."""
    quiet = QueueDouble(0.002, 0.015, 3)
    noisy = QueueDouble(
        0.002, 0.015, 3,
        slow_down=lambda now: 2.0 if 60 <= now < 150 else 1.0,
        others=lambda now: 0.4 if 60 <= now < 150 else 0.0,
    )  # fmt: skip

    expected, found = search(quiet), search(noisy)

    assert found.outcome == CONFIRMED
    assert found.qps == pytest.approx(expected.qps, rel=0.03)
    assert 1 <= sum(one.is_disturbed for one in found.trials) < peak_search.DISTURBED


def test_no_load_at_all_ends_too() -> None:
    """An answer alone is late: the search ends below a sixty-fourth of the rate."""
    peak = search(QueueDouble(0.02, 0.015))

    assert peak.outcome == HOPELESS
    assert peak.qps is None
    assert "no load keeps the bound" in peak.describe()
    assert len(peak.trials) <= peak_search.MOST_TRIALS


def test_a_search_without_an_answer_ends_at_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However the server behaves, there are so many trials and no more."""
    monkeypatch.setattr(peak_search, "MOST_TRIALS", 4)

    peak = search(QueueDouble(0.002, 0.015))

    assert peak.outcome == UNFIT
    assert peak.reason == "no answer after 4 trials"
    assert len(peak.trials) == 4


def test_the_rate_of_the_bare_loop_may_be_wrong() -> None:
    """A closed loop that batches better or worse than Server changes nothing."""
    found = []
    for wrong in (0.3, 1.0, 4.0):
        server = QueueDouble(0.002, 0.03, 5)
        one = PeakSearch(server.run, PERCENTILE, 0.03, RunLength(459, WHOLE_S))
        found.append(one.find(server.rate * wrong).qps)

    assert found == pytest.approx([found[1]] * 3, rel=0.03)


@pytest.mark.parametrize(
    ("bound", "share"), [(10, 1.0), (20, 0.5), (40, 0.1), (30, 0.2236), (100, 0.0)]
)
def test_late_tokens_are_estimated_between_percentiles(
    bound: float, share: float
) -> None:
    """LoadGen counts no late tokens; its percentiles tell about how many there are."""
    points = {0.0: 10.0, 0.5: 20.0, 0.9: 40.0, 0.99: 60.0}

    assert estimate_late_share(1000, points, bound) == pytest.approx(share, rel=0.01)
