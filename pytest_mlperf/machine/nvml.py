"""NVML's readings of one GPU, through ctypes: the driver installs the library."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from collections.abc import Mapping
from contextlib import closing
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

LIBRARY = "libnvidia-ml.so.1"
_TEMPERATURE_GPU = 0
_CLOCK_SM = 1
THROTTLES: Mapping[int, str] = {
    0x0004: "power cap",
    0x0008: "hardware slowdown",
    0x0010: "sync boost",
    0x0020: "thermal slowdown",
    0x0040: "hardware thermal slowdown",
    0x0080: "power brake",
    0x0100: "display clocks",
}
"""Reasons of nvmlClocksEventReasons that hold clocks back. Idle (0x1) is none."""
LOCKED = 0x0002
"""The reason for clocks that somebody set."""


class NvmlError(RuntimeError):
    """NVML is missing or returned an error; the text is NVML's."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of a device; None for what it does not report."""

    temperature_c: float | None = None
    power_w: float | None = None
    limit_w: float | None = None
    """Enforced power limit."""
    sm_mhz: float | None = None
    held_back: tuple[str, ...] | None = None
    """Reasons why the clocks are lower than possible at this moment."""
    locked: bool | None = None
    """Somebody set the clocks (``nvidia-smi -lgc``)."""


@dataclass(frozen=True, slots=True)
class GpuState:
    """How a GPU is set and connected; None for what it does not report."""

    is_persistent: bool | None = None
    has_ecc: bool | None = None
    pends_ecc: bool | None = None
    """ECC mode after the next reset."""
    generation: int | None = None
    """Of the PCIe link now; an idle one falls back to the first."""
    most_generation: int | None = None
    """That GPU and slot could have."""
    width: int | None = None
    """Lanes."""
    most_width: int | None = None
    performance_state: int | None = None
    """0 is full speed, 15 the slowest."""


