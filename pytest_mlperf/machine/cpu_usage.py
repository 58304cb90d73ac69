"""How much of a run's CPUs other programs and the hypervisor used."""

from __future__ import annotations

import os
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.core.verdict import OTHERS
from pytest_mlperf.machine.host import read_text

QUIET = 0.05
"""Share of the run's CPUs that others may use before the fact advises against it."""
_IDLE, _IOWAIT, _STEAL = 3, 4, 7
"""Columns of /proc/stat after the CPU's name; proc_stat(5)."""
_PPID, _UTIME, _CUTIME_END = 1, 11, 15
"""Fields of /proc/PID/stat after the program's name; proc_pid_stat(5)."""


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Ticks since boot: of some CPUs, and of this process with its descendants."""

    total: int
    busy: int
    """All but idle time; excludes stolen time."""
    stolen: int
    own: int

    @classmethod
    def read(
        cls,
        cpus: Sequence[int],
        pid: int | None = None,
        root: Path = Path("/"),
        family: Collection[int] = (),
    ) -> CpuTime | None:
        """Return the current state; None when the kernel does not report it.

        ``family``: the processes that are our own, where they are known; looking
        through all processes of a large machine takes milliseconds.
        """
        wanted = {f"cpu{cpu}" for cpu in cpus}
        total = busy = stolen = 0
        for line in read_text(root / "proc/stat").splitlines():
            name, *words = line.split()
            if name not in wanted or len(words) <= _STEAL:
                continue
            ticks = [int(word) for word in words[: _STEAL + 1]]
            total += sum(ticks)
            stolen += ticks[_STEAL]
            busy += sum(ticks) - ticks[_IDLE] - ticks[_IOWAIT] - ticks[_STEAL]
        if not total:
            return None
        found = read_ticks(root, family) if family else read_ticks(root)
        own = family or find_family(pid or os.getpid(), found)
        return cls(
            total, busy, stolen, sum(found[one].ticks for one in own if one in found)
        )


def describe_usage(first: CpuTime, last: CpuTime, cpus: int) -> dict[str, str]:
    """Return facts about the others' usage between two states of ``cpus`` CPUs."""
    total = last.total - first.total
    if total <= 0:
        return {}
    share = find_others_share(first, last)
    facts = {OTHERS: f"{share * cpus:.2f} of {cpus} CPUs"}
    if share > QUIET:
        facts[OTHERS] += (
            f" (advised: below {QUIET * cpus:.1f}; end what else runs on this machine)"
        )
    stolen = (last.stolen - first.stolen) / total
    if stolen >= QUIET / 10:
        facts["stolen"] = f"the hypervisor kept {stolen:.1%} of the CPUs' time"
    return facts


def find_others_share(first: CpuTime, last: CpuTime) -> float:
    """Return the share of the CPUs, 0 to 1, that others used between two states."""
    total = last.total - first.total
    others = (last.busy - first.busy) - (last.own - first.own)
    return max(0.0, others / total) if total > 0 else 0.0


@dataclass(frozen=True, slots=True)
class ProcessTicks:
    """A process's parent, and its ticks with those of its children that ended."""

    parent: int
    ticks: int


def read_ticks(
    root: Path = Path("/"), pids: Collection[int] | None = None
) -> dict[int, ProcessTicks]:
    """Return process -> ticks, of all processes or of some."""
    found: dict[int, ProcessTicks] = {}
    folder = root / "proc"
    names = (p.name for p in folder.glob("[0-9]*")) if pids is None else map(str, pids)
    for name in names:
        # The name may contain anything, even a bracket: the last bracket ends it.
        words = read_text(folder / name / "stat").rpartition(")")[2].split()
        if len(words) < _CUTIME_END:
            continue  # it has just ended
        ticks = sum(map(int, words[_UTIME:_CUTIME_END]))
        found[int(name)] = ProcessTicks(int(words[_PPID]), ticks)
    return found


def read_family_s(pid: int, *, with_self: bool = True) -> float:
    """Return the CPU seconds of a process and its descendants, or of those alone."""
    found = read_ticks()
    family = find_family(pid, found) - (frozenset() if with_self else {pid})
    ticks = sum(found[one].ticks for one in family if one in found)
    return ticks / os.sysconf("SC_CLK_TCK")


def find_family(pid: int, processes: Mapping[int, ProcessTicks]) -> frozenset[int]:
    """Return a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for one, process in processes.items():
        children.setdefault(process.parent, []).append(one)
    family, todo = set(), [pid]
    while todo:
        one = todo.pop()
        family.add(one)
        todo += children.get(one, [])
    return frozenset(family)
