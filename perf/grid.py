"""A grid by halving beside all of it: ``python -m perf.grid [bert-99-offline]``.

48 points of onnxruntime: streams x threads x batch. Prints both bests, the figure that
the exhaustive runs have of halving's best, and what each took. Only a quiet machine
gives figures. The exhaustive half takes 48 runs of 54 s: less than an hour, where
--seconds is left at 2.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from pytest_mlperf.commands.main import main as run_command

GRID = """cell = "{cell}"
seconds = {seconds}
[grid]
streams = [1, 2, 3, 4]
threads = [1, 2, 3]
batch = [1, 4, 8, 16]
"""


def main() -> int:
    """Print the comparison, and return 0 where halving's best is within 2 %."""
    parser = ArgumentParser(prog="python -m perf.grid", description=__doc__)
    parser.add_argument("cell", nargs="?", default="bert-99-offline")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a first run")
    arguments, more = parser.parse_known_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("halving", "exhaustive"):
            file = Path(folder) / f"{name}.toml"
            file.write_text(GRID.format(cell=arguments.cell, seconds=arguments.seconds))
            words = ["tune", "grid", str(file), *more]
            started = time.monotonic()
            run_command([*words, "--exhaustive"] if name == "exhaustive" else words)
            found[name] = time.monotonic() - started, read_runs(file)
    (quick_s, quick), (all_s, every) = found["halving"], found["exhaustive"]
    longest = max(run["seconds"] for run in quick)
    last = [run for run in quick if run["seconds"] == longest and run["score"]]
    chosen = max(last, key=lambda run: float(run["score"]))["point"]
    scores = {json.dumps(run["point"]): run["score"] for run in every if run["score"]}
    share = scores[json.dumps(chosen)] / max(scores.values())
    lines = [
        f"halving: {len(quick)} runs, {quick_s:,.0f} s ({quick_s / all_s:.0%})",
        f"  {chosen}",
        f"exhaustive: {len(every)} runs, {all_s:,.0f} s",
        f"halving's best has {share:.1%} of the best figure",
    ]
    sys.stdout.write("\n".join([*lines, ""]))
    return int(share < 0.98)


def read_runs(file: Path) -> list[dict[str, Any]]:
    """Return the runs of a grid's journal."""
    lines = file.with_suffix(".journal.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[1:]]


if __name__ == "__main__":
    sys.exit(main())
