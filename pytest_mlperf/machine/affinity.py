"""Binds a runner to CPUs, and its memory to the NUMA nodes of these CPUs."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.machine.host import read_numa_nodes
from pytest_mlperf.machine.numa import format_ids

_SET, _GET = {"x86_64": (238, 239), "aarch64": (237, 236)}.get(
    os.uname().machine, (0, 0)
)
"""System call numbers of set_mempolicy and get_mempolicy: libc has no wrapper."""
_DEFAULT, _PREFERRED, _PREFERRED_MANY = 0, 1, 5
"""From linux/mempolicy.h; the last since Linux 5.15."""
_BITS = 1024
"""Nodes in a mask; the kernel wants one more than the highest bit that counts."""


@dataclass(frozen=True, slots=True)
class Binding:
    """The CPUs and memory that a process was bound to."""

    cpus: tuple[int, ...]
    """The CPUs that the kernel granted."""
    nodes: tuple[int, ...] = ()
    """The nodes that memory is taken from first; empty for the kernel's choice."""
    note: str = ""
    """What was refused, and the remedy."""

    def __str__(self) -> str:
        text = f"CPUs {format_ids(self.cpus)}"
        if self.nodes:
            text += f", memory of node {format_ids(self.nodes)}"
        return f"{text} ({self.note})" if self.note else text


def bind(cpus: Sequence[int], root: Path = Path("/")) -> Binding:
    """Bind the calling thread, and the threads it will start, to CPUs and their memory.

    The memory policy prefers the CPUs' nodes and does not insist on them: a full node
    would otherwise end the run. What the system refuses becomes a note.
    """
    notes = []
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        wanted = format_ids(cpus)
        notes.append(f"CPUs {wanted} were refused ({error.strerror}): widen the cpuset")
    granted = tuple(sorted(os.sched_getaffinity(0)))
    nodes = find_nodes(granted, root)
    problem = prefer_nodes(nodes)
    if problem:
        notes.append(problem)
    return Binding(granted, () if problem else nodes, "; ".join(notes))


def find_nodes(cpus: Iterable[int], root: Path = Path("/")) -> tuple[int, ...]:
    """Return the nodes of some CPUs; none when these are all nodes anyway."""
    with_cpus = {node: set(own) for node, own in read_numa_nodes(root).items() if own}
    wanted = set(cpus)
    mine = tuple(sorted(node for node, own in with_cpus.items() if own & wanted))
    return () if len(mine) == len(with_cpus) else mine


def prefer_nodes(nodes: Sequence[int]) -> str:
    """Take new memory from these nodes first; return the problem, empty for none.

    A policy that the user set (``numactl --interleave=all pytest``) stays in force.
    """
    if not nodes:
        return ""
    wanted = f"memory is not bound to node {format_ids(nodes)}"
    if not _SET:
        return f"{wanted}: no system call number for {os.uname().machine} is known"
    mode = _PREFERRED_MANY if len(nodes) > 1 else _PREFERRED
    current = read_policy()
    if current and current[0] != _DEFAULT:
        same = current == (mode, tuple(nodes))
        return "" if same else f"{wanted}: the policy set from outside is kept"
    libc = ctypes.CDLL(None, use_errno=True)
    size = ctypes.c_ulong(_BITS + 1)
    if libc.syscall(ctypes.c_long(_SET), ctypes.c_long(mode), _make_mask(nodes), size):
        reason = os.strerror(ctypes.get_errno())
        return f"{wanted} ({reason}): a container must allow set_mempolicy"
    return ""


def _make_mask(nodes: Iterable[int]) -> ctypes.Array[ctypes.c_ulong]:
    width = 8 * ctypes.sizeof(ctypes.c_ulong)
    mask = (ctypes.c_ulong * (_BITS // width))()
    for node in nodes:
        mask[node // width] |= 1 << node % width
    return mask


def read_policy() -> tuple[int, tuple[int, ...]] | None:
    """Return the calling thread's memory policy and its nodes; None if unknown."""
    mode = ctypes.c_int()
    mask = _make_mask(())
    libc = ctypes.CDLL(None, use_errno=True)
    size = ctypes.c_ulong(_BITS)
    zero = ctypes.c_ulong(0)
    number = ctypes.c_long(_GET)
    if not _GET or libc.syscall(number, ctypes.byref(mode), mask, size, None, zero):
        return None
    width = 8 * ctypes.sizeof(ctypes.c_ulong)
    nodes = [n for n in range(_BITS) if mask[n // width] >> n % width & 1]
    return mode.value, tuple(nodes)
