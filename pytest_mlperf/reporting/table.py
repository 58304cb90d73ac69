"""The table of verdicts: pure text from values.

The terminal gets it in its own hook, width and colours, so it is no ``Reporter``.
Everything is ASCII, so that no terminal has to be asked what it can show.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_mlperf.config.options import FAST_S
from pytest_mlperf.core.matrix import ORDER
from pytest_mlperf.core.session_results import SET_UP
from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.types import NULL_ANSWERS
from pytest_mlperf.core.types import REHEARSAL
from pytest_mlperf.core.types import UNOFFICIAL
from pytest_mlperf.core.verdict import PRECISION_CHOSEN
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

LEGEND = {
    REHEARSAL: f"{REHEARSAL}: answers from the ground truth, nothing was measured",
    "embedded": "embedded: a small stand-in for the official model and data",
    "performance only": "performance only: generated weights, answers mean nothing",
    "fast": f"fast: {FAST_S:g} s minimum duration, not the round's, and few queries",
    "shortened": "shortened: --mlperf-duration or -min-query-count, not the round's",
    UNOFFICIAL: f"{UNOFFICIAL}: the benchmark's own rules, not the round's",
    NULL_ANSWERS: f"{NULL_ANSWERS}: nothing was inferred, this measures the suite",
}
MODES = ("performance", "accuracy")
"""What is no compliance test."""
_PLACES = {scenario.value: place for place, scenario in enumerate(ORDER)}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; numbers are in the units of the row."""

    section: str
    """``Server``; ``accuracy`` for all scenarios' accuracy."""
    item: str
    engine: str
    unit: str
    result: float | None
    limit: float | None
    limit_unit: str
    percentile: str
    """``p99``; empty where there is none."""
    latency: float | None
    latency_unit: str
    rules: str
    """``21/24, 3 waived``."""
    verdict: str
    """``VALID (fast, embedded)``."""
    round: str
    time: str
    """Expected and actual run time, seconds."""
    comparable: tuple[str, ...]
    """Rows that agree in this measure the same thing; empty for one that is invalid
    or that no engine worked for."""
    higher_is_better: bool
    note: str = ""
    """Lines under the row, apart by semicolons: what ran beside it; first and further
    tokens, in percent of their limits, what is unjudged, what a second run changed,
    requests sent again, and where their time went; or the best that others published.
    """
    precision: str = ""
    """Why the engine ran in a precision that nobody chose: of every row of a build."""


def _notes(v: Verdict) -> tuple[str, ...]:
    # The path of a session's folder may have any character.
    beside = v.run.disturbance.encode("ascii", "backslashreplace").decode()
    figures = v.tokens() or v.facts.get("beside", "")
    return (
        beside and f"beside {beside}",
        figures,
        v.run.second_run,
        v.requests(),
        v.breakdown(),
        v.power(),
    )


def _read(metric: Metric | None) -> tuple[float | None, str]:
    return (metric.value, metric.unit) if metric else (None, "")


def make_table(session: SessionResults, width: int, *, colour: bool) -> list[str]:
    """Return the table of a session, or the line that stands for it where every item
    was skipped.
    """
    lines = render_rows(make_rows(session.verdicts), width, colour=colour)
    count, outcomes = len(session.records), {r.outcome for r in session.records}
    items = f"{count} item{'s' * (count != 1)}"
    if outcomes == {"skipped"}:
        lines.append(f"mlperf: {items} skipped, nothing was measured; -rs says why")
    if SET_UP in outcomes:
        lines.append(f"mlperf: {items} set up or skipped, nothing was measured")
    return lines


def make_rows(verdicts: Iterable[Verdict]) -> list[Row]:
    """Return the rows in the table's order: by section, then by name."""
    ordered = sorted(verdicts, key=place_verdict)
    several = len({v.engine for v in ordered}) > 1
    return [make_row(v, name_engine=several) for v in ordered]


def place_verdict(v: Verdict) -> tuple[bool, int, str, str, bool, str, str]:
    place = _PLACES.get(v.scenario, len(_PLACES))
    accuracy = v.mode == "accuracy"
    audit = v.mode not in MODES
    place = 0 if accuracy else place
    return accuracy, place, v.benchmark, v.engine, audit, v.mode, v.scenario


