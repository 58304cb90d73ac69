"""Whether the runs of an earlier session are of the system that is submitted.

A session's results.jsonl says where it ran. A machine may get its name later, and a
container has another host name each time; a result of another machine is none of this
system's.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.machine.system import UNREGISTERED
from pytest_mlperf.reporting.results import find_file
from pytest_mlperf.reporting.results import read_results


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a session ran."""

    name: str
    """Of the system, in results and submissions."""
    summary: str
    """Processors, memory, GPUs and software in a line."""
    host: str

    @classmethod
    def of(cls, reports: Path) -> Origin | None:
        """Return where the session of a reports folder ran; None if it does not say."""
        try:
            header = read_results(find_file(reports), allow_partial=True).header
            system = header["system"]
            return cls(system["name"], system["summary"], header["host"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @classmethod
    def here(cls, name: str, summary: str) -> Origin:
        """Return the origin of the session at hand."""
        return cls(name, summary, platform.node())

    def is_foreign_to(self, other: Origin) -> bool:
        """Return whether this is another machine, as far as names tell.

        Machines of one registered name are one system; ``UNREGISTERED_…`` names none.
        """
        is_named = self.name == other.name and not self.name.startswith(UNREGISTERED)
        return (
            not is_named and self.host != other.host and self.summary != other.summary
        )

    def __str__(self) -> str:
        return f"{self.name} ({self.host}: {self.summary})"


def list_sessions(reports: Path) -> list[Path]:
    """Return an earlier session's reports folder behind those that it completed.

    The first is the oldest. A session that was refused or interrupted leaves no tree,
    and the runs that it took from its own ``--mlperf-tree`` lie where they were made.
    """
    found: list[Path] = []
    next_one: Path | None = reports
    while next_one and next_one not in found and (next_one / "logs").is_dir():
        found.insert(0, next_one)
        next_one = _find_completed(next_one)
    return found


def _find_completed(reports: Path) -> Path | None:
    """Return the ``--mlperf-tree`` of a session; None where it names none."""
    try:
        header = read_results(find_file(reports), allow_partial=True).header
        return Path(header["options"]["tree"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def refuse_foreign(reports: Path, here: Origin) -> str:
    """Return why no run of an earlier session may count; empty where they may."""
    before = Origin.of(reports)
    if before is None or not before.is_foreign_to(here):
        return ""
    return (
        f"--mlperf-tree {reports}: its runs were made on {before}, and this is {here}; "
        "a result has the runs of one system: repeat them here, or complete that "
        "session on its own machine; machines of one kind share a name, given with "
        "--mlperf-system"
    )


def describe_renamed(reports: Path, name: str) -> list[str]:
    """Return a line where an earlier session's system had another name."""
    before = Origin.of(reports)
    if before is None or before.name == name:
        return []
    return [f"the runs of {reports} were made as {before.name}, and count as {name}"]
