"""Which NUMA node each GPU is on, from the kernel or the GPU's near CPUs."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.machine.gpus import Gpu
from pytest_mlperf.machine.host import read_numa_nodes
from pytest_mlperf.machine.host import read_text
from pytest_mlperf.machine.numa import NumaNode


def find_node(
    gpu: Gpu, nodes: Mapping[int, Sequence[int]], root: Path = Path("/")
) -> int | None:
    """Return a GPU's node; None where neither the kernel nor its near CPUs decide.

    The kernel reports -1 for a slot whose firmware names no node.
    """
    text = read_text(root / f"sys/bus/pci/devices/{gpu.pci_id}/numa_node")
    if gpu.pci_id and text.isdecimal() and int(text) in nodes:
        node = int(text)
        # On GH200 and the like, a GPU's own memory is a node without CPUs.
        if nodes[node]:
            return node
    near = set(gpu.cpus)
    matches = [node for node, cpus in nodes.items() if near & set(cpus)]
    return matches[0] if len(matches) == 1 else None


def detect_numa(gpus: Sequence[Gpu], root: Path = Path("/")) -> tuple[NumaNode, ...]:
    """Return the nodes that have GPUs, in node order; GPUs are numbered as given.

    Empty on a machine with one node or without GPUs: nothing is to be chosen.
    """
    nodes = {node: cpus for node, cpus in read_numa_nodes(root).items() if cpus}
    if len(nodes) < 2:
        return ()
    on_node: dict[int, list[int]] = {}
    for index, gpu in enumerate(gpus):
        node = find_node(gpu, nodes, root)
        if node is not None:
            on_node.setdefault(node, []).append(index)
    return tuple(
        NumaNode(tuple(on_node[node]), nodes[node]) for node in sorted(on_node)
    )


def assign_cpus(gpus: Sequence[Gpu], nodes: Iterable[NumaNode]) -> tuple[Gpu, ...]:
    """Return the GPUs with the CPUs that a configuration gives them."""
    near = {gpu: node.cpus for node in nodes for gpu in node.gpus}
    return tuple(
        replace(gpu, cpus=near.get(index, gpu.cpus)) for index, gpu in enumerate(gpus)
    )
