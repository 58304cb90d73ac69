"""Writes metrics: the page's table over repeats, or each value by itself."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from collections.abc import Sequence

from pytest_mlperf.reporting.virtualclient.metric import MetricSummary
from pytest_mlperf.reporting.virtualclient.metric import VirtualClientMetric
from pytest_mlperf.reporting.virtualclient.metric import summarize

COLUMNS = (
    "Scenario", "Metric Name", "Example Value (min)", "Example Value (max)",
    "Example Value (avg)", "Unit",
)  # fmt: skip
"""As VirtualClient's page has them."""


def format_csv(metrics: Sequence[VirtualClientMetric]) -> str:
    """Return minimum, maximum and average of each metric, numbers in full."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(COLUMNS)
    writer.writerows(map(format_row, summarize(metrics)))
    return stream.getvalue()


def format_markdown(metrics: Sequence[VirtualClientMetric]) -> str:
    """Return the same as a table of Markdown."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *map(format_row, summarize(metrics))]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def format_json(metrics: Sequence[VirtualClientMetric]) -> str:
    """Return one JSON object a line: every value of every run."""
    return "".join(f"{json.dumps(one.to_dict())}\n" for one in metrics)


def format_row(summary: MetricSummary) -> list[str]:
    """Return a table's row: numbers in full, 1.0 and 0.5333333333333333."""
    numbers = (summary.minimum, summary.maximum, summary.average)
    return [summary.model, summary.name, *map(repr, numbers), summary.unit]


FORMATS: dict[str, Callable[[Sequence[VirtualClientMetric]], str]] = {
    "markdown": format_markdown,
    "csv": format_csv,
    "json": format_json,
}
