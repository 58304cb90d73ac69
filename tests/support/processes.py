"""Processes as /proc tells of them."""

from __future__ import annotations

import time
from pathlib import Path

LIMIT_S = 120.0


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie that nobody waits for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def await_end(pid: int) -> None:
    """Return once a process has ended; fails after two minutes."""
    until = time.monotonic() + LIMIT_S
    while is_alive(pid):
        assert time.monotonic() < until, f"{pid} lives on"
        time.sleep(0.01)


def list_children(parent: int) -> list[int]:
    """Return the processes that a process has started and that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, father = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # gone in the meantime
            continue
        if int(father) == parent and state != "Z":
            found.append(int(stat.parent.name))
    return found


def list_descendants(parent: int) -> list[int]:
    """Return the processes below a process, whatever session they are in."""
    found = []
    for child in list_children(parent):
        found += [child, *list_descendants(child)]
    return found
