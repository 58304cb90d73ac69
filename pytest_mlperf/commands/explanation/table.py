"""What ``explain`` prints of many runs: a table, the failures and the totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence
from itertools import groupby
from itertools import takewhile
from pathlib import Path

from pytest_mlperf.commands.explanation.details import format_amount
from pytest_mlperf.commands.explanation.details import format_headline
from pytest_mlperf.commands.explanation.style import escape_controls
from pytest_mlperf.commands.explanation.style import paint
from pytest_mlperf.commands.explanation.style import wrap_line
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

OUTCOMES = ("VALID", "INVALID", "ERROR")
HEADS = ("verdict", "benchmark", "scenario", "result", "unit", "path")


def format_runs(
    verdicts: Sequence[Verdict], columns: int, *, color: bool, fit: bool
) -> list[str]:
    """Return a line per run, the failures, and a last line with the totals.

    ``fit`` keeps the table within the columns: long paths become headings.
    """
    lines = [*format_table(verdicts, columns if fit else None, color)]
    by_reasons: dict[tuple[str, ...], list[Verdict]] = {}
    for verdict in verdicts:
        if not verdict.valid:
            by_reasons.setdefault(list_reasons(verdict), []).append(verdict)
    for texts, failed in by_reasons.items():
        lines += ["", *format_failure(texts, failed, columns, color)]
    return [*lines, "", *wrap_line(format_totals(verdicts), columns)]


def list_reasons(verdict: Verdict) -> tuple[str, ...]:
    """Return why a run is not VALID, a text per check."""
    order = (Status.ERROR, Status.FAIL)
    found = [c for status in order for c in verdict.checks if c.status is status]
    return tuple(escape_controls(str(check)) for check in found)


def format_failure(
    texts: Sequence[str], failed: Sequence[Verdict], columns: int, color: bool
) -> Iterator[str]:
    """Yield the runs that are not VALID for the same reasons, and the reasons once."""
    for verdict in failed:
        yield format_headline(verdict, color)
        yield f"  {escape_controls(verdict.folder)}"
    for text in texts:
        yield from wrap_line(f"  - {text}", columns, 4)


def format_table(
    verdicts: Sequence[Verdict], columns: int | None, color: bool
) -> Iterator[str]:
    """Yield one aligned line per run, its path last or, if too long, as a heading."""
    paths = shorten_paths(verdicts)
    rows = [HEADS, *map(make_row, verdicts, map(escape_controls, paths))]
    widths = [max(len(cells[i]) for cells in rows) for i in range(len(HEADS))]
    if columns is None or sum(widths) + 2 * (len(widths) - 1) <= columns:
        for cells in rows:
            yield f"{align_cells(cells, widths, color)}  {cells[-1]}"
        return
    yield f"  {align_cells(HEADS, widths, color)}".rstrip()
    for path, group in groupby(rows[1:], key=lambda cells: cells[-1]):
        yield path
        for cells in group:
            yield f"  {align_cells(cells, widths, color)}".rstrip()


def align_cells(cells: Sequence[str], widths: Sequence[int], color: bool) -> str:
    """Return a line of all cells but the path; numbers are right-aligned."""
    verdict, *texts = [
        text.rjust(size) if place == HEADS.index("result") else text.ljust(size)
        for place, (text, size) in enumerate(zip(cells, widths, strict=True))
    ][:-1]
    shade = cells[0].partition(" ")[0]
    return "  ".join([paint(verdict, shade, color), *texts])


def make_row(verdict: Verdict, path: str) -> tuple[str, ...]:
    """Return the texts of a run's line."""
    scenario = verdict.scenario or "?"
    if verdict.mode not in ("", "performance"):
        scenario += f" {verdict.mode}"
    elif verdict.inferred:
        scenario += " inferred"
    metric = verdict.metric
    unit = ""
    if metric:
        unit = metric.unit if verdict.mode != "accuracy" else metric.key
    result = format_amount(metric) if metric else "-"
    name = escape_controls(verdict.benchmark) or "?"
    outcome = verdict.outcome
    if verdict.labels:
        outcome += f" ({escape_controls(', '.join(verdict.labels))})"
    return outcome, name, scenario, result, unit, path


def shorten_paths(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the runs' paths without the common beginning and what a row repeats."""
    parts = [list(Path(verdict.folder).parts) for verdict in verdicts]
    levels = zip(*(own[:-1] for own in parts), strict=False)
    same = len(list(takewhile(lambda level: len(set(level)) == 1, levels)))
    shorter = [
        strip_repeated(own[same:], verdict)
        for own, verdict in zip(parts, verdicts, strict=True)
    ]
    rows = Counter(zip(shorter, map(list_names, verdicts), strict=True))
    # Two runs must not look the same.
    return [
        path if rows[path, list_names(verdict)] == 1 else "/".join(own[same:])
        for path, own, verdict in zip(shorter, parts, verdicts, strict=True)
    ]


def strip_repeated(parts: list[str], verdict: Verdict) -> str:
    """Return a path without the last folders that repeat the row's other columns."""
    repeated = ["run_1", "performance", "accuracy", verdict.mode, verdict.scenario]
    repeated.append(verdict.benchmark)
    for name in repeated:
        if len(parts) > 1 and parts[-1].lower() == name.lower():
            parts = parts[:-1]
    return "/".join(parts)


def list_names(verdict: Verdict) -> tuple[str, str, str]:
    return verdict.benchmark, verdict.scenario, verdict.mode


def format_totals(verdicts: Sequence[Verdict]) -> str:
    """Return the last line: the number of runs by outcome, and the rounds."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    inferred = sum(bool(verdict.inferred) and verdict.valid for verdict in verdicts)
    texts = [f"{n:,} {name}" for name in OUTCOMES if (n := counts[name])]
    if inferred:
        texts[0] += f" ({inferred:,} inferred)"
    names = sorted({verdict.round for verdict in verdicts if verdict.round})
    rounds = f" under {', '.join(names)}" if names else ""
    return f"{len(verdicts):,} runs{rounds}: {', '.join(texts)}"
