"""Which devices an item gets: shares never meet, and who takes more is alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.machine.devices import Device
from pytest_mlperf.measure.placement import ALL
from pytest_mlperf.measure.placement import Count
from pytest_mlperf.measure.placement import Placement
from pytest_mlperf.measure.placement import place_on_cpus
from pytest_mlperf.measure.placement import place_on_gpus

NODES = (tuple(range(8)), tuple(range(8, 16)))


def gpus(count: int) -> list[Device]:
    """Return GPUs on two nodes of eight CPUs."""
    return [
        Device(i, "gpu", "H200", NODES[2 * i // count], 8, f"GPU-{i}")
        for i in range(count)
    ]


@given(
    st.integers(1, 16).flatmap(
        lambda n: st.tuples(st.just(n), st.integers(1, n), st.integers(1, n))
    )
)
def test_workers_that_go_side_by_side_share_no_gpu(shape: tuple[int, int, int]) -> None:
    """Whatever GPUs, workers and devices an item: only who is alone meets others."""
    count, workers, wanted = shape
    found = gpus(count)
    every = [
        place_on_gpus(found, n, workers, worker).visible
        for worker in range(workers)
        for n in {1, wanted}
        if not place_on_gpus(found, n, workers, worker).alone
    ]
    by_worker = [
        set(place_on_gpus(found, 1, workers, w).visible) for w in range(workers)
    ]

    assert all(not first & other for first, other in pairwise(by_worker))
    assert all(len(set(one)) == len(one) for one in every)
    wide = [place_on_gpus(found, wanted, workers, worker) for worker in range(workers)]
    assert {len(one.visible) for one in wide} == {wanted}
    if not any(one.alone for one in wide):
        together = [name for one in wide for name in one.visible]
        assert len(together) == len(set(together))


@pytest.mark.parametrize(
    ("wanted", "workers", "mine", "expected", "alone"),
    [
        (1, 1, 0, "0", False),
        (1, 2, 1, "2", False),
        (1, 4, 3, "3", False),
        (2, 2, 1, "23", False),
        (2, 4, 1, "01", True),
        (3, 2, 1, "012", True),
        (ALL, 1, 0, "0123", False),
        (ALL, 2, 1, "0123", True),
    ],
)
def test_an_item_that_takes_more_than_its_workers_share_is_alone(
    wanted: Count, workers: int, mine: int, expected: str, alone: bool
) -> None:
    """On four GPUs."""
    found = place_on_gpus(gpus(4), wanted, workers, mine)

    assert tuple(f"GPU-{n}" for n in expected) == found.visible
    assert alone == found.alone
    assert len(found.slots) == (0 if len(expected) == 1 else len(expected))


def test_gpus_of_one_node_share_its_cpus_out() -> None:
    """Every device process has CPUs of its own, all of its GPU's node."""
    found = place_on_gpus(gpus(4), ALL, 1, 0)

    assert [seat.cpus for seat in found.slots] == [
        (0, 1, 2, 3),
        (4, 5, 6, 7),
        (8, 9, 10, 11),
        (12, 13, 14, 15),
    ]
    assert tuple(range(16)) == found.cpus
    assert [{"CUDA_VISIBLE_DEVICES": f"GPU-{n}"} for n in range(4)] == [
        dict(seat.environment) for seat in found.slots
    ]
    assert found.name == "4 x H200"


@pytest.mark.parametrize(
    ("count", "wanted", "workers", "expected"),
    [
        (2, 1, 2, [NODES[0], NODES[1]]),
        (4, 1, 4, [range(4), range(4, 8), range(8, 12), range(12, 16)]),
        (4, 1, 2, [NODES[0], NODES[1]]),
        (4, 2, 2, [NODES[0], NODES[1]]),
        (8, 2, 4, [range(4), range(4, 8), range(8, 12), range(12, 16)]),
        (4, 1, 1, [NODES[0]]),
        (4, 4, 2, [range(16), range(16)]),
    ],
)
def test_workers_on_gpus_of_one_node_share_its_cpus_out(
    count: int, wanted: int, workers: int, expected: list[Sequence[int]]
) -> None:
    """What one builds holds up nothing of another; who is alone has all of them."""
    found = [place_on_gpus(gpus(count), wanted, workers, w) for w in range(workers)]

    assert [one.cpus for one in found] == [tuple(cpus) for cpus in expected]
    assert all(
        {cpu for slot in one.slots for cpu in slot.cpus} in (set(), set(one.cpus))
        for one in found
    )


def test_more_gpus_than_cpus_share_all_of_them() -> None:
    """Nobody is left without one."""
    found = [Device(i, "gpu", "H200", (0, 1), 2, f"GPU-{i}") for i in range(3)]

    assert [place_on_gpus(found, 1, 3, w).cpus for w in range(3)] == [(0, 1)] * 3


def test_a_stream_gets_the_first_of_several_devices() -> None:
    """SingleStream and MultiStream wait for each answer: one device is all they use."""
    found = place_on_gpus(gpus(4), 2, 1, 0).single

    assert (found.visible, found.slots, found.name) == (("GPU-0",), (), "H200")


@pytest.mark.parametrize(
    ("wanted", "workers", "mine", "expected"),
    [
        (1, 1, 0, Placement(tuple(range(16)), "CPU")),
        (1, 2, 1, Placement(NODES[1], "8 of 16 CPUs")),
        (ALL, 2, 1, Placement(tuple(range(16)), "2 shares of 16 CPUs", alone=True)),
        (2, 2, 1, Placement(NODES[1], "2 shares of 8 CPUs")),
        (9, 2, 1, Placement(tuple(range(16)), "9 shares of 16 CPUs", alone=True)),
    ],
)
def test_without_a_gpu_devices_are_shares_of_the_cpus(
    wanted: Count, workers: int, mine: int, expected: Placement
) -> None:
    """A worker's own CPUs are cut up; ``all`` is a device a NUMA node, alone."""
    found = place_on_cpus("CPU", range(16), NODES, wanted, workers, mine)
    shares = [cpu for seat in found.slots for cpu in seat.cpus]

    assert (expected.cpus, expected.name, expected.alone) == (
        found.cpus,
        found.name,
        found.alone,
    )
    assert shares in ([], list(found.cpus))
    assert len(found.slots) == {1: 0, ALL: 2}.get(wanted, wanted)


def test_all_cpus_of_one_node_are_one_device() -> None:
    """There is nothing to split; under xdist the item still runs alone."""
    found = place_on_cpus("CPU", range(8), NODES[:1], ALL, 2, 0)

    assert Placement(NODES[0], "CPU", alone=True) == found


def test_more_devices_than_there_are_is_refused_with_the_number() -> None:
    """Whether GPUs or shares of CPUs."""
    with pytest.raises(RunRefused, match="take 5 devices, but this machine has 4 dev"):
        place_on_gpus(gpus(4), 5, 1, 0)
    with pytest.raises(RunRefused, match=r"take 17 .*has 16 usable CPUs and no GPU"):
        place_on_cpus("CPU", range(16), NODES, 17, 1, 0)
