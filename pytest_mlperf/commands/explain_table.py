"""What ``explain`` prints of many runs: a table, what failed, and the totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence
from itertools import groupby
from itertools import takewhile
from pathlib import Path

from pytest_mlperf.commands.explain_text import amount
from pytest_mlperf.commands.explain_text import clean
from pytest_mlperf.commands.explain_text import headline
from pytest_mlperf.commands.explain_text import paint
from pytest_mlperf.commands.explain_text import wrapped
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

OUTCOMES = ("VALID", "INVALID", "ERROR")
HEADS = ("verdict", "benchmark", "scenario", "result", "unit", "path")


def many(
    verdicts: Sequence[Verdict], columns: int, *, colour: bool, fit: bool
) -> list[str]:
    """Return a line a run, why runs are not VALID, and a last line that counts.

    ``fit`` keeps the table within the columns: long paths become headings.
    """
    lines = [*table(verdicts, columns if fit else None, colour)]
    alike: dict[tuple[str, ...], list[Verdict]] = {}
    for verdict in verdicts:
        if not verdict.valid:
            alike.setdefault(reasons(verdict), []).append(verdict)
    for texts, failed in alike.items():
        lines += ["", *failure(texts, failed, columns, colour)]
    return [*lines, "", *wrapped(totals(verdicts), columns)]


def reasons(verdict: Verdict) -> tuple[str, ...]:
    """Return what keeps a run from being VALID, a text a check."""
    order = (Status.ERROR, Status.FAIL)
    found = [c for status in order for c in verdict.checks if c.status is status]
    return tuple(clean(str(check)) for check in found)


def failure(
    texts: Sequence[str], failed: Sequence[Verdict], columns: int, colour: bool
) -> Iterator[str]:
    """Yield runs that are not VALID for the same reasons, and the reasons once."""
    for verdict in failed:
        yield headline(verdict, colour)
        yield f"  {clean(verdict.folder)}"
    for text in texts:
        yield from wrapped(f"  - {text}", columns, 4)


def table(
    verdicts: Sequence[Verdict], columns: int | None, colour: bool
) -> Iterator[str]:
    """Yield one aligned line a run, its path last or, where that is too long, above."""
    paths = shortened(verdicts)
    rows = [HEADS, *map(row, verdicts, map(clean, paths))]
    widths = [max(len(cells[i]) for cells in rows) for i in range(len(HEADS))]
    if columns is None or sum(widths) + 2 * (len(widths) - 1) <= columns:
        for cells in rows:
            yield f"{aligned(cells, widths, colour)}  {cells[-1]}"
        return
    yield f"  {aligned(HEADS, widths, colour)}".rstrip()
    for path, group in groupby(rows[1:], key=lambda cells: cells[-1]):
        yield path
        for cells in group:
            yield f"  {aligned(cells, widths, colour)}".rstrip()


def aligned(cells: Sequence[str], widths: Sequence[int], colour: bool) -> str:
    """Return a line's cells but the path, in columns; numbers stand right."""
    verdict, *texts = [
        text.rjust(size) if place == HEADS.index("result") else text.ljust(size)
        for place, (text, size) in enumerate(zip(cells, widths, strict=True))
    ][:-1]
    shade = cells[0].partition(" ")[0]
    return "  ".join([paint(verdict, shade, colour), *texts])


def row(verdict: Verdict, path: str) -> tuple[str, ...]:
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
    result = amount(metric) if metric else "-"
    name = clean(verdict.benchmark) or "?"
    outcome = verdict.outcome
    if verdict.labels:
        outcome += f" ({clean(', '.join(verdict.labels))})"
    return outcome, name, scenario, result, unit, path


def shortened(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the runs' paths without what all have in common and what a row says."""
    parts = [list(Path(verdict.folder).parts) for verdict in verdicts]
    levels = zip(*(own[:-1] for own in parts), strict=False)
    same = len(list(takewhile(lambda level: len(set(level)) == 1, levels)))
    shorter = [
        untailed(own[same:], verdict)
        for own, verdict in zip(parts, verdicts, strict=True)
    ]
    rows = Counter(zip(shorter, map(named, verdicts), strict=True))
    # Two runs must not look like one.
    return [
        path if rows[path, named(verdict)] == 1 else "/".join(own[same:])
        for path, own, verdict in zip(shorter, parts, verdicts, strict=True)
    ]


def untailed(parts: list[str], verdict: Verdict) -> str:
    """Return a path without the folders that are named as the row's other columns."""
    told = ["run_1", "performance", "accuracy", verdict.mode, verdict.scenario]
    told.append(verdict.benchmark)
    for name in told:
        if len(parts) > 1 and parts[-1].lower() == name.lower():
            parts = parts[:-1]
    return "/".join(parts)


def named(verdict: Verdict) -> tuple[str, str, str]:
    return verdict.benchmark, verdict.scenario, verdict.mode


def totals(verdicts: Sequence[Verdict]) -> str:
    """Return the last line: how many of each, under which rounds."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    inferred = sum(bool(verdict.inferred) and verdict.valid for verdict in verdicts)
    texts = [f"{n:,} {name}" for name in OUTCOMES if (n := counts[name])]
    if inferred:
        texts[0] += f" ({inferred:,} inferred)"
    names = sorted({verdict.round for verdict in verdicts if verdict.round})
    rounds = f" under {', '.join(names)}" if names else ""
    return f"{len(verdicts):,} runs{rounds}: {', '.join(texts)}"