class Nvml:
    """A handle on one device, by UUID; a MIG instance is read through its GPU."""

    def __init__(self, uuid: str, library: str = LIBRARY) -> None:
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            raise NvmlError(f"{library} cannot be loaded ({error})") from None
        self._call("nvmlInit_v2")
        self._device = ctypes.c_void_p()
        try:
            self._find(uuid)
        except NvmlError:
            self.close()
            raise

    def _find(self, uuid: str) -> None:
        by_uuid = "nvmlDeviceGetHandleByUUID"
        self._call(by_uuid, uuid.encode(), ctypes.byref(self._device))
        if uuid.startswith("MIG-"):
            name = "nvmlDeviceGetDeviceHandleFromMigDeviceHandle"
            gpu = ctypes.c_void_p()
            self._call(name, self._device, ctypes.byref(gpu))
            self._device = gpu

    def close(self) -> None:
        """Release NVML; the handle is invalid afterwards."""
        self._library.nvmlShutdown()

    @property
    def uuid(self) -> str:
        """UUID of the physical GPU."""
        text = ctypes.create_string_buffer(96)
        self._call("nvmlDeviceGetUUID", self._device, text, ctypes.c_uint(96))
        return text.value.decode()

    def instances(self) -> tuple[str, ...]:
        """Return the UUIDs of the GPU's MIG instances; none for a whole GPU."""
        count = self._read_number("nvmlDeviceGetMaxMigDeviceCount") or 0
        uuids = []
        for index in range(count):
            instance = ctypes.c_void_p()
            text = ctypes.create_string_buffer(96)
            with suppress(NvmlError):  # an empty place
                self._call(
                    "nvmlDeviceGetMigDeviceHandleByIndex",
                    self._device,
                    ctypes.c_uint(index),
                    ctypes.byref(instance),
                )
                self._call("nvmlDeviceGetUUID", instance, text, ctypes.c_uint(96))
                uuids.append(text.value.decode())
        return tuple(uuids)

    def cpus(self) -> tuple[int, ...]:
        """Return the CPUs that NVML reports as near."""
        width, bits = 1024, 8 * ctypes.sizeof(ctypes.c_ulong)
        words = (ctypes.c_ulong * (width // bits))()
        size = ctypes.c_uint(len(words))
        self._call("nvmlDeviceGetCpuAffinity", self._device, size, words)
        return tuple(n for n in range(width) if words[n // bits] >> n % bits & 1)

    def read(self) -> Reading:
        """Return the current reading; what the device does not report is None."""
        # The old name, which every driver has.
        reasons = self._read_number(
            "nvmlDeviceGetCurrentClocksThrottleReasons", kind=ctypes.c_ulonglong
        )
        held_back = None
        if reasons is not None:
            held_back = tuple(text for bit, text in THROTTLES.items() if reasons & bit)
        return Reading(
            temperature_c=self._read_number(
                "nvmlDeviceGetTemperature", _TEMPERATURE_GPU
            ),
            power_w=_to_watts(self._read_number("nvmlDeviceGetPowerUsage")),
            limit_w=_to_watts(self._read_number("nvmlDeviceGetEnforcedPowerLimit")),
            sm_mhz=self._read_number("nvmlDeviceGetClockInfo", _CLOCK_SM),
            held_back=held_back,
            locked=None if reasons is None else bool(reasons & LOCKED),
        )

    def read_state(self) -> GpuState:
        """Return how the device is set and connected."""
        persistence = self._read_number("nvmlDeviceGetPersistenceMode")
        current, pending = ctypes.c_uint(), ctypes.c_uint()
        has_ecc = pends_ecc = None
        with suppress(NvmlError):  # consumer cards have none
            pointers = ctypes.byref(current), ctypes.byref(pending)
            self._call("nvmlDeviceGetEccMode", self._device, *pointers)
            has_ecc, pends_ecc = bool(current.value), bool(pending.value)
        return GpuState(
            is_persistent=None if persistence is None else bool(persistence),
            has_ecc=has_ecc,
            pends_ecc=pends_ecc,
            generation=self._read_number("nvmlDeviceGetCurrPcieLinkGeneration"),
            most_generation=self._read_number("nvmlDeviceGetMaxPcieLinkGeneration"),
            width=self._read_number("nvmlDeviceGetCurrPcieLinkWidth"),
            most_width=self._read_number("nvmlDeviceGetMaxPcieLinkWidth"),
            performance_state=self._read_number("nvmlDeviceGetPerformanceState"),
        )

    def _read_number(
        self,
        name: str,
        which: int | None = None,
        kind: Callable[[], Any] = ctypes.c_uint,
    ) -> int | None:
        value = kind()
        selector = () if which is None else (ctypes.c_int(which),)
        try:
            self._call(name, self._device, *selector, ctypes.byref(value))
        except NvmlError:
            return None
        return int(value.value)

    def _call(self, name: str, *arguments: Any) -> None:
        try:
            code: int = getattr(self._library, name)(*arguments)
        except AttributeError:
            raise NvmlError(f"this driver's NVML has no {name}") from None
        if code:
            self._library.nvmlErrorString.restype = ctypes.c_char_p
            text = self._library.nvmlErrorString(code) or b"unknown error"
            raise NvmlError(f"{name}: {text.decode(errors='replace')} ({code})")


def _to_watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def find_parent_gpu(mig: str, library: str = LIBRARY) -> str:
    """Return the UUID of a MIG instance's GPU; empty if unknown."""
    with suppress(NvmlError), closing(Nvml(mig, library)) as gpu:
        return gpu.uuid
    return ""


def list_instances(uuid: str, library: str = LIBRARY) -> tuple[str, ...]:
    """Return a GPU's MIG instances; none for a whole GPU, or if unknown."""
    with suppress(NvmlError), closing(Nvml(uuid, library)) as gpu:
        return gpu.instances()
    return ()


def list_near_cpus(uuid: str, library: str = LIBRARY) -> tuple[int, ...]:
    """Return the CPUs that NVML reports as near a GPU; empty if unknown."""
    with suppress(NvmlError), closing(Nvml(uuid, library)) as gpu:
        return gpu.cpus()
    return ()
