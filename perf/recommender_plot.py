"""Draw each CSV of a report: latency of every batch size, by the table's columns.

    python -m perf.recommender_plot reports/dlrm/*.csv

Writes NAME.svg beside NAME.csv; needs pytest-mlperf[html], and no GPU.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.recommender_report import COLUMNS

STEPS = COLUMNS[3:10]
"""The seven columns whose sum is a request's time."""


def make_plot(name: str, rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Return a Vega-Lite plot: stacked steps in microseconds, the rate above."""
    values = [
        {"batch": f"{int(row['Batch']):,}", "step": step, "order": place,
         "us": float(row[step]), "rate": f"{float(row['Inferences/Second']):.3g}/s"}
        for row in rows for place, step in enumerate(STEPS)
    ]  # fmt: skip
    batch = {"field": "batch", "type": "nominal", "sort": None, "title": "batch",
             "axis": {"labelAngle": 0}}  # fmt: skip
    total = {"field": "us", "type": "quantitative", "aggregate": "sum",
             "title": "microseconds"}  # fmt: skip
    color = {"field": "step", "type": "nominal", "sort": list(STEPS), "title": None}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": name, "width": 460, "height": 260, "background": "white",
        "data": {"values": values},
        "encoding": {"x": batch, "y": total},
        "layer": [
            {"mark": "bar", "encoding": {"color": color, "order": {"field": "order"}}},
            {"mark": {"type": "text", "dy": -6},
             "encoding": {"text": {"field": "rate"}}},
        ],
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the files that are named."""
    import vl_convert

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="CSV")
    for path in parser.parse_args(arguments).files:
        with path.open(newline="") as file:
            plot = make_plot(path.stem, list(csv.DictReader(file)))
        target = path.with_suffix(".svg")
        target.write_text(vl_convert.vegalite_to_svg(json.dumps(plot)))
        print(target)  # noqa: T201


if __name__ == "__main__":
    main()
