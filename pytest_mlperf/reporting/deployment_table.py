"""Tables of a deployment as NVIDIA prints them: configuration, and results per batch.

The columns are those of perf_analyzer's tables in NVIDIA's DeepLearningExamples.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Protocol

from pytest_mlperf.core.latency_breakdown import COLUMNS

UNIT = "ms"
LOAD = "Concurrency"
HEAD = (
    "Batch", LOAD, "Inferences/Second",
    *(f"{name} ({UNIT})" for name in COLUMNS),
    *(f"p{percent} latency ({UNIT})" for percent in (50, 90, 95, 99)),
    f"avg latency ({UNIT})",
)  # fmt: skip


class BatchFigures(Protocol):
    """One row's figures: ``measure.batching.LoadFigures``."""

    @property
    def batch(self) -> int: ...

    @property
    def concurrency(self) -> int: ...

    @property
    def request_rate(self) -> float: ...

    @property
    def per_s(self) -> float: ...

    @property
    def steps_ms(self) -> Mapping[str, float]: ...

    @property
    def percentiles_ms(self) -> Mapping[int, float]: ...

    @property
    def average_ms(self) -> float: ...


def choose_head(rows: Sequence[BatchFigures]) -> list[str]:
    """Return the columns: of requests at a rate, perf_analyzer's Request Rate."""
    rate = any(row.request_rate for row in rows)
    return ["Request Rate" if rate and name == LOAD else name for name in HEAD]


def list_cells(figures: BatchFigures) -> list[str]:
    """Return a row of the results table, in the order of ``HEAD``."""
    times = [figures.steps_ms[name] for name in COLUMNS]
    times += [figures.percentiles_ms[percent] for percent in (50, 90, 95, 99)]
    times.append(figures.average_ms)
    load = f"{figures.request_rate:g}" if figures.request_rate else ""
    row = [str(figures.batch), load or str(figures.concurrency), f"{figures.per_s:.1f}"]
    return row + [f"{one:.3f}" for one in times]


def format_csv(rows: Sequence[BatchFigures]) -> str:
    """Return the results table as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(choose_head(rows))
    writer.writerows(list_cells(row) for row in rows)
    return out.getvalue()


def format_markdown(
    title: str, configuration: Mapping[str, str], rows: Sequence[BatchFigures]
) -> str:
    """Return both tables as Markdown, which a terminal shows well too."""
    settings = _align([["Parameter Name", "Parameter Value"], *configuration.items()])
    lines = [f"#### {title}", "", *settings, "", "Results Table", ""]
    return "\n".join(lines) + "\n" + format_results(rows)


def format_results(rows: Sequence[BatchFigures]) -> str:
    """Return the results table as Markdown."""
    return (
        "\n".join(_align([choose_head(rows), *map(list_cells, rows)], is_numeric=True))
        + "\n"
    )


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
