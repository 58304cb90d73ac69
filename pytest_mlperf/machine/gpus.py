"""GPUs of the machine and the devices that runners are bound to."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import Literal

from pytest_mlperf.machine.host import parse_cpus
from pytest_mlperf.machine.host import read_text
from pytest_mlperf.machine.nvml import instances as instances_of
from pytest_mlperf.machine.nvml import near as near_gpu

if TYPE_CHECKING:
    from pytest_mlperf.machine.system import System

_FIELDS = ("name", "memory.total", "pci.bus_id", "uuid", "compute_cap")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One physical GPU, in PCI bus order."""

    name: str
    memory_bytes: int
    """0 where the driver does not say (unified memory)."""
    pci_id: str
    """As in sysfs: ``0000:19:00.0``; empty where unknown."""
    uuid: str
    """``GPU-…``: names the card whatever CUDA's order of devices is."""
    compute_capability: tuple[int, int] | None = None
    cpus: tuple[int, ...] = ()
    """CPUs next to the GPU's PCI slot; empty where unknown."""
    instances: tuple[str, ...] = ()
    """MIG instances that it is cut into; then no session can have the whole of it."""


@dataclass(frozen=True, slots=True)
class Device:
    """What one runner is bound to."""

    index: int
    kind: Literal["gpu", "cpu"]
    name: str
    cpus: tuple[int, ...]
    """Usable CPUs: all of them, or for a GPU those of its NUMA node (GPUs of one node
    share them)."""
    threads: int
    """Threads that run at once on ``cpus``; fewer than CPUs under a cgroup quota."""
    visible: str = ""
    """Value of ``CUDA_VISIBLE_DEVICES`` that shows this device alone; empty for CPU."""


def devices(
    system: System, environ: Mapping[str, str] | None = None
) -> tuple[Device, ...]:
    """Return the devices to run on: the visible GPUs, or the MIG instances that they
    are cut into; else one device of all CPUs.

    ``CUDA_VISIBLE_DEVICES`` has CUDA's meaning: indices (taken in PCI order), UUIDs or
    their beginnings, and the list ends at the first entry that names no device.
    """
    environ = os.environ if environ is None else environ
    chosen = _visible(system.gpus, environ.get("CUDA_VISIBLE_DEVICES"))
    if not chosen:
        model, cpus = system.cpu_model, system.cpus
        return (Device(0, "cpu", model, cpus, system.threads),)
    found = []
    for index, (name, visible, near) in enumerate(chosen):
        cpus = tuple(cpu for cpu in system.cpus if cpu in near) or system.cpus
        threads = min(len(cpus), system.threads)
        found.append(Device(index, "gpu", name, cpus, threads, visible))
    return tuple(found)


def _visible(
    gpus: Sequence[Gpu], setting: str | None
) -> list[tuple[str, str, frozenset[int]]]:
    """Return (name, selector, near CPUs) of each visible device."""
    whole = [(gpu.name, gpu.uuid, frozenset(gpu.cpus)) for gpu in gpus]
    cut = {
        uuid: (f"{gpu.name} {uuid}", uuid, frozenset(gpu.cpus))
        for gpu in gpus
        for uuid in gpu.instances
    }
    if setting is None or not gpus:
        return [
            one
            for gpu, alone in zip(gpus, whole, strict=True)
            for one in ([cut[uuid] for uuid in gpu.instances] or [alone])
        ]
    chosen: list[tuple[str, str, frozenset[int]]] = []
    for entry in (part.strip() for part in setting.split(",")):
        if entry.startswith("MIG-"):
            # A slice is the driver's business: its name is passed on as it stands.
            unknown = (f"{gpus[0].name} {entry}", entry, frozenset[int]())
            picked = cut.get(entry, unknown)
        elif entry.isdecimal() and len(entry) < 7 and int(entry) < len(whole):
            picked = whole[int(entry)]
            if gpus[int(entry)].instances:  # of which CUDA then takes the first
                picked = cut[gpus[int(entry)].instances[0]]
        else:
            named = [one for one in whole if one[1].startswith(entry)]
            if not entry.startswith("GPU-") or len(named) != 1:
                break
            picked = named[0]
        if picked not in chosen:
            chosen.append(picked)
    return chosen