def make_row(v: Verdict, *, name_engine: bool) -> Row:
    result, unit = _read(v.metric)
    limit, limit_unit = _read(v.limit)
    latency, latency_unit = _read(v.at_percentile)
    accuracy = v.mode == "accuracy"
    names = [v.benchmark] + [v.scenario] * accuracy
    names += [v.mode] * (v.mode not in MODES) + [v.engine] * name_engine
    names += [f"on {v.run.devices} devices"] * (v.run.devices > 1)
    passed = sum(check.status is Status.PASS for check in v.checks)
    waived = f", {len(v.waived)} waived" if v.waived else ""
    kinds = (*v.labels, *(["waived"] if v.waived and not v.labels else []))
    same = (v.benchmark, v.scenario, v.mode, v.round, f"{v.run.devices}", *v.labels)
    seconds = [v.expected_s, v.actual_s]
    time = " -> ".join(f"{s:,.0f}" for s in seconds if s is not None)
    chosen = v.facts.get(PRECISION_CHOSEN, "")
    is_measured = not {NULL_ANSWERS, REHEARSAL} & {*v.labels}
    return Row(
        section="accuracy" if accuracy else v.scenario,
        item=" ".join(names),
        engine=v.engine,
        unit=f"{v.metric.key} {unit}" if v.metric and accuracy else unit,
        result=result,
        limit=limit,
        limit_unit=limit_unit,
        percentile=f"p{v.percentile * 100:g}" if v.percentile else "",
        latency=latency,
        latency_unit=latency_unit,
        rules=f"{passed}/{len(v.checks)}{waived}",
        verdict=f"{v.outcome} ({', '.join(kinds)})" if kinds else v.outcome,
        round=v.round,
        time="" if v.actual_s is None else time,
        comparable=same if v.valid and is_measured else (),
        higher_is_better=unit != "ms",
        note="; ".join(filter(None, _notes(v))),
        precision=f"{v.benchmark} in {chosen}" if chosen else "",
    )


# Columns: item, result, limit, latency, verdict, rules, round, time.
_RIGHT = (1, 2, 3, 7)
_SPLIT = 4
"""Columns from here on go to a second line where the terminal is narrow."""


def render_rows(rows: Sequence[Row], width: int, *, colour: bool) -> list[str]:
    """Return the table's lines; none for no rows, two a row on a narrow terminal."""
    if not rows:
        return []
    grid: list[tuple[Row | None, list[str]]] = []
    for section in dict.fromkeys(row.section for row in rows):
        group = [row for row in rows if row.section == section]
        for unit in dict.fromkeys(row.unit for row in group if row.unit) or [""]:
            # A row without a figure stands with the first that have one.
            part = [r for r in group if r.unit == unit or not r.unit]
            group = [r for r in group if r not in part]
            if part:
                grid += _section(section, unit, part)
    widths = [max(len(cells[i]) for _, cells in grid) for i in range(8)]
    narrow = sum(widths) + 2 * 7 > width
    best = _best(rows) if colour else []
    lines = [_title(rows, width)]
    for row, cells in grid:
        padded = [
            text.rjust(size) if i in _RIGHT else text.ljust(size)
            for i, (text, size) in enumerate(zip(cells, widths, strict=True))
        ]
        if row and colour:
            padded[4] = _paint(padded[4], _colour(row))
            padded[1] = _paint(padded[1], "green" if row in best else "")
        columns = padded[:_SPLIT] if narrow else padded
        lines.append("  ".join(c for c in columns if c).rstrip())
        if row and row.note:
            lines += [f"    {part}" for part in row.note.split("; ")]
        if narrow and row:
            first, *more = _tail(row, width)
            verdict = _paint(row.verdict, _colour(row) if colour else "")
            lines += [first.replace(row.verdict, verdict, 1), *more]
    return [*lines, *_legend(rows, narrow)]


def _tail(row: Row, width: int) -> list[str]:
    """Return what a narrow terminal has no columns for, in lines that fit it."""
    parts = [row.verdict, f"rules {row.rules}", row.round, row.time and f"{row.time} s"]
    lines: list[str] = []
    for part in filter(None, parts):
        if lines and len(lines[-1]) + 2 + len(part) < width:
            lines[-1] += f", {part}"
        else:
            lines.append(f"    {part}")
    return lines


