"""What runs, in a few lines before it runs."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_mlperf.core.types import Cell
from pytest_mlperf.options import Options


def lines(
    cells: Sequence[Cell], options: Options, system: str, reports: str
) -> list[str]:
    """Return the header of a session that runs these cells."""
    engines = ", ".join(sorted({cell.engine for cell in cells}))
    kind = "official models and data"
    if options.workload == "embedded":
        kind = "embedded: small stand-ins, not a submission result"
    found = [
        f"{len(cells)} items, {_rounds(cells)}",
        f"system {system}",
        f"engine {engines}; workload {kind}",
        f"reports {reports}",
    ]
    if seconds := options.min_duration_s:
        how = "fast" if options.fast else "shortened"
        text = f"{how}: {seconds:g} s minimum duration and 1 query instead of the "
        found.insert(3, f"{text}round's: waived, not a submission result")
    return [f"mlperf: {line}" for line in found]


def _rounds(cells: Sequence[Cell]) -> str:
    """Return ``round v6.1``, or each round with what it judges."""
    names = list(dict.fromkeys(cell.round for cell in cells))
    if len(names) == 1:
        return f"round {names[0]}"
    texts = []
    for name in sorted(names, reverse=True):
        judged = [c for c in cells if c.round == name]
        pairs = sorted({f"{c.benchmark} {c.scenario.slug}" for c in judged})
        texts.append(f"round {name} ({', '.join(pairs)})")
    return ", ".join(texts)
