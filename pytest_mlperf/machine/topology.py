"""Which NUMA node each GPU is on, from the kernel, NVML, or two tools' listings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mlperf.machine.host import parse_cpus
from pytest_mlperf.machine.host import read_text
from pytest_mlperf.machine.numa import NumaError
from pytest_mlperf.machine.numa import NumaNode
from pytest_mlperf.machine.numa import format_ids

if TYPE_CHECKING:
    from pytest_mlperf.machine.gpus import Gpu

_NODES = "sys/devices/system/node"


def kernel_nodes(root: Path = Path("/")) -> dict[int, tuple[int, ...]]:
    """Return node -> CPUs; nodes that only have memory have an empty tuple."""
    folder = root / _NODES
    found = parse_cpus(read_text(folder / "online"))
    return {
        node: parse_cpus(read_text(folder / f"node{node}/cpulist")) for node in found
    }


def gpu_node(
    gpu: Gpu, nodes: Mapping[int, Sequence[int]], root: Path = Path("/")
) -> int | None:
    """Return a GPU's node; None where neither the kernel nor its CPUs tell.

    The kernel says -1 for a slot whose firmware names no node.
    """
    text = read_text(root / f"sys/bus/pci/devices/{gpu.pci_id}/numa_node")
    if gpu.pci_id and text.isdecimal() and int(text) in nodes:
        node = int(text)
        # GH200 and its kin: a GPU's own memory is a node that has no CPUs.
        if nodes[node]:
            return node
    near = set(gpu.cpus)
    holding = [node for node, cpus in nodes.items() if near & set(cpus)]
    return holding[0] if len(holding) == 1 else None


def detect_numa(gpus: Sequence[Gpu], root: Path = Path("/")) -> tuple[NumaNode, ...]:
    """Return the nodes that have GPUs, in node order; GPUs are numbered as given.

    Empty on a machine with one node or without GPUs: there is nothing to choose.
    """
    nodes = {node: cpus for node, cpus in kernel_nodes(root).items() if cpus}
    if len(nodes) < 2:
        return ()
    placed: dict[int, list[int]] = {}
    for index, gpu in enumerate(gpus):
        node = gpu_node(gpu, nodes, root)
        if node is not None:
            placed.setdefault(node, []).append(index)
    return tuple(NumaNode(tuple(placed[node]), nodes[node]) for node in sorted(placed))


def placed(gpus: Sequence[Gpu], nodes: Iterable[NumaNode]) -> tuple[Gpu, ...]:
    """Return the GPUs with the CPUs that a configuration gives them."""
    near = {gpu: node.cpus for node in nodes for gpu in node.gpus}
    return tuple(
        replace(gpu, cpus=near.get(index, gpu.cpus)) for index, gpu in enumerate(gpus)
    )


def parse_numactl(text: str) -> dict[int, tuple[int, ...]]:
    """Return node -> CPUs of what ``numactl --hardware`` prints.

    Raises ``NumaError`` when there is no node in it.
    """
    rows = re.findall(r"^node (\d{1,5}) cpus:([ \d]*)$", text, re.M)
    if not rows:
        raise NumaError(text[:60], 0, "no line 'node N cpus: …' as numactl prints")
    return {int(node): parse_cpus(",".join(cpus.split())) for node, cpus in rows}


def parse_topo(text: str) -> dict[int, tuple[tuple[int, ...], int | None]]:
    """Return GPU -> (CPUs, node) of what ``nvidia-smi topo -m`` prints.

    The columns are found by content: NICs add columns, and a header is often torn when
    it is pasted. Raises ``NumaError`` when there is no GPU in it.
    """
    found: dict[int, tuple[tuple[int, ...], int | None]] = {}
    cells = r"(?:X|SYS|NODE|PHB|PXB|PIX|NV\d+|C2C)"
    row = re.compile(
        rf"^GPU(\d{{1,4}})(?:\s+{cells})+\s+([\d,-]+)(?:\s+(\d+|N/A))?(?:\s+\S+)?\s*$",
        re.M,
    )
    for gpu, cpus, node in row.findall(text):
        found[int(gpu)] = (parse_cpus(cpus), int(node) if node.isdecimal() else None)
    if not found:
        raise NumaError(text[:60], 0, "no line of a GPU with its CPUs")
    return found


def numa_of_listings(numactl: str, topo: str) -> tuple[NumaNode, ...]:
    """Return the configuration that the two tools' listings amount to.

    Where the tools disagree about a GPU's CPUs, ``NumaError`` says so.
    """
    nodes = parse_numactl(numactl)
    placed: dict[int, list[int]] = {}
    for gpu, (cpus, node) in sorted(parse_topo(topo).items()):
        by_cpus = [n for n, mine in nodes.items() if set(cpus) & set(mine)]
        if node is None and len(by_cpus) == 1:
            node = by_cpus[0]
        if node is None or by_cpus != [node]:
            said = f"GPU {gpu}: topo -m says node {node}, CPUs {format_ids(cpus)}"
            problem = f"{said}, which numactl has on node {by_cpus}; measure them again"
            raise NumaError(topo[:60], 0, problem)
        placed.setdefault(node, []).append(gpu)
    return tuple(NumaNode(tuple(placed[node]), nodes[node]) for node in sorted(placed))
