"""The bandwidth probe's arithmetic; the copies themselves need a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.machine.pinned_copy import measure_bandwidth
from pytest_mlperf.machine.pinned_copy import open_copies


class Link:
    """A link of 10 bytes a second in, 5 out, and 12 both ways together."""

    name = "made-up link"

    def __init__(self, size: int) -> None:
        self.size = size
        self.calls = 0
        self.closed = False

    def time_copies(self, ways: Sequence[str], copies: int) -> float:
        self.calls += 1
        speed = {("in",): 10.0, ("out",): 5.0, ("in", "out"): 12.0}[tuple(ways)]
        slow = 2 if self.calls % 2 else 1  # something else uses the link at times
        return slow * len(ways) * copies * self.size / speed

    def close(self) -> None:
        self.closed = True


def test_best_round_of_each_direction_counts() -> None:
    """Both ways at once are told as their sum; the link is closed afterwards."""
    links: list[Link] = []

    def open_(size: int) -> Link:
        links.append(Link(size))
        return links[-1]

    probe = measure_bandwidth(1000, 4, 3, open_)

    assert (probe.in_per_s, probe.out_per_s, probe.both_per_s) == (10.0, 5.0, 12.0)
    assert (probe.device, probe.size) == ("made-up link", 1000)
    assert links[0].closed


def test_machine_without_gpu_is_told_what_is_missing() -> None:
    """Neither package can copy here, and the reason of each is in the text."""
    try:
        open_copies(1024).close()
    except RequirementMissing as missing:
        text = str(missing)
    else:
        pytest.skip("this machine has a GPU that torch or pycuda can use")

    assert "no GPU to copy to (torch" in text
    assert "pycuda" in text
    assert "run on a machine with one" in text
