"""What NVML tells of one GPU, by ctypes: the driver brings the library along."""

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
_CLOCK_SM, _CLOCK_MEM = 1, 2
THROTTLES: Mapping[int, str] = {
    0x0004: "power cap",
    0x0008: "hardware slowdown",
    0x0010: "sync boost",
    0x0020: "thermal slowdown",
    0x0040: "hardware thermal slowdown",
    0x0080: "power brake",
    0x0100: "display clocks",
}
"""Reasons of nvmlClocksEventReasons that hold clocks back; idle (0x1) and clocks that
somebody set (0x2) do not, and are told apart below."""
IDLE, LOCKED = 0x0001, 0x0002


class NvmlError(RuntimeError):
    """NVML is not there, or says no; the text is what it says."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a device; None for what it does not tell."""

    temperature_c: float | None = None
    power_w: float | None = None
    limit_w: float | None = None
    """Enforced power limit."""
    sm_mhz: float | None = None
    memory_mhz: float | None = None
    busy_percent: float | None = None
    held_back: tuple[str, ...] | None = None
    """Reasons why clocks are lower than they could be, at this moment."""
    locked: bool | None = None
    """Somebody set the clocks (``nvidia-smi -lgc``)."""


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


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
        """Let NVML go; the handle is of no use afterwards."""
        self._library.nvmlShutdown()

    @property
    def uuid(self) -> str:
        """UUID of the physical GPU."""
        text = ctypes.create_string_buffer(96)
        self._call("nvmlDeviceGetUUID", self._device, text, ctypes.c_uint(96))
        return text.value.decode()

    def instances(self) -> tuple[str, ...]:
        """Return the names of the MIG instances that the GPU is cut into, if it is."""
        count = self._number("nvmlDeviceGetMaxMigDeviceCount") or 0
        found = []
        for index in range(count):
            instance = ctypes.c_void_p()
            text = ctypes.create_string_buffer(96)
            with suppress(NvmlError):  # a place that is not taken
                self._call(
                    "nvmlDeviceGetMigDeviceHandleByIndex",
                    self._device,
                    ctypes.c_uint(index),
                    ctypes.byref(instance),
                )
                self._call("nvmlDeviceGetUUID", instance, text, ctypes.c_uint(96))
                found.append(text.value.decode())
        return tuple(found)

    def cpus(self, width: int = 1024) -> tuple[int, ...]:
        """Return the CPUs that NVML calls near."""
        bits = 8 * ctypes.sizeof(ctypes.c_ulong)
        words = (ctypes.c_ulong * (width // bits))()
        size = ctypes.c_uint(len(words))
        self._call("nvmlDeviceGetCpuAffinity", self._device, size, words)
        return tuple(n for n in range(width) if words[n // bits] >> n % bits & 1)

    def read(self) -> Reading:
        """Return what the device tells now; it never raises for what it does not."""
        # Kept under its old name, which every driver has.
        reasons = self._number(
            "nvmlDeviceGetCurrentClocksThrottleReasons", kind=ctypes.c_ulonglong
        )
        said = None
        if reasons is not None:
            said = tuple(text for bit, text in THROTTLES.items() if reasons & bit)
        return Reading(
            temperature_c=self._number("nvmlDeviceGetTemperature", _TEMPERATURE_GPU),
            power_w=_thousandth(self._number("nvmlDeviceGetPowerUsage")),
            limit_w=_thousandth(self._number("nvmlDeviceGetEnforcedPowerLimit")),
            sm_mhz=self._number("nvmlDeviceGetClockInfo", _CLOCK_SM),
            memory_mhz=self._number("nvmlDeviceGetClockInfo", _CLOCK_MEM),
            busy_percent=self._busy(),
            held_back=said,
            locked=None if reasons is None else bool(reasons & LOCKED),
        )

    def _busy(self) -> float | None:
        rates = _Utilization()
        name = "nvmlDeviceGetUtilizationRates"
        try:
            self._call(name, self._device, ctypes.byref(rates))
        except NvmlError:
            return None
        return float(rates.gpu)

    def _number(
        self,
        name: str,
        which: int | None = None,
        kind: Callable[[], Any] = ctypes.c_uint,
    ) -> int | None:
        value = kind()
        chosen = () if which is None else (ctypes.c_int(which),)
        try:
            self._call(name, self._device, *chosen, ctypes.byref(value))
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
            said = self._library.nvmlErrorString(code) or b"unknown error"
            raise NvmlError(f"{name}: {said.decode(errors='replace')} ({code})")


def _thousandth(value: int | None) -> float | None:
    return None if value is None else value / 1000


def parent_gpu(mig: str, library: str = LIBRARY) -> str:
    """Return the UUID of the GPU that a MIG instance is on; empty if nobody knows."""
    with suppress(NvmlError), closing(Nvml(mig, library)) as gpu:
        return gpu.uuid
    return ""


def instances(uuid: str, library: str = LIBRARY) -> tuple[str, ...]:
    """Return a GPU's MIG instances; none where it is whole, or nobody knows."""
    with suppress(NvmlError), closing(Nvml(uuid, library)) as gpu:
        return gpu.instances()
    return ()


def near(uuid: str, library: str = LIBRARY) -> tuple[int, ...]:
    """Return the CPUs that NVML calls near a GPU; empty if nobody knows."""
    with suppress(NvmlError), closing(Nvml(uuid, library)) as gpu:
        return gpu.cpus()
    return ()
