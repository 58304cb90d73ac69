"""The GPUs of the machine, as NVML or ``nvidia-smi`` reports them."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import shutil
import subprocess
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_mlperf.machine.host import parse_cpus
from pytest_mlperf.machine.host import read_text
from pytest_mlperf.machine.nvml import list_instances
from pytest_mlperf.machine.nvml import list_near_cpus

_FIELDS = ("name", "memory.total", "pci.bus_id", "uuid", "compute_cap")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One physical GPU, in PCI bus order."""

    name: str
    memory_bytes: int
    """0 where the driver does not report it (unified memory)."""
    pci_id: str
    """As in sysfs: ``0000:19:00.0``; empty where unknown."""
    uuid: str
    """``GPU-…``: identifies the card independently of CUDA's device order."""
    compute_capability: tuple[int, int] | None = None
    cpus: tuple[int, ...] = ()
    """CPUs next to the GPU's PCI slot; empty where unknown."""
    instances: tuple[str, ...] = ()
    """MIG instances; when there are any, no session can use the whole GPU."""


def find_gpus(
    root: Path = Path("/"), timeout_s: float = 20.0
) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """Return the NVIDIA GPUs, and notes about tools that are installed but fail.

    Asks NVML on the real machine, and ``nvidia-smi`` where NVML's binding is absent or
    fails. The first call without persistence mode takes seconds, hence the timeout.
    """
    notes: list[str] = []
    gpus: list[Gpu] = []
    driver = any((root / p).exists() for p in ("dev/nvidiactl", "proc/driver/nvidia"))
    if driver and root == Path("/") and importlib.util.find_spec("pynvml"):
        try:
            gpus = _query_nvml(root)
        except Exception as error:  # noqa: BLE001 - a broken driver is only a note
            notes.append(f"NVML: {type(error).__name__}: {error}")
    tool = shutil.which("nvidia-smi")
    if not gpus and tool:
        gpus, problems = _query_smi(tool, root, timeout_s)
        notes += problems
    if driver and not gpus and not notes:
        notes.append("an NVIDIA driver is loaded, but neither NVML nor nvidia-smi")
        notes[-1] += " shows a GPU: install nvidia-ml-py, or put nvidia-smi on PATH"
    if driver and root == Path("/"):
        # Some containers hide /sys; the driver knows the CPUs too.
        gpus = [
            replace(
                gpu,
                cpus=gpu.cpus or list_near_cpus(gpu.uuid),
                instances=list_instances(gpu.uuid),
            )
            for gpu in gpus
        ]
    return tuple(sorted(gpus, key=lambda gpu: gpu.pci_id)), tuple(notes)


def _query_nvml(root: Path) -> list[Gpu]:
    with warnings.catch_warnings():
        # The binding's former distribution warns that it was renamed.
        warnings.simplefilter("ignore")
        nvml: Any = importlib.import_module("pynvml")
    nvml.nvmlInit()
    try:
        gpus = []
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            try:
                memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
            except nvml.NVMLError:
                memory = 0
            try:
                major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
                capability = (int(major), int(minor))
            except nvml.NVMLError:
                capability = None
            name = _decode(nvml.nvmlDeviceGetName(handle))
            uuid = _decode(nvml.nvmlDeviceGetUUID(handle))
            pci_id = _format_pci_id(_decode(nvml.nvmlDeviceGetPciInfo(handle).busId))
            near = _read_near_cpus(root, pci_id)
            gpus.append(Gpu(name, memory, pci_id, uuid, capability, near))
        return gpus
    finally:
        nvml.nvmlShutdown()


def _decode(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _query_smi(tool: str, root: Path, timeout_s: float) -> tuple[list[Gpu], list[str]]:
    code, text = _run_smi(tool, _FIELDS, timeout_s)
    if code and "compute_cap" in text:  # drivers before 510 do not know the field
        code, text = _run_smi(tool, _FIELDS[:-1], timeout_s)
    if code is None:
        return [], [f"{tool}: {text}; GPUs are left out"]
    if code:
        output = " ".join(text.split())[:200] or "no output"
        return [], [f"{tool}: exit status {code} ({output}); GPUs are left out"]
    gpus, notes = [], []
    for line in filter(None, map(str.strip, text.splitlines())):
        gpu = _parse_row(line, root)
        if gpu:
            gpus.append(gpu)
        else:
            notes.append(f"{tool}: no GPU in the line {line[:100]!r}; it is left out")
    return gpus, notes[:4]


def _run_smi(
    tool: str, fields: Sequence[str], timeout_s: float
) -> tuple[int | None, str]:
    """Return exit status and output; status None when the tool did not finish."""
    query = [f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        process = subprocess.Popen(
            [tool, *query],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError as error:
        return None, f"cannot be run ({error.strerror})"
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        # Not subprocess.run, which waits forever on a tool that hangs in the driver.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        if process.stdout:
            process.stdout.close()
        return None, f"no answer within {timeout_s:g} s"
    return process.returncode, output.decode("utf-8", "replace")


def _parse_row(line: str, root: Path) -> Gpu | None:
    fields = [field.strip() for field in line.split(",")]
    if not 4 <= len(fields) <= 5 or not fields[0] or not fields[3].startswith("GPU-"):
        return None
    name, memory, bus, uuid = fields[:4]
    mib = int(memory) if re.fullmatch(r"[0-9]{1,9}", memory) else 0
    match = re.fullmatch(r"([0-9]{1,3})\.([0-9]{1,3})", fields[-1])
    pci_id = _format_pci_id(bus)
    return Gpu(
        name=name,
        memory_bytes=mib * 1024 * 1024,
        pci_id=pci_id,
        uuid=uuid,
        compute_capability=(int(match[1]), int(match[2])) if match else None,
        cpus=_read_near_cpus(root, pci_id),
    )


def _format_pci_id(bus: str) -> str:
    """Return the sysfs spelling; the driver pads the domain to eight digits."""
    match = re.fullmatch(r"([0-9a-fA-F]{4,8}):([0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.\d)", bus)
    return f"{int(match[1], 16):04x}:{match[2].lower()}" if match else ""


def _read_near_cpus(root: Path, pci_id: str) -> tuple[int, ...]:
    if not pci_id:
        return ()
    return parse_cpus(read_text(root / f"sys/bus/pci/devices/{pci_id}/local_cpulist"))
