"""What ``explain`` prints of one run for people: pure text from a verdict.

Everything that is its own is ASCII, so that no terminal has to be asked.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator

from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

COLOURS = {"VALID": "32", "INVALID": "31", "ERROR": "35", "waived": "33"}
MARKS = {
    Status.ERROR: "ERROR",
    Status.FAIL: "FAIL",
    Status.WAIVED: "waived",
    Status.PASS: "ok",
}
SHADES = {Status.ERROR: "ERROR", Status.FAIL: "INVALID", Status.WAIVED: "waived"}
NARROWEST, PIPED = 60, 120


def width() -> int:
    """Return how wide the output may be: the terminal's columns, or 120 in a pipe."""
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return PIPED
    return max(NARROWEST, shutil.get_terminal_size().columns)


def one(verdict: Verdict, columns: int, colour: bool) -> Iterator[str]:
    """Yield everything about one run: what failed first and in full."""
    yield headline(verdict, colour)
    yield from figures(verdict)
    if verdict.labels:
        yield f"  {clean(', '.join(verdict.labels))}: not a submission result"
    for name, text in verdict.facts.items():
        yield from wrapped(f"  {name}: {clean(text)}", columns)
    yield f"  logs: {clean(verdict.folder)}"
    for status in (Status.ERROR, Status.FAIL, Status.WAIVED):
        for check in verdict.checks:
            if check.status is status:
                yield ""
                yield from in_full(check, columns, colour)
    passed = [check for check in verdict.checks if check.status is Status.PASS]
    if passed:
        yield ""
    for check in passed:
        yield from wrapped(f"  ok      {check.name}: {clean(check.found)}", columns)


def headline(verdict: Verdict, colour: bool) -> str:
    """Return the verdict, the run and the round in one line."""
    outcome = paint(verdict.outcome, verdict.outcome, colour)
    names = (verdict.benchmark, verdict.scenario, verdict.mode)
    text = f"{outcome}  {clean(' '.join(filter(None, names)))}"
    if verdict.round:
        text += f" under {verdict.round}"
    return text + (f", inferred from {verdict.inferred}" if verdict.inferred else "")


def figures(verdict: Verdict) -> Iterator[str]:
    """Yield the figure with its key and unit, the latency, and the run's time."""
    if metric := verdict.metric:
        yield f"  {amount(metric)} {metric.unit}  ({metric.key})"
    at, limit = verdict.at_percentile, verdict.limit
    if at and verdict.percentile:
        bound = f" of {limit.value:,.6g} {limit.unit} allowed" if limit else ""
        percent = f"p{verdict.percentile * 100:g}"
        yield f"  {percent} latency {at.value:,.6g} {at.unit}{bound}"
    if verdict.actual_s is not None:
        expected = verdict.expected_s
        text = "" if expected is None else f", expected {seconds(expected)}"
        yield f"  ran {seconds(verdict.actual_s)}{text}"


def in_full(check: Check, columns: int, colour: bool) -> Iterator[str]:
    """Yield a check with found, should be, where and what to do next."""
    mark = MARKS[check.status]
    shown = paint(mark, SHADES.get(check.status, ""), colour)
    yield f"  {shown}{' ' * (8 - len(mark))}{check.name}"
    rows = {
        "found": check.found,
        "should be": check.required,
        "where": check.where,
        "why" if check.status is Status.WAIVED else "do next": check.remedy,
    }
    for name, text in rows.items():
        if text:
            yield from wrapped(f"{'':10}{name:11}{clean(text)}", columns, 21)


def amount(metric: Metric) -> str:
    """Return a figure as people read it: separators, and six digits that count."""
    digits = 2 if abs(metric.value) >= 1000 else 3 if abs(metric.value) >= 10 else 6
    text = f"{metric.value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def seconds(value: float) -> str:
    """Return a run's time for people: ``612.3 s``."""
    return f"{value:,.1f} s"


def wrapped(text: str, columns: int, indent: int = 10) -> list[str]:
    """Return a line folded to the terminal; words and paths stay whole."""
    return textwrap.wrap(
        text,
        columns,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def paint(text: str, shade: str, colour: bool) -> str:
    """Return the text in its colour, where there are colours."""
    code = COLOURS.get(shade)
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text


def clean(text: str) -> str:
    """Return a text of a log or path without what would drive the terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
