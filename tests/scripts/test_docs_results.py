"""The pages' tables are what this suite's reporters make of the committed sessions."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "docs_results.py"


def test_the_pages_tables_are_made_from_the_sessions(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody who edits a figure by hand is told which session it has to come from."""
    assert script.main(["--check"]) == 0, capsys.readouterr().out


def test_a_figure_that_was_edited_is_found_and_put_right(script: ModuleType) -> None:
    """What stands around the table in its block stays."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    edited = re.sub(r"(?m)^(  bert-99 +)[\d.]+", r"\g<1>99.99", text, count=1)

    assert edited != text
    assert script.put_table(edited, "first_session") == text


def test_the_plots_are_of_the_committed_records(script: ModuleType) -> None:
    """Each plot that a page shows exists in its session; pictures are not compared."""
    pytest.importorskip("numpy")
    for target, (name, scenario, titles) in script.PLOTS.items():
        session = script.read_session(name)
        (verdict,) = (v for v in session.verdicts if v.scenario == scenario)
        specs = script.list_plots(verdict, script.RESULTS / name)
        found = [spec["title"] for spec in specs]

        assert (ROOT / target).is_file()
        for title in titles:
            assert any(text.startswith(title) for text in found), found


def test_the_bars_are_rows_of_the_gpu_page(script: ModuleType) -> None:
    """Each VALID row of one card that stands beside a published result."""
    text = (ROOT / "docs/results/gpu.md").read_text(encoding="utf-8")
    newest = text.partition("\n## ")[2].partition("Two H200")[0]
    rows = [line for line in newest.splitlines() if " % of " in line]

    shares = script.read_shares()

    assert len(shares) == len([row for row in rows if "INVALID" not in row]) > 0
    assert all(0 < bar["share"] <= 120 for bar in shares)
