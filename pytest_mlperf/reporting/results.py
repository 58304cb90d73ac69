"""results.jsonl: a header line, one line per item, a closing line.

This report is a stream and no ``Reporter``: lines are appended and flushed one by one
as items end, so a session that crashes loses nothing. It leaves a file that can be read
up to the crash; the closing line is what marks a file as complete.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from datetime import datetime
from pathlib import Path
from typing import Any

from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.session_results import SessionResults

SCHEMA = 1
FILE = "results.jsonl"


class MissingHeader(ValueError):
    """The file does not begin with a header line."""


class BadLine(ValueError):
    """A line is not what the schema says; the text names ``file:line``."""


class MissingFooter(ValueError):
    """The session did not end: no closing line. ``partial`` holds what there is."""

    def __init__(self, text: str, partial: SessionResults) -> None:
        super().__init__(text)
        self.partial = partial


def read_results(path: Path, *, allow_partial: bool = False) -> SessionResults:
    """Read a results file.

    Raises ``MissingHeader``, ``BadLine``, or ``MissingFooter`` unless a partial file
    is allowed. A last line cut short by a kill counts as missing, not as bad.
    """
    text = path.read_text(encoding="utf-8")
    whole, _, torn = text.rpartition("\n")
    lines = whole.split("\n") if whole else []
    header = _parse(path, 1, lines[0]) if lines else {}
    if header.get("type") != "header":
        raise MissingHeader(
            f"{path}:1: no header line, but a results file begins with one; the file "
            "is not a results.jsonl, or was cut at its start"
        )
    records: list[Record] = []
    end: Mapping[str, Any] | None = None
    for number, line in enumerate(lines[1:], start=2):
        data = _parse(path, number, line)
        if end is not None or data.get("type") not in ("verdict", "end"):
            raise BadLine(
                f"{path}:{number}: line of type {data.get('type')!r}, but should be "
                "a verdict, and nothing after the closing line"
            )
        if data["type"] == "end":
            end = data
            continue
        try:
            records.append(Record.from_line(data))
        except ValueError as error:
            raise BadLine(f"{path}:{number}: {error}") from None
    results = SessionResults(header, tuple(records), end)
    if end is None and not allow_partial:
        cut = " and a torn last line" if torn else ""
        raise MissingFooter(
            f"{path}: no closing line after {len(records)} records{cut}, but a session "
            "that ended writes one; it was killed: run it again, or read the partial "
            "results with allow_partial=True",
            results,
        )
    return results


def _parse(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise BadLine(f"{path}:{number}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadLine(f"{path}:{number}: {type(data).__name__}, but should be object")
    return data


@dataclass(slots=True)
class ResultsWriter:
    """Appends to a results file; every line is in the file when the call returns."""

    path: Path
    header: Mapping[str, Any] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    results: SessionResults | None = None
    """The whole, once the file is closed."""

    def open(self, header: Mapping[str, Any]) -> None:
        """Create the file with its header; raises ``OSError``."""
        self.path.touch(exist_ok=False)
        line = {"type": "header", "schema": SCHEMA, **header}
        self._write(line)
        self.header = json.loads(json.dumps(line))  # as it is read back

    def add(self, record: Record) -> None:
        """Append one item's line."""
        self.records.append(record)
        self._write(record.to_line())

    def close(
        self, *, exitstatus: int, interrupted: bool, selected: int
    ) -> SessionResults:
        """Append the closing line and return the whole; a second call only returns."""
        if self.results is None:
            end = {
                "type": "end", "exitstatus": exitstatus, "interrupted": interrupted,
                "selected": selected, "recorded": len(self.records),
                "counts": dict(Counter(record.outcome for record in self.records)),
                "ended": datetime.now().astimezone().isoformat(),
            }  # fmt: skip
            self._write(end)
            self.results = SessionResults(self.header, tuple(self.records), end)
        return self.results

    def _write(self, data: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(data, sort_keys=True) + "\n")


def plan_folder(root: Path, now: datetime) -> Path:
    """Return the folder of a session that starts now: ``<stamp>`` or ``<stamp>-2``."""
    stamp = now.strftime("%Y%m%d-%H%M%S")
    candidate, number = root / stamp, 1
    while _is_there(candidate):
        number += 1
        candidate = root / f"{stamp}-{number}"
    return candidate


def _is_there(path: Path) -> bool:
    # Sessions that will never write a report plan one too.
    with contextlib.suppress(OSError):
        return path.exists()
    return False


def create_folder(folder: Path) -> None:
    """Make the folder, which must be new, and point ``latest`` beside it at it.

    Raises ``OSError``. A file system without symbolic links has no ``latest``.
    """
    folder.mkdir(parents=True)
    link = folder.parent / f".latest-{os.getpid()}"
    with contextlib.suppress(OSError):
        link.symlink_to(folder.name)
        link.replace(folder.parent / "latest")


def find_versions(names: Sequence[str]) -> dict[str, str]:
    """Return package -> version of those that are installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version

    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