def split_cpus(cpus: Sequence[int], workers: int) -> tuple[tuple[int, ...], ...]:
    """Cut CPUs into one run of neighbours a worker; sizes differ by at most one.

    Raises ``ValueError`` when there is not at least one CPU for each worker.
    """
    if not 1 <= workers <= len(cpus):
        raise ValueError(
            f"{workers} workers for {len(cpus)} usable CPUs, but each worker needs a "
            f"CPU of its own: use from 1 to {len(cpus)} workers (-n)"
        )
    size, more = divmod(len(cpus), workers)
    starts = [worker * size + min(worker, more) for worker in range(workers + 1)]
    return tuple(tuple(cpus[start:end]) for start, end in itertools.pairwise(starts))


def find_gpus(
    root: Path = Path("/"), timeout_s: float = 20.0
) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """Return the NVIDIA GPUs, and notes about tools that are there but do not work.

    NVML answers for the real machine; ``nvidia-smi`` where NVML's binding is absent or
    fails. A first call without persistence mode takes seconds, hence the timeout.
    """
    notes: list[str] = []
    gpus: list[Gpu] = []
    driver = any((root / p).exists() for p in ("dev/nvidiactl", "proc/driver/nvidia"))
    if driver and root == Path("/") and importlib.util.find_spec("pynvml"):
        try:
            gpus = _from_nvml(root)
        except Exception as error:  # noqa: BLE001 - a broken driver is only a note
            notes.append(f"NVML: {type(error).__name__}: {error}")
    tool = shutil.which("nvidia-smi")
    if not gpus and tool:
        gpus, said = _from_smi(tool, root, timeout_s)
        notes += said
    if driver and not gpus and not notes:
        notes.append("an NVIDIA driver is loaded, but neither NVML nor nvidia-smi")
        notes[-1] += " shows a GPU: install nvidia-ml-py, or put nvidia-smi on PATH"
    if driver and root == Path("/"):
        # Containers hide /sys at times; the driver knows the CPUs too.
        gpus = [
            replace(
                gpu,
                cpus=gpu.cpus or near_gpu(gpu.uuid),
                instances=instances_of(gpu.uuid),
            )
            for gpu in gpus
        ]
    return tuple(sorted(gpus, key=lambda gpu: gpu.pci_id)), tuple(notes)


def _from_nvml(root: Path) -> list[Gpu]:
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
            name = _text(nvml.nvmlDeviceGetName(handle))
            uuid = _text(nvml.nvmlDeviceGetUUID(handle))
            pci_id = _pci_id(_text(nvml.nvmlDeviceGetPciInfo(handle).busId))
            near = _near(root, pci_id)
            gpus.append(Gpu(name, memory, pci_id, uuid, capability, near))
        return gpus
    finally:
        nvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _from_smi(tool: str, root: Path, timeout_s: float) -> tuple[list[Gpu], list[str]]:
    code, text = _ask(tool, _FIELDS, timeout_s)
    if code and "compute_cap" in text:  # drivers before 510 do not know the field
        code, text = _ask(tool, _FIELDS[:-1], timeout_s)
    if code is None:
        return [], [f"{tool}: {text}; GPUs are left out"]
    if code:
        said = " ".join(text.split())[:200] or "no output"
        return [], [f"{tool}: exit status {code} ({said}); GPUs are left out"]
    gpus, notes = [], []
    for line in filter(None, map(str.strip, text.splitlines())):
        gpu = _parse_row(line, root)
        if gpu:
            gpus.append(gpu)
        else:
            notes.append(f"{tool}: no GPU in the line {line[:100]!r}; it is left out")
    return gpus, notes[:4]


def _ask(tool: str, fields: Sequence[str], timeout_s: float) -> tuple[int | None, str]:
    """Return exit status and output; status None: it did not run to its end."""
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
        # Not subprocess.run: it waits for ever on a tool that hangs in the driver.
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
    pci_id = _pci_id(bus)
    return Gpu(
        name=name,
        memory_bytes=mib * 1024 * 1024,
        pci_id=pci_id,
        uuid=uuid,
        compute_capability=(int(match[1]), int(match[2])) if match else None,
        cpus=_near(root, pci_id),
    )


def _pci_id(bus: str) -> str:
    """Return the sysfs spelling; the driver pads the domain to eight digits."""
    match = re.fullmatch(r"([0-9a-fA-F]{4,8}):([0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.\d)", bus)
    return f"{int(match[1], 16):04x}:{match[2].lower()}" if match else ""


def _near(root: Path, pci_id: str) -> tuple[int, ...]:
    if not pci_id:
        return ()
    return parse_cpus(read_text(root / f"sys/bus/pci/devices/{pci_id}/local_cpulist"))
