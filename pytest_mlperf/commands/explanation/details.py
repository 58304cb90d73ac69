"""What ``explain`` prints of one run, in full.

The texts of this package are ASCII, which any terminal can show.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mlperf.commands.explanation.style import escape_controls
from pytest_mlperf.commands.explanation.style import paint
from pytest_mlperf.commands.explanation.style import wrap_line
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

MARKS = {
    Status.ERROR: "ERROR",
    Status.FAIL: "FAIL",
    Status.WAIVED: "waived",
    Status.PASS: "ok",
}
SHADES = {Status.ERROR: "ERROR", Status.FAIL: "INVALID", Status.WAIVED: "waived"}


def format_run(verdict: Verdict, columns: int, color: bool) -> Iterator[str]:
    """Yield everything about one run; failed checks first and in full."""
    yield format_headline(verdict, color)
    yield from format_figures(verdict)
    if verdict.labels:
        yield f"  {escape_controls(', '.join(verdict.labels))}: not a submission result"
    for name, text in verdict.facts.items():
        yield from wrap_line(f"  {name}: {escape_controls(text)}", columns)
    yield f"  logs: {escape_controls(verdict.folder)}"
    for status in (Status.ERROR, Status.FAIL, Status.WAIVED):
        for check in verdict.checks:
            if check.status is status:
                yield ""
                yield from format_check(check, columns, color)
    passed = [check for check in verdict.checks if check.status is Status.PASS]
    if passed:
        yield ""
    for check in passed:
        yield from wrap_line(
            f"  ok      {check.name}: {escape_controls(check.found)}", columns
        )


def format_headline(verdict: Verdict, color: bool) -> str:
    """Return the verdict, the run and the round in one line."""
    outcome = paint(verdict.outcome, verdict.outcome, color)
    names = (verdict.benchmark, verdict.scenario, verdict.mode)
    text = f"{outcome}  {escape_controls(' '.join(filter(None, names)))}"
    if verdict.round:
        text += f" under {verdict.round}"
    return text + (f", inferred from {verdict.inferred}" if verdict.inferred else "")


def format_figures(verdict: Verdict) -> Iterator[str]:
    """Yield the figure with its key and unit, the latency, and the run's time."""
    if metric := verdict.metric:
        yield f"  {format_amount(metric)} {metric.unit}  ({metric.key})"
    at, limit = verdict.at_percentile, verdict.limit
    if at and verdict.percentile:
        bound = f" of {limit.value:,.6g} {limit.unit} allowed" if limit else ""
        percent = f"p{verdict.percentile * 100:g}"
        yield f"  {percent} latency {at.value:,.6g} {at.unit}{bound}"
    if verdict.actual_s is not None:
        expected = verdict.expected_s
        text = "" if expected is None else f", expected {format_seconds(expected)}"
        yield f"  ran {format_seconds(verdict.actual_s)}{text}"


def format_check(check: Check, columns: int, color: bool) -> Iterator[str]:
    """Yield a check with found, should be, where and what to do next."""
    mark = MARKS[check.status]
    shown = paint(mark, SHADES.get(check.status, ""), color)
    yield f"  {shown}{' ' * (8 - len(mark))}{check.name}"
    rows = {
        "found": check.found,
        "should be": check.required,
        "where": check.where,
        "why" if check.status is Status.WAIVED else "do next": check.remedy,
    }
    for name, text in rows.items():
        if text:
            yield from wrap_line(
                f"{'':10}{name:11}{escape_controls(text)}", columns, 21
            )


def format_amount(metric: Metric) -> str:
    """Return a figure with separators and about six significant digits."""
    digits = 2 if abs(metric.value) >= 1000 else 3 if abs(metric.value) >= 10 else 6
    text = f"{metric.value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_seconds(value: float) -> str:
    """Return a run's time for people: ``612.3 s``."""
    return f"{value:,.1f} s"
