"""The devices made of visible GPUs, and the CPUs that workers share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.machine.devices import find_devices
from pytest_mlperf.machine.devices import split_cpus
from pytest_mlperf.machine.gpus import Gpu
from pytest_mlperf.machine.system import System
from pytest_mlperf.machine.system import detect_system


def machine(gpus: int) -> System:
    """Return this machine's system with made-up GPUs; CPU 0 is next to the first."""
    system = detect_system(root=Path("/nowhere"), rootdir=Path("/nowhere"), environ={})
    values = {name: getattr(system, name) for name in System.__dataclass_fields__}
    made = tuple(
        Gpu(f"G{n}", 1, f"0000:{n:02x}:00.0", f"GPU-{n}{n}", None, (n,))
        for n in range(gpus)
    )
    return System(**values | {"gpus": made, "cpus": (0, 1), "threads": 2})


def test_machine_without_gpu_is_one_cpu_device() -> None:
    """All usable CPUs are one device, which shows CUDA nothing."""
    (device,) = find_devices(machine(0), {"CUDA_VISIBLE_DEVICES": "0"})

    assert (
        device.kind,
        device.cpus,
        device.threads,
        device.visible,
    ) == ("cpu", (0, 1), 2, "")


@pytest.mark.parametrize(
    ("setting", "visible"),
    [
        (None, ["GPU-00", "GPU-11", "GPU-22"]),
        ("2,0", ["GPU-22", "GPU-00"]),
        (" 1 , 1", ["GPU-11"]),
        ("GPU-11", ["GPU-11"]),
        ("GPU-2", ["GPU-22"]),
        ("1,7,0", ["GPU-11"]),
        ("0,-1,1", ["GPU-00"]),
        ("MIG-1234/1/0,MIG-5", ["MIG-1234/1/0", "MIG-5"]),
        ("GPU-", [""]),
        ("", [""]),
        ("NoDevFiles", [""]),
    ],
)
def test_cuda_visible_devices_has_cudas_meaning(
    setting: str | None, visible: list[str]
) -> None:
    """Indices, UUIDs, their beginnings and MIG names select; a bad entry ends it."""
    environ = {} if setting is None else {"CUDA_VISIBLE_DEVICES": setting}
    found = find_devices(machine(3), environ)

    assert visible == [device.visible for device in found]
    assert list(range(len(found))) == [device.index for device in found]


@pytest.mark.parametrize(
    ("setting", "visible"),
    [
        (None, ["GPU-00", "MIG-1", "MIG-2", "GPU-22"]),
        ("MIG-2,0", ["MIG-2", "GPU-00"]),
        ("1", ["MIG-1"]),
    ],
)
def test_a_gpu_that_is_cut_into_instances_is_so_many_devices(
    setting: str | None, visible: list[str]
) -> None:
    """Each with the CPUs near its GPU; by its number CUDA finds the first of them."""
    system = machine(3)
    whole, cut, last = system.gpus
    gpus = (whole, replace(cut, instances=("MIG-1", "MIG-2")), last)
    environ = {} if setting is None else {"CUDA_VISIBLE_DEVICES": setting}
    found = find_devices(replace(system, gpus=gpus), environ)

    assert visible == [device.visible for device in found]
    assert {d.cpus for d in found if d.visible.startswith("MIG")} == {(1,)}
    assert {"G1 MIG-1", "G1 MIG-2"} >= {d.name for d in found if "MIG" in d.name}


def test_gpu_gets_the_usable_cpus_next_to_it() -> None:
    """CPUs near the GPU that this process may use; all usable ones when none is."""
    found = find_devices(machine(3), {})

    assert [device.cpus for device in found] == [(0,), (1,), (0, 1)]
    assert [device.threads for device in found] == [1, 1, 2]


@given(cpus=st.lists(st.integers(0, 999), unique=True, min_size=1), data=st.data())
def test_split_gives_each_worker_its_own_cpus(
    cpus: list[int], data: st.DataObject
) -> None:
    """Parts are disjoint, cover all in order, and differ by at most one in size."""
    workers = data.draw(st.integers(1, len(cpus)))
    parts = split_cpus(cpus, workers)

    assert cpus == [cpu for part in parts for cpu in part]
    assert workers == len(parts)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("workers", [-1, 0, 3])
def test_split_refuses_workers_without_a_cpu(workers: int) -> None:
    """A worker with no CPU to run on is refused, with the numbers that would do."""
    with pytest.raises(ValueError, match="use from 1 to 2 workers"):
        split_cpus((0, 1), workers)
