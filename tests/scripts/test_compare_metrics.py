"""Published tables beside our figures: what differs is found and named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import dialects

ROOT = Path(__file__).resolve().parents[2]
PLACE = "closed/ACME/results/box/resnet50/Offline"
HEAD = "Location,Result,Units\n"


def compare(tree: Path, table: Path) -> tuple[int, str]:
    """Return the script's exit status and what it printed."""
    script = ROOT / "scripts" / "compare_metrics.py"
    command = [sys.executable, str(script), str(tree), str(table)]
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_figure_is_compared_with_the_row_of_its_folder(
    tmp_path: Path, form: str
) -> None:
    """A table of the checker has a second row for the power of a result."""
    folder = tmp_path / PLACE / "performance" / "run_1"
    dialects.performance(folder, "v5.1", "Offline")
    detail = (folder / "mlperf_log_detail.txt").read_text("utf-8")
    text = detail.partition('"result_samples_per_second", "value": ')[2]
    value = float(text.partition(",")[0])
    table = tmp_path / f"table.{form}"
    found = {}
    for factor in (1.0, 1.0002):
        row = {"Location": PLACE, "Performance_Result": value * factor}
        rows = f"{HEAD}{PLACE},{value * factor},Samples/s\n{PLACE},9.5,Watts\n"
        table.write_text(json.dumps([row]) if form == "json" else rows, "utf-8")
        found[factor] = compare(tmp_path, table)

    assert found[1.0][0] == 0, found[1.0][1]
    assert "1 of 1 published figures compared, 0 differ" in found[1.0][1]
    assert found[1.0002][0] == 1
    assert f"{PLACE}: {value:g}, published" in found[1.0002][1]


def test_a_table_of_other_results_is_no_comparison(tmp_path: Path) -> None:
    """Nothing compared is no success."""
    dialects.performance(tmp_path / PLACE / "performance" / "run_1", "v5.1", "Offline")
    table = tmp_path / "table.json"
    table.write_text("[]", "utf-8")
    status, text = compare(tmp_path, table)

    assert status == 1
    assert "1 runs have no row" in text
