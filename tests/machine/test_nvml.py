"""NVML's binding, against a compiled library of the same interface."""

from __future__ import annotations

import ctypes

import pytest

from pytest_mlperf.machine.nvml import Nvml
from pytest_mlperf.machine.nvml import NvmlError
from pytest_mlperf.machine.nvml import Reading
from pytest_mlperf.machine.nvml import find_parent_gpu
from pytest_mlperf.machine.nvml import list_instances
from pytest_mlperf.machine.nvml import list_near_cpus

READ = Reading(
    temperature_c=61,
    power_w=650.5,
    limit_w=None,
    sm_mhz=1755,
    held_back=("power cap", "thermal slowdown"),
    locked=True,
)


def test_every_value_arrives_in_its_unit(library: str) -> None:
    """Milliwatts become watts, bits become reasons; what is refused is None."""
    gpu = Nvml("GPU-a", library)

    assert gpu.read() == READ
    assert gpu.uuid == "GPU-a"
    gpu.close()
    assert list_near_cpus("GPU-a", library) == (4, 5, 6, 7, 64)


def test_instance_is_read_through_its_gpu(library: str) -> None:
    """A MIG slice has no power or temperature of its own."""
    gpu = Nvml("MIG-1", library)

    assert gpu.read() == READ
    gpu.close()
    assert find_parent_gpu("MIG-1", library) == "GPU-a"


def test_instances_are_listed_where_a_gpu_has_any(library: str) -> None:
    """Places that nobody took are left out; without NVML there are none."""
    assert list_instances("GPU-a", library) == ("MIG-1",)
    assert list_instances("GPU-z", library) == ()
    assert list_instances("GPU-a", "libnone.so.1") == ()


def test_unknown_device_is_an_error_that_lets_nvml_go(library: str) -> None:
    """The message has the call and what NVML said; no handle stays open."""
    with pytest.raises(NvmlError, match=r"nvmlDeviceGetHandleByUUID: Not Found \(6\)"):
        Nvml("GPU-z", library)

    assert ctypes.CDLL(library).made_running() == 0
    assert find_parent_gpu("MIG-z", library) == ""


def test_machine_without_nvml_says_so() -> None:
    """Where there is no driver, the library's name is in the message."""
    with pytest.raises(NvmlError, match=r"libnone\.so\.1 cannot be loaded"):
        Nvml("GPU-a", "libnone.so.1")

    assert find_parent_gpu("MIG-1", "libnone.so.1") == ""
    assert list_near_cpus("GPU-a", "libnone.so.1") == ()


def test_library_without_a_function_says_which() -> None:
    """A driver that is too old is named by what it lacks."""
    with pytest.raises(NvmlError, match="NVML has no nvmlInit_v2"):
        Nvml("GPU-a", "libc.so.6")
