"""Write pytest_mlperf/core/published_results.json from published results.

    python scripts/generate_published.py TREE... > table.json

TREE is a checkout of a results repository (inference_results_v4.1, …_v5.1, …_v6.0), or
the part of it with closed/*/systems and the performance logs. Every run is judged as
``pytest-mlperf explain TREE --json`` does; of the VALID ones on accelerators that
``published.py`` knows, the best per accelerator is kept for each benchmark and
scenario. Of two rounds the newer result counts only where it is better.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_mlperf.core.published import FAMILY_NAMES

DIGITS = re.compile(r"\d+")


def main(trees: Iterable[str]) -> None:
    """Print the table of all trees as JSON."""
    best: dict[tuple[str, str, str], dict[str, Any]] = {}
    judged = 0
    for tree in trees:
        for record in explain(Path(tree) / "closed"):
            judged += 1
            for row in make_rows(record):
                key = (row["family"], row["benchmark"], row["scenario"])
                kept = best.get(key)
                if kept is None or rate(row) > rate(kept):
                    best[key] = row
    rows = [best[key] for key in sorted(best)]
    print("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]")
    print(f"{judged:,} runs judged, {len(rows)} results kept", file=sys.stderr)


def explain(*paths: Path) -> list[dict[str, Any]]:
    """Return the records of the command."""
    code = "import sys; from pytest_mlperf.commands.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "explain", *map(str, paths), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def rate(row: dict[str, Any]) -> float:
    """Return a result's figure per accelerator."""
    each: float = row["total"] / row["accelerators"]
    return each


def make_rows(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a record's result, if its system has one known kind of accelerator."""
    metric = record["metric"]
    wanted = record["verdict"] == "VALID" and record["mode"] == "performance"
    if not wanted or not metric or not metric["unit"].endswith("/s"):
        return
    *home, _results, system, _benchmark, _scenario, _kind, _run = Path(
        record["path"]
    ).parts
    path = Path(*home) / "systems" / f"{system}.json"
    described = json.loads(path.read_text("utf-8"))
    name = str(described.get("accelerator_model_name", ""))
    family = next((f for like, f in FAMILY_NAMES if re.fullmatch(like, name)), "")
    counts = [
        DIGITS.search(str(described.get(key, "")))
        for key in ("number_of_nodes", "accelerators_per_node")
    ]
    numbers = [int(count[0]) for count in counts if count]
    if not family or len(numbers) != 2 or 0 in numbers:
        return
    yield {
        "family": family,
        "benchmark": record["benchmark"],
        "scenario": record["scenario"],
        "total": round(metric["value"], 3),
        "unit": metric["unit"],
        "accelerators": numbers[0] * numbers[1],
        "round": record["round"],
        "submitter": record["facts"].get("submitter", ""),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
