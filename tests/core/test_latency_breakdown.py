"""Where a request's time went: steps that add up, and a warning where they do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_mlperf.core.latency_breakdown import CLIENT_WAIT
from pytest_mlperf.core.latency_breakdown import COLUMNS
from pytest_mlperf.core.latency_breakdown import LatencyBreakdown
from pytest_mlperf.core.latency_breakdown import describe_breakdown

US = 1e-6
REQUEST = LatencyBreakdown(
    requests=10, client_wait_s=5 * US, client_send_s=10 * US, answer_s=1000 * US,
    client_recv_s=20 * US, decode_s=3 * US, queue_s=100 * US, compute_input_s=40 * US,
    compute_infer_s=600 * US, compute_output_s=30 * US, server_s=800 * US,
)  # fmt: skip
STEPS_US = (5, 10, 200, 100, 40, 600, 30, 23)
"""Wait, send, network, queue, input, infer, output, receive."""


def test_the_network_is_what_nobody_else_accounts_for() -> None:
    """The steps add up to the wait, the answer and its decoding."""
    steps = REQUEST.to_us()

    assert list(steps) == [CLIENT_WAIT, *COLUMNS]
    assert list(steps.values()) == pytest.approx(STEPS_US)
    assert sum(steps.values()) == pytest.approx(5 + 1000 + 3)


def test_output_after_the_answer_is_no_part_of_the_latency() -> None:
    """Triton's Python backend counts it: the network would be negative."""
    steps = replace(REQUEST, compute_output_s=280 * US).to_us()

    assert steps[COLUMNS[1]] == pytest.approx(0, abs=1e-6)
    assert steps[COLUMNS[5]] == pytest.approx(230)
    assert sum(steps.values()) == pytest.approx(5 + 1000 + 3)


def test_a_server_that_tells_its_time_leaves_the_network_s() -> None:
    """Nothing is said where it does not tell."""
    assert REQUEST.describe_network() == (
        "mean 200 us of a request's 1,000 (20%): sent, on the way and received, "
        "without the server's own 800"
    )
    assert replace(REQUEST, server_s=0.0).describe_network() == ""


@pytest.mark.parametrize(
    ("end_to_end_us", "end"),
    [
        (1008, "= 1,008 of LoadGen's 1,008"),
        (1028, "= 1,008 of LoadGen's 1,028"),
        (1030, "of LoadGen's 1,030, more than 2% apart: do not trust the steps"),
        (986, "of LoadGen's 986, more than 2% apart: do not trust the steps"),
        (0, "recv 23 = 1,008"),
    ],
)
def test_steps_that_are_not_loadgens_mean_are_not_to_be_trusted(
    end_to_end_us: float, end: str
) -> None:
    """2 % is the limit; without LoadGen's mean the sum stands alone."""
    text = describe_breakdown(REQUEST.to_us(), end_to_end_us)

    assert text.startswith("mean us: wait 5 + send 10 + network 200 + queue 100 + ")
    assert text.endswith(end)
