"""The devices that runners are bound to: visible GPUs, or the host's CPUs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Literal

from pytest_mlperf.machine.gpus import Gpu

if TYPE_CHECKING:
    from pytest_mlperf.machine.system import System


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


def find_devices(
    system: System, environ: Mapping[str, str] | None = None
) -> tuple[Device, ...]:
    """Return the devices to run on: the visible GPUs or their MIG instances, else one
    device of all CPUs.

    ``CUDA_VISIBLE_DEVICES`` has CUDA's meaning: indices (taken in PCI order), UUIDs or
    their beginnings, and the list ends at the first entry that names no device.
    """
    environ = os.environ if environ is None else environ
    selected = _select_visible(system.gpus, environ.get("CUDA_VISIBLE_DEVICES"))
    if not selected:
        model, cpus = system.cpu_model, system.cpus
        return (Device(0, "cpu", model, cpus, system.threads),)
    devices = []
    for index, (name, visible, near) in enumerate(selected):
        cpus = tuple(cpu for cpu in system.cpus if cpu in near) or system.cpus
        threads = min(len(cpus), system.threads)
        devices.append(Device(index, "gpu", name, cpus, threads, visible))
    return tuple(devices)


def _select_visible(
    gpus: Sequence[Gpu], setting: str | None
) -> list[tuple[str, str, frozenset[int]]]:
    """Return (name, selector, near CPUs) of each visible device."""
    whole = [(gpu.name, gpu.uuid, frozenset(gpu.cpus)) for gpu in gpus]
    instances = {
        uuid: (f"{gpu.name} {uuid}", uuid, frozenset(gpu.cpus))
        for gpu in gpus
        for uuid in gpu.instances
    }
    if setting is None or not gpus:
        return [
            device
            for gpu, alone in zip(gpus, whole, strict=True)
            for device in ([instances[uuid] for uuid in gpu.instances] or [alone])
        ]
    selected: list[tuple[str, str, frozenset[int]]] = []
    for entry in (part.strip() for part in setting.split(",")):
        if entry.startswith("MIG-"):
            # Only the driver can resolve an unknown instance: pass its name on.
            unknown = (f"{gpus[0].name} {entry}", entry, frozenset[int]())
            device = instances.get(entry, unknown)
        elif entry.isdecimal() and len(entry) < 7 and int(entry) < len(whole):
            device = whole[int(entry)]
            if gpus[int(entry)].instances:  # CUDA then takes the first of them
                device = instances[gpus[int(entry)].instances[0]]
        else:
            matches = [one for one in whole if one[1].startswith(entry)]
            if not entry.startswith("GPU-") or len(matches) != 1:
                break
            device = matches[0]
        if device not in selected:
            selected.append(device)
    return selected


def split_cpus(cpus: Sequence[int], workers: int) -> tuple[tuple[int, ...], ...]:
    """Cut CPUs into one contiguous run per worker; sizes differ by at most one.

    Raises ``ValueError`` when there are fewer CPUs than workers.
    """
    if not 1 <= workers <= len(cpus):
        raise ValueError(
            f"{workers} workers for {len(cpus)} usable CPUs, but each worker needs a "
            f"CPU of its own: use from 1 to {len(cpus)} workers (-n)"
        )
    size, more = divmod(len(cpus), workers)
    starts = [worker * size + min(worker, more) for worker in range(workers + 1)]
    return tuple(tuple(cpus[start:end]) for start, end in itertools.pairwise(starts))
