"""LoadGen's log folder, read without trust: summary and detail, typed, streamed.

Anything that cannot be relied on is a ``LogError`` that names file and line; nothing
damaged is ever read as a result. LoadGen 2.0 to 6.x write this format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlperf.core.accuracy_log import read_accuracy
from pytest_mlperf.core.accuracy_log import read_accuracy_txt
from pytest_mlperf.core.logfile import LogError
from pytest_mlperf.core.logfile import lines
from pytest_mlperf.core.logfile import parse

__all__ = ["Event", "Log", "LogError", "read_accuracy", "read_accuracy_txt"]

SUMMARY = "mlperf_log_summary.txt"
DETAIL = "mlperf_log_detail.txt"
MARKER = ":::MLLOG "
KEPT_EVENTS = 1000
"""Errors and warnings kept word for word; all are counted."""

# LoadGen repeats these: once per loaded set, per message, or per contention counter.
REPEATED = re.compile(
    r"generic_message|warning_|error_|loaded_|generated_|logger_|power_"
)


@dataclass(frozen=True, slots=True)
class Event:
    """An error or a warning that LoadGen logged."""

    key: str
    text: str
    line: int

    @property
    def where(self) -> str:
        """``mlperf_log_detail.txt:123``."""
        return f"{DETAIL}:{self.line}"


@dataclass(frozen=True, slots=True)
class Log:
    """One LoadGen run as it is on disk."""

    folder: Path
    values: Mapping[str, Any]
    """Key of the detail log -> value; a list is kept as its length."""
    lines: Mapping[str, int]
    errors: tuple[Event, ...]
    warnings: tuple[Event, ...]
    error_count: int
    summary: Mapping[str, str]
    """Label of the summary -> text: ``Result is`` -> ``VALID``."""
    summary_lines: Mapping[str, int]

    @classmethod
    def read(cls, folder: Path) -> Log:
        """Read a run's folder; ``LogError`` where it cannot be trusted."""
        detail = _Detail(folder / DETAIL)
        for number, text in lines(folder / DETAIL):
            detail.take(number, text)
        detail.close()
        summary, summary_lines = _read_summary(folder / SUMMARY, detail.values)
        return cls(
            folder,
            detail.values,
            detail.lines,
            tuple(detail.errors),
            tuple(detail.warnings),
            detail.error_count,
            summary,
            summary_lines,
        )

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key of the detail log, or ``default``."""
        return self.values.get(key, default)

    def where(self, key: str) -> str:
        """Return ``file:line`` of a key; the file alone when it is not there."""
        line = self.lines.get(key)
        return f"{DETAIL}:{line}" if line else DETAIL

    def integer(self, key: str) -> int:
        """Return a whole number; ``LogError`` when it is missing or something else."""
        value = self._present(key)
        if type(value) is not int or not -(2**63) <= value < 2**64:
            raise self._wrong(key, value, "a whole number of 64 bits")
        return value

    def number(self, key: str) -> float:
        """Return a finite number; ``LogError`` when it is missing or something else."""
        value = self._present(key)
        if type(value) not in (int, float) or not abs(value) < float("inf"):
            raise self._wrong(key, value, "a finite number")
        try:
            return float(value)
        except OverflowError:
            raise self._wrong(key, "a huge integer", "a finite number") from None

    def flag(self, key: str) -> bool:
        """Return a truth value; ``LogError`` when it is missing or something else."""
        value = self._present(key)
        if type(value) is not bool:
            raise self._wrong(key, value, "true or false")
        return value

    def text(self, key: str) -> str:
        """Return a string; ``LogError`` when it is missing or something else."""
        value = self._present(key)
        if type(value) is not str:
            raise self._wrong(key, value, "a text")
        return value

    def _present(self, key: str) -> Any:
        if key not in self.values:
            raise LogError(self.folder / DETAIL, 0, f"no {key}", f"a line with {key}")
        return self.values[key]

    def _wrong(self, key: str, value: object, required: str) -> LogError:
        found = f"{key} = {str(value)[:60]}"
        line = self.lines.get(key, 0)
        return LogError(self.folder / DETAIL, line, found, required)


class _Detail:
    """What has been read of a detail log so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = {}
        self.lines: dict[str, int] = {}
        self.errors: list[Event] = []
        self.warnings: list[Event] = []
        self.error_count = 0
        self.last = 0

    def take(self, number: int, text: str) -> None:
        """Add one line."""
        if not text.startswith(MARKER):
            found = f"{text[:40]!r}"
            raise LogError(self.path, number, found, f"a line that begins {MARKER!r}")
        record = parse(self.path, number, text[len(MARKER) :])
        self.last = number
        try:
            key, value, meta = record["key"], record["value"], record["metadata"]
            is_error, is_warning = meta["is_error"], meta["is_warning"]
        except (TypeError, KeyError) as error:
            found = f"a record without {error}"
            raise LogError(
                self.path, number, found, "key, value and metadata"
            ) from None
        if type(key) is not str or type(is_error) is not bool:
            raise LogError(
                self.path, number, "a key or flag of wrong type", "text, bool"
            )
        if is_error or key.startswith("error_"):
            self.error_count += 1
            self._event(self.errors, key, value, number)
        elif is_warning or key.startswith("warning_"):
            self._event(self.warnings, key, value, number)
        self._keep(number, key, value)

    def _event(self, events: list[Event], key: str, value: object, line: int) -> None:
        if len(events) < KEPT_EVENTS:
            events.append(Event(key, str(value)[:500], line))

    def _keep(self, number: int, key: str, value: object) -> None:
        value = len(value) if isinstance(value, list) else value
        if key in self.values and not REPEATED.match(key):
            if key == "loadgen_version":
                first = f"a second run (the first begins at line {self.lines[key]})"
                raise LogError(self.path, number, first, "one run a file")
            if self.values[key] != value:
                found = f"{key} = {str(value)[:40]!r}, at line {self.lines[key]}"
                found += f" {str(self.values[key])[:40]!r}"
                raise LogError(self.path, number, found, "one value a key")
        self.values[key] = value
        self.lines[key] = number

    def close(self) -> None:
        """Raise ``LogError`` unless the log is whole."""
        if "loadgen_version" not in self.values:
            found = "no loadgen_version" if self.last else "an empty file"
            raise LogError(self.path, self.last, found, "LoadGen's opening lines")
        needed = ["effective_scenario", "effective_test_mode", "power_end"]
        if self.values.get("effective_test_mode") != "AccuracyOnly":
            needed += ["result_validity", "result_99.90_percentile_latency_ns"]
            if _version(self.values["loadgen_version"]) >= (5, 1):
                needed.append("num_errors")
        for key in needed:
            if key not in self.values:
                found = f"the end of the log without {key}"
                raise LogError(self.path, self.last, found, "a finished run")


def _version(text: object) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", str(text))
    return tuple(int(part) for part in found.groups()) if found else (0, 0)


def _read_summary(
    path: Path, detail: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, int]]:
    """Return the summary's labels and lines; ``LogError`` when it is not whole."""
    fields: dict[str, str] = {}
    places: dict[str, int] = {}
    closed = False
    number = 0
    for number, text in lines(path):
        if re.match(r"(No|\d+) errors? encountered", text, re.IGNORECASE):
            closed = True
        label, colon, value = text.partition(":")
        label = label.strip()
        if not colon:
            continue
        if label == "SUT name" and label in fields:
            raise LogError(path, number, "a second summary", "one run a file")
        fields.setdefault(label, value.strip())
        places.setdefault(label, number)
    performance = detail["effective_test_mode"] != "AccuracyOnly"
    if performance and "Result is" not in fields:
        raise LogError(path, number, "no 'Result is' line", "LoadGen's verdict")
    if not closed:
        found = "the end of the summary without its count of errors"
        raise LogError(path, number, found, "'No errors encountered during test.'")
    return fields, places
