"""The detail log: one JSON record a line, each key's value of its type, and all there.

The lines may come in any order; LoadGen writes some late.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlperf.core.logs.dialect import DialectError
from pytest_mlperf.core.logs.dialect import LogDialect
from pytest_mlperf.core.logs.dialect import Trait
from pytest_mlperf.core.logs.dialect import read_dialect
from pytest_mlperf.core.logs.keys import KINDS
from pytest_mlperf.core.logs.keys import PER_SET
from pytest_mlperf.core.logs.keys import ValueKind
from pytest_mlperf.core.logs.keys import find_foreign_key
from pytest_mlperf.core.logs.keys import find_later_key
from pytest_mlperf.core.logs.keys import list_required_keys
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.lines import parse_json
from pytest_mlperf.core.logs.lines import read_lines
from pytest_mlperf.core.logs.samples import Sets

DETAIL = "mlperf_log_detail.txt"
MARKER = ":::MLLOG"
KEPT_EVENTS = 1000
"""Errors and warnings kept word for word; all are counted."""
KEPT_KEYS = 2000
"""Keys that no LoadGen is known to write; more are read and not kept."""
KEPT_TEXT = 8192
"""Characters of a text; the longest that LoadGen writes is its history, about 2,000."""
OLDEST_FORM = re.compile(r'"pid": ?\d')
"""How a line of LoadGen 0.5 and 0.7 begins, as rounds v0.5 and v0.7 used them."""
TEXT_COUNTS = ("result_query_count", "result_overlatency_query_count")
"""Whole numbers that an early LoadGen wrote as texts."""
MESSAGES = re.compile(r"generic_message|warning_|error_")
"""What LoadGen says as often as there is something to say."""
ACCURACY_ONLY = "AccuracyOnly"
COMMIT = re.compile(r"[0-9a-f]{7,40}")
VERSION_FILE = "/VERSION.txt"
"""Of ``loadgen_file_sha1``, which has every file of LoadGen's sources."""
STARTS = ("Starting performance mode", "Starting accuracy mode")


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


def read_detail(path: Path) -> Detail:
    """Read a detail log; ``LogError`` where it cannot be trusted."""
    detail = Detail(path)
    for number, text in read_lines(path):
        detail.take(number, text)
    detail.close()
    return detail