def _section(
    name: str, unit: str, group: Sequence[Row]
) -> list[tuple[Row | None, list[str]]]:
    """Return a section's head and rows as cells; a unit all rows share stands once."""
    latency_unit = _common(row.latency_unit for row in group)
    limit_unit = _common(row.limit_unit for row in group)
    percentile = _common(row.percentile for row in group)
    limits = any(row.limit is not None for row in group)
    latencies = any(row.latency is not None for row in group)
    head = [
        name, unit, f"limit {limit_unit}".strip() if limits else "",
        f"{percentile or 'latency'} {latency_unit}".strip() if latencies else "",
        "verdict", "rules", "round", "exp -> run s",
    ]  # fmt: skip
    results = _digits([row.result for row in group])
    bounds = _digits([row.limit for row in group])
    spread = _digits([row.latency for row in group])
    grid: list[tuple[Row | None, list[str]]] = [(None, head)]
    for row in group:
        bound = _number(row.limit, bounds, "" if limit_unit else row.limit_unit)
        late = _number(row.latency, spread, "" if latency_unit else row.latency_unit)
        if row.latency is not None and not percentile and row.percentile:
            late = f"{row.percentile} {late}"
        figure = _number(row.result, results, "")
        cells = [f"  {row.item}", figure or "-", bound, late]
        grid.append((row, [*cells, row.verdict, row.rules, row.round, row.time]))
    return grid


def _common(texts: Iterable[str]) -> str:
    found = {text for text in texts if text}
    return found.pop() if len(found) == 1 else ""


def _digits(values: Iterable[float | None]) -> int:
    """Return decimals that leave the smallest of a column four digits, at most 4."""
    sizes = [abs(value) for value in values if value]
    smallest = min(sizes, default=1000.0)
    return next((n for n in range(4) if smallest * 10**n >= 1000), 4)


def _number(value: float | None, digits: int, unit: str) -> str:
    return "" if value is None else f"{value:,.{digits}f} {unit}".strip()


def _best(rows: Sequence[Row]) -> list[Row]:
    """Return the best of each set of rows that measure the same, if there are two."""
    best = []
    for key in {row.comparable for row in rows if row.comparable}:
        same = [r for r in rows if r.comparable == key and r.result is not None]
        if len(same) > 1:
            pick = max if same[0].higher_is_better else min
            best.append(pick(same, key=lambda row: row.result or 0.0))
    return best


def _title(rows: Sequence[Row], width: int) -> str:
    words = [_word(row) for row in rows]
    counts = [f"{words.count(word)} {word}" for word in sorted(set(words))]
    plural = "result" if len(rows) == 1 else "results"
    engines = ", ".join(sorted({row.engine for row in rows}))
    head = f" mlperf: {len(rows)} {plural}"
    tail = f": {', '.join(counts)} "
    text = f"{head} on {engines}{tail}"
    # Where several engines need too much room, the rows name them.
    return (text if len(text) <= width else head + tail).center(width, "=")


def _word(row: Row) -> str:
    """Return the verdict in a word, and whether it is less than it seems."""
    if not row.verdict.startswith("VALID ("):
        return row.verdict.split()[0]
    if row.verdict == f"VALID ({UNOFFICIAL})":
        return row.verdict
    return f"VALID ({REHEARSAL if REHEARSAL in row.verdict else 'waived'})"


def _legend(rows: Sequence[Row], narrow: bool) -> list[str]:
    """Return what the table's words mean, of those that are in it."""
    text = " ".join(row.verdict for row in rows)
    lines = [meaning for label, meaning in LEGEND.items() if label in text]
    whole = (f"({REHEARSAL})", f"({UNOFFICIAL})")  # and nothing else: none was waived
    if any("(" in r.verdict and not r.verdict.endswith(whole) for r in rows):
        lines.append("waived rules were not held to: this is not a submission result")
    lines += dict.fromkeys(row.precision for row in rows if row.precision)
    if narrow and any(row.time for row in rows):
        lines.append("times are expected -> actual run time")
    return lines


def _colour(row: Row) -> str:
    if not row.verdict.startswith("VALID"):
        return "red"
    return "green" if row.verdict == "VALID" else "yellow"


def _paint(text: str, colour: str) -> str:
    code = {"red": 31, "green": 32, "yellow": 33}.get(colour)
    return f"\x1b[{code}m{text}\x1b[0m" if code else text
