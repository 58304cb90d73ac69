"""Compare the figures of ``pytest-mlperf explain`` with those of a published table.

    python scripts/compare_metrics.py TREE TABLE [DIVISION]

TREE is a checkout of a results repository. TABLE is its ``summary_results.json`` (v5.1
and v6.0 have one), or the ``--csv`` that the submission checker of a round writes for
the tree, from which the published table is made. Every performance run of the division
(default: closed) is judged, and its figure compared with the row of its folder. Exit
status 1: a figure differs by more than 1e-4, or no row was compared.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from generate_published import explain

MOST_APART = 1e-4
POWER_UNITS = ("Watts", "Joules", "millijoules")


def main(tree: Path, table: Path, division: str = "closed") -> int:
    """Print how the figures compare, and return the exit status."""
    published = read_table(table)
    runs = sorted(tree.glob(f"{division}/*/results/*/*/*/performance/run_1"))
    found = {
        Path(record["path"]).relative_to(tree).parent.parent.as_posix(): record
        for record in (explain(*runs) if runs else [])
    }
    rows = {place: value for place, value in published.items()
            if place.startswith(f"{division}/")}  # fmt: skip
    apart = {
        place: (record["metric"]["value"], rows[place])
        for place, record in found.items()
        if place in rows and record["metric"]
    }
    wrong = {
        place: pair
        for place, pair in apart.items()
        if abs(pair[0] - pair[1]) > MOST_APART * abs(pair[1])
    }
    for place, (own, other) in sorted(wrong.items()):
        print(f"{place}: {own:g}, published {other:g}")
    print(
        f"{len(apart):,} of {len(rows):,} published figures compared,"
        f" {len(wrong):,} differ by more than {MOST_APART:g};"
        f" {len(found.keys() - rows.keys()):,} runs have no row,"
        f" {len(rows.keys() - apart.keys()):,} rows have no figure"
    )
    for place in sorted(rows.keys() - apart.keys()):
        print(f"no figure: {place}")
    return 1 if wrong or not apart else 0


def read_table(path: Path) -> dict[str, float]:
    """Return the folder of a result -> its published figure."""
    text = path.read_text("utf-8")
    if path.suffix == ".json":
        return {
            name_place(row["Location"]): float(row["Performance_Result"])
            for row in json.loads(text)
        }
    rows = csv.DictReader(text.splitlines())
    return {
        name_place(row["Location"]): float(row["Result"])
        for row in rows
        if row.get("Units") not in POWER_UNITS
    }


def name_place(location: str) -> str:
    """Return the folder of a result: since v6.0 the table has its run's."""
    return location.removeprefix("./").removesuffix("/performance/run_1")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]))
