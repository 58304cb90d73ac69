"""results.jsonl: a header line, one line per item, a closing line.

This report is a stream and no ``Reporter``: lines are appended and flushed one by one
as items end, so a session that crashes loses nothing. It leaves a file that can be read
up to the crash; the closing line is what marks a file as complete. A line that cannot
be written (the disk is full) is taken back whole, kept, and written when there is room.
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
from errno import EEXIST
from itertools import count
from pathlib import Path
from typing import Any

from pytest_mlperf.core.redaction import redact_values
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.whole_file import write_whole

SCHEMA = 1
FILE = "results.jsonl"


class MissingHeader(ValueError):
    """The file does not begin with a header line."""


class BadLine(ValueError):
    """A line is not what the schema says; the text names ``file:line``."""


class PartialResults(ValueError):
    """The closing line, or another one, is missing. ``partial`` holds what there is."""

    def __init__(self, text: str, partial: SessionResults) -> None:
        super().__init__(text)
        self.partial = partial


def find_file(path: Path) -> Path:
    """Return a session's results file: in its folder, or the file itself."""
    return path / FILE if path.is_dir() else path


def read_results(path: Path, *, allow_partial: bool = False) -> SessionResults:
    """Read a results file.

    A line that is no JSON was torn by a kill or a full disk: it is passed over, and the
    file is partial. Raises ``MissingHeader``, ``BadLine``, or ``PartialResults`` unless
    a partial file is allowed.
    """
    lines = path.read_bytes().split(b"\n")
    header = _parse(path, 1, lines[0]) or {}
    if header.get("type") != "header":
        raise MissingHeader(
            f"{path}:1: no header line, but a results file begins with one; the file "
            "is not a results.jsonl, or was cut at its start"
        )
    if (schema := header.get("schema", SCHEMA)) != SCHEMA:
        raise BadLine(
            f"{path}:1: schema {schema}, but this version reads {SCHEMA}: read it with "
            "the pytest-mlperf that wrote it, or update this one"
        )
    records: list[Record] = []
    torn: list[int] = []
    end: Mapping[str, Any] | None = None
    for number, line in enumerate(lines[1:], start=2):
        if number == len(lines) and not line:  # behind the last line's end
            break
        data = _parse(path, number, line)
        # Without its line break a last line may be a part of it that reads well.
        if data is None or number == len(lines):
            torn.append(number)
        elif end is not None or data.get("type") not in ("verdict", "end"):
            raise BadLine(
                f"{path}:{number}: line of type {data.get('type')!r}, but should be "
                "a verdict, and nothing after the closing line"
            )
        elif data["type"] == "end":
            end = data
        else:
            records.append(_read_record(path, number, data))
    results = SessionResults(header, tuple(records), end, tuple(torn))
    if results.is_torn and not allow_partial:
        raise PartialResults(describe_damage(path, results), results)
    return results


def describe_damage(path: Path, results: SessionResults) -> str:
    """Return what is missing in a partial file, why, and what to do."""
    cut = ", ".join(f"line {number}" for number in results.torn)
    problems = [f"{cut} torn"] * bool(cut)
    if results.end is None:
        problems.append("no closing line, but a session that ended writes one")
    return (
        f"{path}: {' and '.join(problems)}; {len(results.records)} records are whole; "
        "the session was killed, or its disk was full: run it again, or read the "
        "partial results with allow_partial=True"
    )


def _read_record(path: Path, number: int, data: Mapping[str, Any]) -> Record:
    try:
        return Record.from_line(data)
    except ValueError as error:
        raise BadLine(f"{path}:{number}: {error}") from None


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any] | None:
    """Return a line's object, None for a torn line; raises ``BadLine``."""
    try:
        data = json.loads(line)
    except ValueError:
        return None
    if not isinstance(data, dict):
        raise BadLine(f"{path}:{number}: {type(data).__name__}, but should be object")
    return data


@dataclass(slots=True)
class ResultsWriter:
    """Appends to a results file; every line is in the file when the call returns, or is
    one of ``pending``, which every later call tries to write first.
    """

    path: Path
    header: Mapping[str, Any] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    results: SessionResults | None = None
    """The whole, once the file is closed."""
    pending: list[bytes] = field(default_factory=list)
    """Lines that could not be written so far."""
    problem: str = ""
    """Why the last attempt failed."""

    def open(self, header: Mapping[str, Any]) -> None:
        """Create the file with its header; raises ``OSError``.

        There is no file without a header, whatever ends this call.
        """
        line = {"type": "header", "schema": SCHEMA, **header}
        if self.path.exists():  # nobody makes it meanwhile: the folder is claimed
            raise FileExistsError(EEXIST, os.strerror(EEXIST), str(self.path))
        write_whole(self.path, _encode(line).decode())
        # As it is read back.
        self.header = json.loads(json.dumps(redact_values(line)))

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
        self.pending.append(_encode(data))
        try:
            while self.pending:
                append_whole(self.path, self.pending[0])
                del self.pending[0]
        except OSError as error:
            self.problem = error.strerror or str(error)


def _encode(data: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(redact_values(data), sort_keys=True)}\n".encode()


def append_whole(path: Path, line: bytes) -> None:
    """Append all of a line or nothing of it; raises ``OSError``."""
    with path.open("ab", buffering=0) as stream:
        start, written = stream.tell(), 0
        try:
            while written < len(line):
                written += stream.write(line[written:])
        except BaseException:  # Ctrl-C too: what is not done is done again
            with contextlib.suppress(OSError):
                stream.truncate(start)
            raise


def plan_folder(root: Path, now: datetime) -> Path:
    """Return a folder's path that no other session plans: it has the microsecond."""
    return root / now.strftime("%Y%m%d-%H%M%S-%f")


def claim_folder(root: Path, now: datetime) -> Path:
    """Make and return the folder of a session that starts now: ``<stamp>``, or
    ``<stamp>-2`` where another session has that one. Raises ``OSError``.

    Making it is the claim: sessions that start at once, one a GPU, do not share it.
    """
    root.mkdir(parents=True, exist_ok=True)
    stamp = now.strftime("%Y%m%d-%H%M%S")
    for number in count(1):
        folder = root / (stamp if number == 1 else f"{stamp}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError("count() does not end")


def point_latest(folder: Path) -> None:
    """Point ``latest`` beside a folder at it; without symbolic links there is none.

    Stores of CI artifacts follow links: where an earlier job's reports came back from
    one, ``latest`` is a folder. It is moved aside, else it would be read as this one.
    """
    latest = folder.parent / "latest"
    link = folder.parent / f".latest-{os.getpid()}-{folder.name}"
    try:
        link.symlink_to(folder.name)
        if latest.is_dir() and not latest.is_symlink():
            latest.rename(folder.parent / f"latest-before-{folder.name}")
        link.replace(latest)
    except OSError:
        with contextlib.suppress(OSError):
            link.unlink()


def find_versions(names: Sequence[str]) -> dict[str, str]:
    """Return package -> version of those that are installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version

    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
