"""Which CPUs serve which GPUs: ``3:0-15,64-79&2:16-31,80-95``, parsed and checked.

There is one part per NUMA node, joined by ``&``, each ``GPUs:CPUs``; both are numbers
and ranges joined by commas. GPUs are counted in PCI order. Nodes without a GPU have no
part, so the position of a part says nothing about its node's number.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass

OFF = "off"
"""Stands for a configuration that binds nothing (DGX Station, one node)."""
_LARGEST = 1 << 16


class NumaError(ValueError):
    """A NUMA configuration cannot be used; the text names the place and the remedy."""

    def __init__(self, text: str, position: int, problem: str) -> None:
        self.position = position
        """Counted from 1; 0 for the whole text."""
        where = f", character {position}" if position else ""
        super().__init__(f"NUMA configuration {text!r}{where}: {problem}")


@dataclass(frozen=True, slots=True)
class NumaNode:
    """One node's GPUs and CPUs, both ascending."""

    gpus: tuple[int, ...]
    cpus: tuple[int, ...]

    def __str__(self) -> str:
        return f"{format_ids(self.gpus)}:{format_ids(self.cpus)}"


def parse_numa(text: str) -> tuple[NumaNode, ...]:
    """Return the nodes of a configuration in the order written.

    Raises ``NumaError`` for a syntax error, and for a GPU or CPU that occurs twice.
    """
    nodes: list[NumaNode] = []
    seen: dict[tuple[str, int], int] = {}
    start = 0
    for part in text.split("&"):
        lists = part.split(":")
        if len(lists) != 2:
            if len(lists) == 1:
                place = start + len(part) + 1
                problem = "the ':' between GPUs and CPUs is missing"
            else:
                place = start + len(f"{lists[0]}:{lists[1]}") + 1
                problem = "a second ':' in one node; nodes are joined by '&'"
            raise NumaError(text, place, f"{problem}; a node is GPUs:CPUs, as 3:0-15")
        gpus = _parse_ids(text, lists[0], start, "GPU", seen)
        cpus = _parse_ids(text, lists[1], start + len(lists[0]) + 1, "CPU", seen)
        nodes.append(NumaNode(gpus, cpus))
        start += len(part) + 1
    return tuple(nodes)


def _parse_ids(
    text: str, listed: str, start: int, kind: str, seen: dict[tuple[str, int], int]
) -> tuple[int, ...]:
    found: list[int] = []
    for item in listed.split(","):
        place = start + 1
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", item, re.ASCII)
        if not match:
            shown = f"found {item!r}" if item else f"a {kind} number is missing"
            legal = "legal are numbers and ranges joined by commas, as 0-15,64-79"
            raise NumaError(text, place, f"{shown}; {legal}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            problem = f"the range {item} runs backwards; write {last}-{first}"
            raise NumaError(text, place, problem)
        if last >= _LARGEST:
            raise NumaError(text, place, f"{last} is above {_LARGEST - 1}")
        for one in range(first, last + 1):
            before = seen.setdefault((kind, one), place)
            if before != place or one in found:
                problem = f"{kind} {one} stands at character {before} already"
                raise NumaError(text, place, f"{problem}; leave one of them out")
            found.append(one)
        start += len(item) + 1
    return tuple(sorted(found))


def format_numa(nodes: Iterable[NumaNode]) -> str:
    """Return the text that ``parse_numa`` reads back to the same nodes."""
    return "&".join(map(str, nodes))


def format_ids(ids: Collection[int]) -> str:
    """Return the ids as the kernel and the grammar write them: ``0-15,64-79``."""
    ordered = sorted(set(ids))
    runs = []
    for _, group in itertools.groupby(
        enumerate(ordered), lambda pair: pair[1] - pair[0]
    ):
        run = [one for _, one in group]
        runs.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ",".join(runs)


def check_numa(
    nodes: Sequence[NumaNode], gpus: int, cpus: Collection[int]
) -> tuple[NumaNode, ...]:
    """Return the nodes; raises ``NumaError`` for another machine's configuration.

    ``gpus``: their number; ``cpus``: all CPUs that are online.
    """
    text = format_numa(nodes)
    named = {gpu for node in nodes for gpu in node.gpus}
    legal = f"this machine has GPUs {format_ids(range(gpus)) or 'none'}"
    copied = "a configuration copied from another machine is to be removed"
    if extra := named - set(range(gpus)):
        problem = f"found GPU {format_ids(extra)}, but {legal}; {copied}"
        raise NumaError(text, 0, problem)
    if missing := set(range(gpus)) - named:
        problem = f"GPU {format_ids(missing)} is in no node; {legal}; add it, or remove"
        raise NumaError(text, 0, f"{problem} the configuration")
    used = {cpu for node in nodes for cpu in node.cpus}
    if extra := used - set(cpus):
        problem = f"found CPU {format_ids(extra)}, but this machine has CPUs"
        raise NumaError(text, 0, f"{problem} {format_ids(cpus)}; {copied}")
    return tuple(nodes)


def list_differences(
    configured: Sequence[NumaNode], detected: Sequence[NumaNode]
) -> list[str]:
    """Return, GPU by GPU, how the configuration differs from what was detected.

    A GPU whose node was not detected is left out.
    """
    wanted = {gpu: node.cpus for node in configured for gpu in node.gpus}
    found = {gpu: node.cpus for node in detected for gpu in node.gpus}
    return [
        f"GPU {gpu}: configured CPUs {format_ids(wanted[gpu])}, "
        f"detected {format_ids(found[gpu])}"
        for gpu in sorted(wanted)
        if gpu in found and set(wanted[gpu]) != set(found[gpu])
    ]
