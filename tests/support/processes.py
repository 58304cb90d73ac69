"""Processes as /proc tells of them."""

from __future__ import annotations

from pathlib import Path


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
