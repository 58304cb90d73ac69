"""Settings of GPUs that spoil a measurement: persistence, ECC, the link, the clocks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.machine.gpus import Gpu
from pytest_mlperf.machine.host import read_text
from pytest_mlperf.machine.host_checks import HostSetting
from pytest_mlperf.machine.nvml import LIBRARY
from pytest_mlperf.machine.nvml import GpuState
from pytest_mlperf.machine.nvml import Nvml
from pytest_mlperf.machine.nvml import NvmlError
from pytest_mlperf.machine.nvml import Reading

GENERATIONS = {"2.5": 1, "5.0": 2, "8.0": 3, "16.0": 4, "32.0": 5, "64.0": 6}
"""GT/s of a PCIe link, as sysfs has it -> generation."""
T4_MHZ = 1590
"""What NVIDIA's guide locks a T4's clocks to."""


def read_gpu_settings(
    gpus: Sequence[Gpu], root: Path = Path("/"), library: str = LIBRARY
) -> list[HostSetting]:
    """Return the settings of all GPUs, as far as NVML and sysfs tell them."""
    found = []
    for index, gpu in enumerate(gpus):
        state, reading = GpuState(), Reading()
        if library != LIBRARY or root == Path("/"):  # a made-up root has no driver
            with suppress(NvmlError), closing(Nvml(gpu.uuid, library)) as card:
                state, reading = card.read_state(), card.read()
        state = _add_link(state, root / f"sys/bus/pci/devices/{gpu.pci_id}")
        settings = [
            judge_persistence(state, index),
            judge_ecc(state, index),
            judge_link(state),
            judge_clocks(reading, gpu.name, index),
        ]
        found += [replace(s, name=f"GPU {index} {s.name}") for s in settings if s]
    return found


def _add_link(state: GpuState, folder: Path) -> GpuState:
    """Return a state with the link that sysfs shows, where NVML tells none."""
    if state.width is not None:
        return state
    texts = [
        read_text(folder / name)
        for name in ("current_link_width", "max_link_width")
    ]  # fmt: skip
    widths = [int(text) if text.isdecimal() else None for text in texts]
    speeds = [
        re.match(r"[\d.]+", read_text(folder / name))
        for name in ("current_link_speed", "max_link_speed")
    ]
    current, most = [GENERATIONS.get(one[0]) if one else None for one in speeds]
    return replace(
        state, width=widths[0], most_width=widths[1],
        generation=current, most_generation=most,
    )  # fmt: skip


def judge_persistence(state: GpuState, index: int) -> HostSetting | None:
    """Return persistence mode: without it the driver unloads between processes."""
    if state.is_persistent is None:
        return None
    if state.is_persistent:
        return HostSetting("persistence", "on")
    remedy = f"as root: nvidia-smi -i {index} -pm 1, or run nvidia-persistenced"
    return HostSetting("persistence", "off", "on", remedy)


def judge_ecc(state: GpuState, index: int) -> HostSetting | None:
    """Return ECC mode: the closed division asks for it in the datacenter."""
    if state.has_ecc is None:
        return None
    found = "on" if state.has_ecc else "off"
    if state.pends_ecc not in (None, state.has_ecc):
        found += f", {'on' if state.pends_ecc else 'off'} after the next reset"
    if state.has_ecc:
        return HostSetting("ECC", found)
    remedy = f"as root: nvidia-smi -i {index} -e 1, then reset the GPU or reboot"
    return HostSetting("ECC", found, "on for datacenter submissions", remedy)


def judge_link(state: GpuState) -> HostSetting | None:
    """Return the PCIe link as it is and as it could be.

    An idle link saves power by a lower generation; its width stays.
    """
    if not state.width or not state.most_width:
        return None
    found, most = f"x{state.width}", f"x{state.most_width}"
    slow = False
    if state.generation and state.most_generation:
        found = f"gen {state.generation} {found}"
        most = f"gen {state.most_generation} {most}"
        slow = state.generation < state.most_generation
    full_speed = state.performance_state == 0
    if state.width < state.most_width or (slow and full_speed):
        remedy = "seat the card in a slot with all lanes; look at risers, switches and "
        remedy += "the firmware's bifurcation; --bandwidth measures the link"
        return HostSetting("PCIe", found, most, remedy)
    if slow:
        found += f" while idle, {most} at most"
    return HostSetting("PCIe", found)


def judge_clocks(reading: Reading, name: str, index: int) -> HostSetting | None:
    """Return what holds the clocks back at this moment, and whether they are locked."""
    if reading.held_back is None:
        return None
    hot = [why for why in reading.held_back if "thermal" in why or "brake" in why]
    found = "locked" if reading.locked else "not locked"
    if reading.temperature_c is not None:
        found += f", {reading.temperature_c:.0f} °C"
    if hot:
        found += f", held back by {', '.join(hot)}"
        remedy = (
            "improve cooling; a run's fact `device temperature` says when it settles"
        )
        return HostSetting("clocks", found, "held back by nothing", remedy)
    if re.search(r"\bT4\b", name) and not reading.locked:
        remedy = f"as root: nvidia-smi -i {index} -lgc {T4_MHZ},{T4_MHZ}"
        return HostSetting("clocks", found, f"locked at {T4_MHZ} MHz", remedy)
    return HostSetting("clocks", found)
