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

from pytest_mlperf.core.latency_breakdown import COLUMNS
from pytest_mlperf.reporting.deployment_plot import make_plot


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the files that are named."""
    import vl_convert

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="CSV")
    for path in parser.parse_args(arguments).files:
        with path.open(newline="") as file:
            rows = [
                (
                    int(row["Batch"]),
                    float(row["Inferences/Second"]),
                    {step: float(row[step]) for step in COLUMNS},
                )
                for row in csv.DictReader(file)
            ]
            plot = make_plot(path.stem, rows)
        target = path.with_suffix(".svg")
        target.write_text(vl_convert.vegalite_to_svg(json.dumps(plot)))
        print(target)  # noqa: T201


if __name__ == "__main__":
    main()
