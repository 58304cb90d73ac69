"""LoadGen's log folder, read without trust: summary and detail, typed, streamed.

Anything that cannot be relied on is a ``LogError`` that names file and line; nothing
damaged is ever read as a result. LoadGen 1.0 to 6.x write this format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlperf.core.logs.accuracy import read_accuracy
from pytest_mlperf.core.logs.accuracy import read_accuracy_txt
from pytest_mlperf.core.logs.detail import DETAIL
from pytest_mlperf.core.logs.detail import STARTS
from pytest_mlperf.core.logs.detail import Event
from pytest_mlperf.core.logs.detail import read_detail
from pytest_mlperf.core.logs.dialect import LogDialect
from pytest_mlperf.core.logs.dialect import Trait
from pytest_mlperf.core.logs.dialect import read_dialect
from pytest_mlperf.core.logs.keys import ValueKind
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.samples import Loaded
from pytest_mlperf.core.logs.summary import SUMMARY
from pytest_mlperf.core.logs.summary import list_expected_lines
from pytest_mlperf.core.logs.summary import read_summary

BOTH_MODES = "SubmissionRun"
SIX_DIGITS = 2e-5
"""Relative: LoadGen logs real numbers with six digits, and two are compared."""

__all__ = [
    "DETAIL",
    "SIX_DIGITS",
    "SUMMARY",
    "Event",
    "Log",
    "LogError",
    "read_accuracy",
    "read_accuracy_txt",
]


@dataclass(frozen=True, slots=True)
class Log:
    """One LoadGen run as it is on disk."""

    folder: Path
    values: Mapping[str, Any]
    """Key of the detail log -> value; a list or an object is kept as its length."""
    lines: Mapping[str, int]
    series: Mapping[str, tuple[Any, ...]]
    """What an accuracy run logs once a set of samples -> all of its values."""
    loaded: tuple[Loaded, ...]
    """The sets of samples that were in memory, one after another."""
    covered: int
    """How many samples were in at least one of them."""
    errors: tuple[Event, ...]
    warnings: tuple[Event, ...]
    warning_count: int
    error_count: int
    summary: Mapping[str, str]
    """Label of the summary -> text: ``Result is`` -> ``VALID``."""
    summary_lines: Mapping[str, int]
    notes: tuple[str, ...]
    """Lines of the summary that begin with a star, such as of early stopping."""
    summary_warnings: int
    summary_errors: int
    """How many the summary's last lines count."""
    times_ms: tuple[float, float]
    """The earliest and the latest ``time_ms``, or 0."""
    both_modes: bool = False
    """LoadGen's SubmissionRun: accuracy mode, and then performance mode."""

    @classmethod
    def read(cls, folder: Path) -> Log:
        """Read a run's folder; ``LogError`` where it cannot be trusted."""
        detail = read_detail(folder / DETAIL)
        labels = list_expected_lines(detail.values) if detail.ran else ()
        summary = read_summary(folder / SUMMARY, labels)
        return cls(
            folder,
            detail.values,
            detail.lines,
            {key: tuple(values) for key, values in detail.series.items()},
            tuple(detail.sets.loaded),
            detail.sets.covered,
            tuple(detail.errors),
            tuple(detail.warnings),
            detail.warning_count,
            detail.error_count,
            summary.fields,
            summary.lines,
            summary.notes,
            summary.warnings,
            summary.errors,
            (detail.first_ms, detail.last_ms),
            detail.started == {*STARTS}
            and detail.values["effective_test_mode"] == BOTH_MODES,
        )

    @property
    def dialect(self) -> LogDialect:
        """The LoadGen that wrote it, which decides what its values mean."""
        return read_dialect(
            self.text("loadgen_version"), self.text("loadgen_git_commit_date")
        )

    def has(self, trait: Trait) -> bool:
        """Return whether its LoadGen logs, or does, something."""
        return self.dialect.has(trait)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key of the detail log, or ``default``."""
        return self.values.get(key, default)

    def where(self, key: str) -> str:
        """Return ``file:line`` of a key; the file alone when it is not there."""
        line = self.lines.get(key)
        return f"{DETAIL}:{line}" if line else DETAIL

    def integer(self, key: str) -> int:
        """Return a whole number; ``LogError`` when it is missing or something else."""
        value: int = self._of(ValueKind.INTEGER, key)
        return value

    def number(self, key: str) -> float:
        """Return a finite number; ``LogError`` when it is missing or something else."""
        return float(self._of(ValueKind.NUMBER, key))

    def flag(self, key: str) -> bool:
        """Return a truth value; ``LogError`` when it is missing or something else."""
        value: bool = self._of(ValueKind.FLAG, key)
        return value

    def text(self, key: str) -> str:
        """Return a string; ``LogError`` when it is missing or something else."""
        value: str = self._of(ValueKind.TEXT, key)
        return value

    def wrong(self, key: str, required: str) -> LogError:
        """Return the error of a value that is there and cannot be."""
        found = f"{key} = {str(self.values.get(key))[:60]}"
        line = self.lines.get(key, 0)
        return LogError(self.folder / DETAIL, line, found, required)

    def _of(self, kind: ValueKind, key: str) -> Any:
        if key not in self.values:
            raise LogError(self.folder / DETAIL, 0, f"no {key}", f"a line with {key}")
        value = self.values[key]
        if not kind.fits(value):
            raise self.wrong(key, kind.value)
        return value
