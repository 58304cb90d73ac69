"""Tables of a deployment as NVIDIA prints them: configuration, and results per batch.

The columns are those of perf_analyzer's tables in NVIDIA's DeepLearningExamples.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_mlperf.config.load_options import LoadOptions
from pytest_mlperf.core.latency_breakdown import COLUMNS

LOAD = "Concurrency"
PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class TimeUnit:
    """How a table writes times and rates."""

    suffix: str
    per_ms: float
    digits: int
    rate: str
    """Format of inferences a second."""

    @property
    def head(self) -> tuple[str, ...]:
        """The columns' names."""
        latencies = *(f"p{percent} latency" for percent in PERCENTILES), "avg latency"
        times = (f"{name}{self.suffix}" for name in (*COLUMNS, *latencies))
        return "Batch", LOAD, "Inferences/Second", *times

    def write(self, milliseconds: float) -> str:
        """Return a time as the table has it."""
        return f"{milliseconds * self.per_ms:.{self.digits}f}"


MILLISECONDS = TimeUnit(" (ms)", 1, 3, ".1f")
"""As in NVIDIA's tables of BERT."""
MICROSECONDS = TimeUnit("", 1000, 0, ".2e")
"""As in those of recommenders, whose columns do not name the unit."""


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """A row: what requests of one size do; times are milliseconds."""

    batch: int
    per_s: float
    """Samples a second."""
    steps_ms: Mapping[str, float]
    """Column of perf_analyzer -> mean."""
    percentiles_ms: Mapping[int, float]
    is_stable: bool
    concurrency: int = 1
    """Requests outstanding."""
    request_rate: float = 0.0
    """Requests a second that were sent, of requests at a rate."""

    @property
    def average_ms(self) -> float:
        """The sum of the steps, as perf_analyzer's tables have it."""
        return sum(self.steps_ms.values())

    def is_above(self, options: LoadOptions) -> bool:
        """Return whether the latency is above its threshold."""
        if options.percentile:
            return (
                self.percentiles_ms[int(options.percentile)] > options.latency_threshold
            )
        return self.average_ms > options.latency_threshold


def choose_head(rows: Sequence[LoadFigures], unit: TimeUnit) -> list[str]:
    """Return the columns: of requests at a rate, perf_analyzer's Request Rate."""
    rate = any(row.request_rate for row in rows)
    return ["Request Rate" if rate and name == LOAD else name for name in unit.head]


def list_cells(figures: LoadFigures, unit: TimeUnit) -> list[str]:
    """Return a row of the results table, in the order of the unit's ``head``."""
    times = [figures.steps_ms[name] for name in COLUMNS]
    times += [figures.percentiles_ms[percent] for percent in PERCENTILES]
    times.append(figures.average_ms)
    load = f"{figures.request_rate:g}" if figures.request_rate else ""
    rate = format(figures.per_s, unit.rate)
    row = [str(figures.batch), load or str(figures.concurrency), rate]
    return [*row, *map(unit.write, times)]


def format_csv(rows: Sequence[LoadFigures], unit: TimeUnit = MILLISECONDS) -> str:
    """Return the results table as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(choose_head(rows, unit))
    writer.writerows(list_cells(row, unit) for row in rows)
    return out.getvalue()


def format_markdown(
    title: str,
    configuration: Mapping[str, str],
    rows: Sequence[LoadFigures],
    unit: TimeUnit = MILLISECONDS,
) -> str:
    """Return both tables as Markdown, which a terminal shows well too."""
    settings = _align([["Parameter Name", "Parameter Value"], *configuration.items()])
    lines = [f"#### {title}", "", *settings, "", "Results Table", ""]
    return "\n".join(lines) + "\n" + format_results(rows, unit)


def format_results(rows: Sequence[LoadFigures], unit: TimeUnit = MILLISECONDS) -> str:
    """Return the results table as Markdown."""
    cells = [choose_head(rows, unit), *(list_cells(row, unit) for row in rows)]
    table = "\n".join(_align(cells, is_numeric=True)) + "\n"
    return table if unit.suffix else f"Times in microseconds.\n\n{table}"


def _align(table: Sequence[Sequence[str]], *, is_numeric: bool = False) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if is_numeric else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ]
        lines.append(f"| {' | '.join(cells)} |")
    marks = [
        f"{'-' * (width + 1)}:" if is_numeric else f":{'-' * (width + 1)}"
        for width in widths
    ]
    lines.insert(1, f"|{'|'.join(marks)}|")
    return lines