class Detail:
    """What has been read of a detail log so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = {}
        self.lines: dict[str, int] = {}
        self.series: dict[str, list[Any]] = {key: [] for key in PER_SET}
        self.sets = Sets()
        self.errors: list[Event] = []
        self.warnings: list[Event] = []
        self.warning_count = 0
        self.error_count = 0
        self.ran = True
        """It ends with a performance run's results, or it has to."""
        self.last = 0
        self.first_ms, self.last_ms = 0.0, 0.0
        self._again: tuple[str, int] | None = None
        self._unknown = 0
        self.started: set[str] = set()
        """Of ``STARTS``: the modes that began."""
        self._texts: list[str] = []
        self._has_version_file = False

    def take(self, number: int, text: str) -> None:
        """Add one line."""
        if not text.startswith(MARKER):
            if OLDEST_FORM.match(text):
                found, required = "a log of round v0.5 or v0.7", "of v1.0 or later"
                remedy = "judge it with the checker of its round"
                raise LogError(self.path, number, found, required, remedy)
            found = f"{text[:40]!r}"
            required = f"a line that begins {MARKER!r}"
            raise LogError(self.path, number, found, required)
        text = self.sets.shorten(text[len(MARKER) :].lstrip(" \t"))
        record = parse_json(self.path, number, text)
        self.last = number
        try:
            key, value, meta = record["key"], record["value"], record["metadata"]
            is_error, is_warning = meta["is_error"], meta["is_warning"]
        except (TypeError, KeyError) as error:
            found = f"a record without {error}"
            required = "key, value and metadata"
            raise LogError(self.path, number, found, required) from None
        time_ms = record.get("time_ms", 0)
        kinds = (type(key), type(is_error), type(is_warning))
        if kinds != (str, bool, bool) or not ValueKind.NUMBER.fits(time_ms):
            found = "a key, flag or time of wrong type"
            raise LogError(self.path, number, found, "text, true or false, a number")
        self.first_ms = min(self.first_ms, time_ms)
        self.last_ms = max(self.last_ms, time_ms)
        if is_error or key.startswith("error_"):
            self.error_count += 1
            self._event(self.errors, key, value, number)
        elif is_warning or key.startswith("warning_"):
            self.warning_count += 1
            self._event(self.warnings, key, value, number)
        self._keep(number, key, value)

    def _event(self, events: list[Event], key: str, value: object, line: int) -> None:
        if len(events) < KEPT_EVENTS:
            events.append(Event(key, str(value)[:500], line))

    def _keep(self, number: int, key: str, value: Any) -> None:
        kind = KINDS.get(key)
        if kind is None:
            self._unknown += key not in self.values
            if self._unknown > KEPT_KEYS:
                return
        elif key in TEXT_COUNTS and is_text_count(value):
            self._texts.append(key)
            value = int(value)
        elif not kind.fits(value):
            found = f"{key} = {str(value)[:60]}"
            raise LogError(self.path, number, found, kind.value)
        if kind is ValueKind.INDICES:
            value = self._load(number, value)
        elif isinstance(value, str):
            value = value[:KEPT_TEXT]
        elif isinstance(value, list | dict):
            self._has_version_file |= (
                key == "loadgen_file_sha1" and VERSION_FILE in value
            )
            value = len(value)
        if key == "generic_message" and value in STARTS:
            if value in self.started:
                raise LogError(self.path, number, f"{value!r} again", "one run a file")
            self.started.add(value)
        if key in self.values:
            self._repeated(number, key, kind)
        if key in PER_SET:
            self.series[key].append(value)
        self.values[key] = value
        self.lines[key] = number

    def _load(self, number: int, indices: list[Any]) -> int:
        found = self.sets.add(indices)
        if found is None:
            raise LogError(self.path, number, "no sample set", ValueKind.INDICES.value)
        return found.size

    def _repeated(self, number: int, key: str, kind: ValueKind | None) -> None:
        if key == "loadgen_version":
            first = f"a second run (the first begins at line {self.lines[key]})"
            raise LogError(self.path, number, first, "one run a file")
        if kind is None or MESSAGES.match(key):
            return
        if key in PER_SET:
            self._again = self._again or (key, number)
            return
        found = f"{key} again, after line {self.lines[key]}"
        raise LogError(self.path, number, found, "one line a key")

    def close(self) -> None:
        """Raise ``LogError`` unless the log is whole."""
        if "loadgen_version" not in self.values:
            found = "no loadgen_version" if self.last else "an empty file"
            raise LogError(self.path, self.last, found, "LoadGen's opening lines")
        dialect = self._read_dialect()
        mode = self.values.get("effective_test_mode")
        # A log that calls itself another mode's is an accuracy run's all the same.
        self.ran = mode != ACCURACY_ONLY and self.started != {STARTS[1]}
        if self.ran and not self.started:
            found, required = "a run that did not start", f"{STARTS[0]!r}"
            raise LogError(self.path, self.last, found, required)
        if self._again and self.ran and mode == "PerformanceOnly":
            key, number = self._again
            raise LogError(self.path, number, f"{key} again", "one line a key")
        wanted = list_required_keys(
            # Where the two differ, the effective one was changed.
            str(self.values.get("requested_scenario")),
            dialect,
            tokens=self.values.get("requested_use_token_latencies") is True,
            ran=self.ran,
        )
        if missing := wanted - self.values.keys():
            found = f"the end of the log without {min(missing)}"
            raise LogError(self.path, self.last, found, "a finished run's log")
        if foreign := find_foreign_key(self.values, wanted):
            required = "no such key: LoadGen writes it in runs of another kind"
            raise LogError(self.path, self.lines[foreign], foreign, required)

    def _read_dialect(self) -> LogDialect:
        """Return the LoadGen; ``LogError`` where the log is of no such LoadGen."""
        build = self.values["loadgen_version"]
        date = self.values.get("loadgen_git_commit_date", "")
        try:
            dialect = read_dialect(build, date)
        except DialectError as error:
            number = self.lines[error.key]
            raise LogError(
                self.path, number, error.found, error.required, error.remedy
            ) from None
        if self._texts and dialect.has(Trait.COUNTS_ARE_NUMBERS):
            key = self._texts[0]
            found, required = f"{key} as a text", ValueKind.INTEGER.value
            raise LogError(self.path, self.lines[key], found, required)
        self._compare_build(dialect)
        if later := find_later_key(self.values, dialect):
            key, trait = later
            required = f"a LoadGen since {trait.since:%Y-%m-%d}, or no such key"
            raise LogError(self.path, self.lines[key], f"{key} of {dialect}", required)
        return dialect

    def _compare_build(self, dialect: LogDialect) -> None:
        """Raise ``LogError`` where the version is not that of LoadGen's sources.

        In all 32,534 official logs the history begins with the version's commit.
        """
        key = "loadgen_version"
        history = str(self.values.get("loadgen_git_log_message", ""))
        newest, stated = history.split(" ", 1)[0], dialect.commit
        if COMMIT.fullmatch(newest) and not newest.startswith(stated):
            required = f"{newest[:10]}, as loadgen_git_log_message begins"
            raise LogError(
                self.path, self.lines[key], f"commit {stated[:40]}", required
            )
        since = Trait.VERSION_FILE.since
        if self._has_version_file and dialect.date < since:
            required = f"one since {since:%Y-%m-%d}: it had the file {VERSION_FILE}"
            raise LogError(self.path, self.lines[key], f"{dialect}", required)


def is_text_count(value: object) -> bool:
    """Return whether a value is a whole number of 64 bits, written as a text."""
    return isinstance(value, str) and len(value) < 20 and value.isdecimal()
