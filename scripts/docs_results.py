"""Make the tables and plots of the pages from the sessions in ``docs/results``.

    python scripts/docs_results.py [--check]

A table is the terminal's, put where the page has one between the heads that
``TABLES`` names; a plot is the HTML report's. The bars of the GPUs are read from the
first table of ``docs/results/gpu.md``. ``--check`` writes nothing, and its exit status
is 1 where a page's table is not the one that would be written. Plots need
pytest-mlperf[html].
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from textwrap import wrap
from typing import Any

from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting.html import charts
from pytest_mlperf.reporting.html import query_charts
from pytest_mlperf.reporting.html.run_files import read_run_files
from pytest_mlperf.reporting.results import FILE
from pytest_mlperf.reporting.results import read_results
from pytest_mlperf.reporting.table import make_table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
TABLES = {
    "README.md": "first_session",
    "docs/reference/report.md": "bert_h200",
}
"""Page -> the session whose table it has, after the line ``<!-- table: NAME -->``."""
PLOTS = {
    "docs/images/report_bert_h200.svg": (
        "bert_h200", "Server", ("latency over time", "batch sizes", "SM clock"),
    ),
}  # fmt: skip
"""File -> session, scenario, and how the plots' titles begin."""
SHARES = "docs/images/gpu_shares.svg"
SHARE_ROW = re.compile(
    r"^\| (?P<cell>[^|]+) \| (?P<precision>[^|]+) \| (?P<card>H\d+)[^|]* \| [^|]* "
    r"\| (?P<seconds>[^|]+) \|.*\| (?P<share>\d+) % of [\d.,]+ \|(?P<verdict>.*)\|$",
    re.MULTILINE,
)
"""A row of one card: its cell, how it ran, and its share of the published result."""
WIDTH = 80
PLOT_WIDTH = 270


def main(arguments: list[str] | None = None) -> int:
    """Write what is not as it should be, or say so, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    is_check = parser.parse_args(arguments).check
    stale = []
    for page, name in TABLES.items():
        path = ROOT / page
        text = path.read_text(encoding="utf-8")
        renewed = put_table(text, name)
        if renewed != text:
            stale.append(page)
        if not is_check:
            path.write_text(renewed, encoding="utf-8")
    if is_check:
        for page in stale:
            told = f"{page}: its table is not that of docs/results/{TABLES[page]}"
            print(f"{told}; run python scripts/docs_results.py")
        return int(bool(stale))
    for target, (name, scenario, titles) in PLOTS.items():
        (ROOT / target).write_text(draw(name, scenario, titles), encoding="utf-8")
        print(target)
    (ROOT / SHARES).write_text(draw_shares(read_shares()), encoding="utf-8")
    print(SHARES)
    return 0


def read_session(name: str) -> SessionResults:
    return read_results(RESULTS / name / FILE)


def put_table(text: str, name: str) -> str:
    """Return a page with the session's table in the block after its mark.

    Raises ``ValueError`` for a page without mark, block or table.
    """
    mark = f"<!-- table: {name} -->"
    lines = text.split("\n")
    start = lines.index("```", lines.index(mark)) + 1
    end = lines.index("```", start)
    block = lines[start:end]
    first = next(
        (n for n, line in enumerate(block) if line.startswith("=")), len(block)
    )
    last = next(
        (n for n, line in enumerate(block) if line.startswith("results: ")), len(block)
    )
    table = make_table(read_session(name), WIDTH, colour=False)
    return "\n".join([*lines[:start], *block[:first], *table, *block[last:],
                      *lines[end:]])  # fmt: skip


def draw(name: str, scenario: str, titles: tuple[str, ...]) -> str:
    """Return a run's plots of these titles beside each other, as SVG."""
    import vl_convert

    (verdict,) = (v for v in read_session(name).verdicts if v.scenario == scenario)
    specs = list_plots(verdict, RESULTS / name)
    chosen = [
        next(spec for spec in specs if spec["title"].startswith(title))
        for title in titles
    ]
    plots = [
        {**spec, "width": PLOT_WIDTH, "height": 160, "title": wrap(spec["title"], 44)}
        for spec in chosen
    ]
    whole = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white", "hconcat": plots,
        "resolve": {"scale": {"color": "independent"}},
        "config": {"title": {"anchor": "start", "fontSize": 11}},
    }  # fmt: skip
    svg: str = vl_convert.vegalite_to_svg(json.dumps(whole))
    return svg


def read_shares() -> list[dict[str, Any]]:
    """Return the VALID rows of the newest figures that have a published result."""
    text = (RESULTS / "gpu.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("## The newest figure of each cell")
    newest, _, _ = rest.partition("\n## ")
    return [
        {
            "cell": f"{row['cell']}, {row['precision']}, {row['seconds']} s",
            "card": row["card"],
            "share": int(row["share"]),
        }
        for row in SHARE_ROW.finditer(newest)
        if "INVALID" not in row["verdict"]
    ]


def draw_shares(shares: list[dict[str, Any]]) -> str:
    """Return a bar for each row, in the page's order, as SVG."""
    import vl_convert

    order = list(dict.fromkeys(row["cell"] for row in shares))
    x = {
        "field": "share", "type": "quantitative", "scale": {"domain": [0, 100]},
        "title": "% of the best published result of this kind of card",
    }  # fmt: skip
    color = {"field": "card", "type": "nominal", "title": None}
    y = {
        "field": "cell", "type": "nominal", "sort": order, "title": None,
        # Fonts differ by a fifth in width; a label that is cut names another cell.
        "axis": {"labelLimit": 300, "minExtent": 215},
    }  # fmt: skip
    whole = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white", "width": 420, "data": {"values": shares},
        "encoding": {"x": x, "y": y},
        "layer": [
            {"mark": "bar", "encoding": {"color": color}},
            {"mark": {"type": "text", "align": "left", "dx": 4},
             "encoding": {"text": {"field": "share", "type": "quantitative"}}},
        ],
    }  # fmt: skip
    svg: str = vl_convert.vegalite_to_svg(json.dumps(whole))
    return svg


def list_plots(verdict: Verdict, session: Path) -> list[dict[str, Any]]:
    cell, mode = Path(verdict.folder).parts[-2:]
    files = read_run_files(session / "logs" / cell / mode)
    return [
        *query_charts.chart_queries(files.queries, verdict),
        *charts.chart_device(files),
    ]


if __name__ == "__main__":
    sys.exit(main())
