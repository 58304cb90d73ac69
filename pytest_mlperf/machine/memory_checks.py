"""How memory hangs on the CPUs: alike on every node, nodes a socket, channels in use.

NVIDIA's guides ask for symmetric nodes, small ones (a die of an EPYC each), and modules
in as many channels as there are.
"""

from __future__ import annotations

import re
from pathlib import Path

from pytest_mlperf.machine.host import Host
from pytest_mlperf.machine.host import read_numa_nodes
from pytest_mlperf.machine.host import read_text
from pytest_mlperf.machine.host_checks import HostSetting

ALIKE = 0.1
"""Share by which nodes' memory may differ: the kernel keeps some of the first one's."""
_NODE = "sys/devices/system/node"
_EDAC = "sys/devices/system/edac/mc"
_SMBIOS = "sys/firmware/dmi/entries"
_GIB = 1 << 30


def read_node_symmetry(root: Path = Path("/")) -> HostSetting | None:
    """Return whether all nodes with CPUs have as many of them, and as much memory.

    None on one node. Nodes without CPUs are a GPU's or an expander's memory.
    """
    nodes = {node: cpus for node, cpus in read_numa_nodes(root).items() if cpus}
    if len(nodes) < 2:
        return None
    sizes = {node: _read_node_memory(root, node) for node in nodes}
    counts = {len(cpus) for cpus in nodes.values()}
    least, most = min(sizes.values()), max(sizes.values())
    if len(counts) == 1 and least >= most * (1 - ALIKE):
        each = f"{counts.pop()} CPUs and {most / _GIB:.0f} GiB each"
        return HostSetting("numa nodes", f"{len(nodes)} alike, {each}")
    each = "; ".join(
        f"node {node}: {len(cpus)} CPUs, {sizes[node] / _GIB:.0f} GiB"
        for node, cpus in nodes.items()
    )
    remedy = "put the same modules into every socket's slots, and give all CPUs"
    return HostSetting("numa nodes", f"uneven, {each}", "alike", remedy)


def _read_node_memory(root: Path, node: int) -> int:
    text = read_text(root / f"{_NODE}/node{node}/meminfo")
    match = re.search(r"MemTotal:\s*(\d{1,15}) kB", text)
    return int(match[1]) * 1024 if match else 0


def read_nodes_per_socket(host: Host, root: Path = Path("/")) -> HostSetting | None:
    """Return the firmware's NUMA nodes per socket: AMD's NPS, Intel's SNC.

    One node a socket averages the latency of all dies. None on a machine that has no
    such setting (ARM, desktop processors).
    """
    match = re.search(r"\b(EPYC|Xeon)\b", host.cpu_model, re.I)
    nodes = sum(map(bool, read_numa_nodes(root).values()))
    if not match or not nodes:
        return None
    per_socket = nodes / host.sockets
    name = "NPS" if match[1].upper() == "EPYC" else "SNC"
    cpuinfo = read_text(root / "proc/cpuinfo", 1 << 14)
    if re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.M):
        note = "as the hypervisor shows them"
        return HostSetting("nodes per socket", f"{per_socket:g}, {note}")
    if per_socket > 1:
        return HostSetting("nodes per socket", f"{per_socket:g}")
    advised = "4 (NPS4), or 2" if name == "NPS" else "2 or more (SNC on)"
    remedy = f"in the firmware's set-up, {name}; compare a run with either"
    return HostSetting("nodes per socket", f"{per_socket:g}", advised, remedy)


def read_memory_channels(root: Path = Path("/")) -> HostSetting:
    """Return how many memory channels have a module.

    By the memory controllers' driver (EDAC), else by the firmware's list of slots
    (SMBIOS), which only root may read.
    """
    used, possible = _count_edac_channels(root)
    kind = "channels"
    if not used:
        used, possible = _count_slots(root)
        kind = "slots"
    if not used:
        how = "neither EDAC nor SMBIOS can be read here; as root: dmidecode -t memory"
        return HostSetting("memory channels", f"unknown: {how}", is_known=False)
    found = f"{used} of {possible} {kind} in use"
    # Every channel may be in use though slots are free.
    if used == possible or kind == "slots":
        return HostSetting("memory channels", found)
    remedy = "add modules, of one kind, until every channel has one"
    return HostSetting("memory channels", found, f"all {possible}", remedy)


def _count_edac_channels(root: Path) -> tuple[int, int]:
    """Return the channels with a module, and all, of all controllers; zeros: unknown.

    ``dimm_location`` and ``max_location`` read like ``csrow 0 channel 1``.
    """
    used = possible = 0
    for controller in sorted((root / _EDAC).glob("mc[0-9]*")):
        channels = set()
        for module in controller.glob("dimm[0-9]*"):
            channel = _read_channel(module / "dimm_location")
            if channel is not None and read_text(module / "size") not in ("", "0"):
                channels.add(channel)
        last = _read_channel(controller / "max_location")
        used += len(channels)
        possible += max([*channels, -1 if last is None else last]) + 1
    return used, possible


def _read_channel(path: Path) -> int | None:
    match = re.search(r"\bchannel (\d{1,3})\b", read_text(path))
    return int(match[1]) if match else None


def _count_slots(root: Path) -> tuple[int, int]:
    """Return the slots with a module, and all, by SMBIOS' records of type 17."""
    sizes = []
    for record in (root / _SMBIOS).glob("17-*/raw"):
        try:
            raw = record.read_bytes()
        except OSError:
            continue
        if len(raw) >= 14:
            sizes.append(int.from_bytes(raw[12:14], "little"))  # 0: the slot is empty
    return sum(map(bool, sizes)), len(sizes)
