"""Ratios of one run: figures of ours beside a baseline, and the goal of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from statistics import median
from typing import Any

HEADS = ("name", "unit", "ours", "baseline", "ratio", "goal", "met", "spread", "n")


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison; ``ours`` and ``baseline`` hold a figure per interleaved run."""

    name: str
    unit: str
    ours: Sequence[float]
    baseline: Sequence[float] = ()
    at_least: float | None = None
    """Goal of the ratio, where more is better."""
    at_most: float | None = None
    """Goal of the ratio, where less is better."""
    below: float | None = None
    """Goal of our own figure, in ``unit``, where a ratio says little."""
    adds_below: float | None = None
    """Goal of what we add to the baseline, in ``unit``."""
    note: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the JSON keeps besides."""

    @property
    def ratio(self) -> float | None:
        """Median of ours over median of the baseline."""
        if not self.baseline or not median(self.baseline):
            return None
        return median(self.ours) / median(self.baseline)

    @property
    def goal(self) -> str:
        """The goal in words; empty where the row only informs."""
        if self.at_least is not None:
            return f">= {self.at_least:.2f} x"
        if self.at_most is not None:
            return f"<= {self.at_most:.2f} x"
        if self.adds_below is not None:
            return f"+ < {self.adds_below:g} {self.unit}"
        return "" if self.below is None else f"< {self.below:g} {self.unit}"

    @property
    def met(self) -> bool | None:
        """Whether this run reached the goal; None without one. Never asserted."""
        if self.below is not None:
            return median(self.ours) < self.below
        if self.adds_below is not None:
            return median(self.ours) - median(self.baseline) < self.adds_below
        if self.ratio is None:
            return None
        if self.at_least is not None:
            return self.ratio >= self.at_least
        return None if self.at_most is None else self.ratio <= self.at_most

    @property
    def spread(self) -> float:
        """Largest range of either side over its median: how noisy the machine was."""
        sides = [s for s in (self.ours, self.baseline) if s and median(s)]
        return max(((max(s) - min(s)) / median(s) for s in sides), default=0.0)

    def cells(self) -> tuple[str, ...]:
        """Return the texts of the table's columns."""
        verdict = {True: "yes", False: "NO", None: ""}[self.met]
        return (
            self.name,
            self.unit,
            number(median(self.ours)),
            number(median(self.baseline)) if self.baseline else "",
            f"{self.ratio:.3f}" if self.ratio is not None else "",
            self.goal,
            verdict,
            f"{self.spread:.0%}",
            str(len(self.ours)),
        )

    def record(self) -> dict[str, Any]:
        """Return what the JSON file holds of this row: every figure, not the median."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": list(self.ours),
            "baseline": list(self.baseline),
            "ratio": self.ratio,
            "goal": self.goal,
            "met": self.met,
            "spread": self.spread,
            "note": self.note,
            **self.facts,
        }


def number(value: float) -> str:
    """Return a figure with about four digits and thousands separators."""
    digits = max(0, 3 - len(f"{abs(value):.0f}")) if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def render(rows: Sequence[Row]) -> list[str]:
    """Return the table's lines; a note stands in a line of its own below."""
    texts = [HEADS, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in texts) for i in range(len(HEADS))]
    lines = []
    for line, row in zip(texts, [None, *rows], strict=True):
        parts = [line[0].ljust(widths[0]), line[1].ljust(widths[1])]
        parts += [t.rjust(w) for t, w in zip(line[2:], widths[2:], strict=True)]
        lines.append("  ".join(parts).rstrip())
        if row is None:
            lines.append("-" * len(lines[0]))
        elif row.note:
            lines.append(f"    {row.note}")
    return lines
