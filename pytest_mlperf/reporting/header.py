"""What runs, in a few lines before it runs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Sequence
from datetime import timedelta

from pytest_mlperf.config.options import ROUND_S
from pytest_mlperf.config.options import Options
from pytest_mlperf.core import rounds
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.matrix import build_key
from pytest_mlperf.core.plan import count_enough_queries
from pytest_mlperf.core.redaction import redact
from pytest_mlperf.core.types import UNOFFICIAL
from pytest_mlperf.core.types import Mode

MOST_NAMED = 12
"""Pairs of benchmark and scenario that the header names with their rounds."""


def estimate_least_s(
    items: Iterable[tuple[Cell, str]], options: Options, workers: int = 1
) -> float:
    """Return what the performance runs of these items take, at least.

    An item is its cell and its mode. Nobody knows how long an accuracy run takes. The
    items of one build, in a rehearsal of one cell, stay on one worker.
    """
    together: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for cell, mode in items:
        if mode not in (Mode.ACCURACY.value, Mode.BARE.value):
            asked = options.min_duration_s or float("inf")
            key = (cell.id,) if options.rehearsal else build_key(cell)
            seconds = min(cell.rule.min_duration_ms / 1000, asked)
            is_repeated = mode == Mode.PERFORMANCE.value
            together[key] += seconds * (options.repeat if is_repeated else 1)
    loads = [0.0] * max(1, workers)
    for seconds in sorted(together.values(), reverse=True):
        loads[loads.index(min(loads))] += seconds
    return max(loads)


def describe_session(
    cells: Sequence[Cell],
    options: Options,
    system: str,
    reports: str,
    *,
    notes: Sequence[str] = (),
    least_s: float = 0.0,
    is_verbose: bool = False,
) -> list[str]:
    """Return the header of a session that runs these cells.

    ``is_verbose``: with a line of each round, where there are several.
    """
    engines = ", ".join(sorted({cell.engine for cell in cells}))
    kind = "official models and data"
    if options.workload == "embedded":
        kind = "embedded: small stand-ins, not a submission result"
    elif options.workload == "generated":
        kind = "generated weights and inputs: performance only, not a submission result"
    if options.rehearsal:
        kind = "synthetic: a rehearsal, nothing is measured, not a submission result"
    found = [
        describe_items(cells, least_s),
        f"system {system}",
        f"engine {engines}; workload {kind}",
        f"reports {reports}",
    ]
    if options.devices_per_item:
        found[2] += f"; devices per item {options.devices_per_item}"
    if options.repeat > 1:
        text = f"; {options.repeat} runs of each performance item"
        found[2] += f"{text}, verdict by rule {options.repeat_rule}"
    seconds = options.min_duration_s
    if options.is_shortened:
        found.insert(3, _describe_shortening(cells, options))
    elif seconds is not None and seconds > ROUND_S:
        text = f"--mlperf-duration {seconds:g} lengthens nothing: the round's"
        found.insert(3, f"{text} {ROUND_S:g} s hold")
    for flag in ("start_from_device", "end_on_device"):
        if getattr(options, flag):
            text = f"{flag}: needs the committee's approval"
            found.append(f"{text} (docs/reference/systems.md)")
    if own := sorted({c.model for c in cells if not rounds.is_official(c.rule)}):
        text = f"{UNOFFICIAL}: {', '.join(own)} by rules of their own"
        found.append(f"{text}, not a submission result")
    if is_verbose:
        found += list_rounds(cells)
    found += [f"note: {note}" for note in notes]
    return [redact(f"mlperf: {line}") for line in found]


def describe_items(cells: Sequence[Cell], least_s: float) -> str:
    """Return how many items there are, how long they take, and by which rules."""
    count = f"{len(cells)} item{'s' * (len(cells) != 1)}"
    if least_s:
        count += f", at least {timedelta(seconds=math.ceil(least_s))}"
    return f"{count}, {_rounds(cells)}"


def list_rounds(cells: Sequence[Cell]) -> list[str]:
    """Return a line of each round with the cells that it judges, newest first; nothing
    where one round judges all.
    """
    judged: dict[str, set[str]] = defaultdict(set)
    for cell in cells:
        judged[cell.round].add(f"{cell.model} {cell.scenario.slug}")
    if len(judged) == 1:
        return []
    return [
        f"round {name}: {', '.join(sorted(judged[name]))}"
        for name in sorted(judged, reverse=True)
    ]


def _describe_shortening(cells: Iterable[Cell], options: Options) -> str:
    seconds, count = options.min_duration_s, options.min_query_count
    asked = f"a minimum query count of {count:,}" if count is not None else ""
    if seconds is not None and seconds < ROUND_S:
        queries = f" and {asked}" if asked else _queries(cells)
        asked = f"{seconds:g} s minimum duration{queries}"
    return (
        f"{'fast' if options.fast else 'shortened'}: {asked} instead of the round's: "
        "waived, not a submission result"
    )


def _queries(cells: Iterable[Cell]) -> str:
    """Return how few queries shortened runs ask, where that is below the round's."""
    rules = {cell.rule for cell in cells}
    counts = {
        count_enough_queries(rule)
        for rule in rules
        if count_enough_queries(rule) < max(rule.min_query_count, rule.min_sample_count)
    }
    if not counts:
        return ""
    numbers = " or ".join(f"{count:,}" for count in sorted(counts))
    return f" and {numbers} quer{'y' if counts == {1} else 'ies'}"


def _rounds(cells: Sequence[Cell]) -> str:
    """Return ``round v6.1``, or each round with what it judges, where that is short."""
    names = sorted({cell.round for cell in cells}, reverse=True)
    if len(names) == 1:
        return f"round {names[0]}"
    judged = {
        name: {f"{c.benchmark} {c.scenario.slug}" for c in cells if c.round == name}
        for name in names
    }
    if sum(map(len, judged.values())) > MOST_NAMED:
        return f"rounds {names[-1]} to {names[0]}, each cell by its newest (-v: which)"
    return ", ".join(
        f"round {name} ({', '.join(sorted(pairs))})" for name, pairs in judged.items()
    )
