"""Assembles the report: what the template shows, from verdicts and run folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import Any

from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.verdict import OTHERS
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting.html import charts
from pytest_mlperf.reporting.html import query_charts
from pytest_mlperf.reporting.html.run_files import read_run_files
from pytest_mlperf.reporting.html.vega import pack_vega
from pytest_mlperf.reporting.table import LEGEND
from pytest_mlperf.reporting.table import Row
from pytest_mlperf.reporting.table import make_row
from pytest_mlperf.reporting.table import place_verdict

EXTRA = "pip install 'pytest-mlperf[html]'"
MOST_OPEN = 10
"""Failed runs that the page shows open."""
_ORDER = (Status.ERROR, Status.FAIL, Status.WAIVED, Status.PASS)


@dataclass(frozen=True, slots=True)
class ReportInput:
    """What a report is about: a session, or logs that were found somewhere."""

    title: str
    about: Mapping[str, str]
    """Name -> words: system, versions, when."""
    records: Sequence[Record]
    notes: Sequence[str] = field(default_factory=tuple)
    """What a reader must know first: a session that is partial."""


@dataclass(frozen=True, slots=True)
class RunSection:
    """One run: its row of the table and what stands below it."""

    anchor: str
    row: Row
    verdict: Verdict
    checks: Sequence[Check]
    """Failed ones first."""
    plots: Sequence[str]
    """Vega-Lite specifications as JSON that is safe inside a script element."""
    reason: str
    is_open: bool
    """Whether the page shows it at once: what failed, as long as that is little."""


def find_missing_package() -> str | None:
    """Return the package that a report needs and this installation lacks."""
    from importlib.util import find_spec

    packages = {"jinja2": "Jinja2", "vl_convert": "vl-convert-python"}
    return next((name for m, name in packages.items() if not find_spec(m)), None)


def render_report(report: ReportInput) -> str:
    """Return the page: one HTML document that needs nothing else.

    The folders of the runs are read for their plots.
    """
    sections = [*_make_sections(report.records)]
    overview = charts.chart_limits((_label(s.row), s.verdict) for s in sections)
    outcomes = [section.verdict.outcome for section in sections]
    page: str = _load_template().render(
        report=report,
        sections=sections,
        counts={name: outcomes.count(name) for name in charts.OUTCOMES},
        others=[r for r in report.records if r.verdict_to_show() is None],
        disturbed=[s for s in sections if s.verdict.run.is_disturbed],
        other_load=OTHERS,
        legend=_list_legend(sections),
        overview=_embed(overview) if overview else "",
        vega=pack_vega(),
    )
    return page


@cache
def _load_template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    return environment.get_template("report.html.jinja")


def format_number(value: float | None) -> str:
    """Return a number as people read it: five digits at most, thousands apart."""
    if value is None:
        return ""
    size = abs(value)
    digits = next((n for n in range(4) if size * 10**n >= 1000), 4)
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _make_sections(records: Sequence[Record]) -> Sequence[RunSection]:
    shown = [(v, r) for r in records if (v := r.verdict_to_show()) is not None]
    shown.sort(key=lambda pair: place_verdict(pair[0]))
    several = len({verdict.engine for verdict, _ in shown}) > 1
    failed = [place for place, (verdict, _) in enumerate(shown) if not verdict.valid]
    opened = range(len(shown)) if len(shown) == 1 else failed[:MOST_OPEN]
    return [
        RunSection(
            anchor=f"run-{place + 1}",
            row=make_row(verdict, name_engine=several),
            verdict=verdict,
            checks=sorted(verdict.checks, key=lambda check: _ORDER.index(check.status)),
            plots=[_embed(spec) for spec in _list_plots(verdict)],
            reason=record.reason if verdict.outcome == "ERROR" else "",
            is_open=place in opened,
        )
        for place, (verdict, record) in enumerate(shown)
    ]


def _list_plots(verdict: Verdict) -> list[charts.Spec]:
    if not verdict.folder:
        return []
    files = read_run_files(Path(verdict.folder))
    return [
        *charts.chart_latencies(files, verdict),
        *query_charts.chart_queries(files.queries, verdict),
        *query_charts.chart_breakdown(verdict),
        *charts.chart_trials(files, verdict),
        *charts.chart_other_load(files),
        *charts.chart_meter(files),
        *charts.chart_device(files),
    ]


def _label(row: Row) -> str:
    return row.item if row.section == "accuracy" else f"{row.item} {row.section}"


def _embed(spec: charts.Spec) -> str:
    """Return a specification as JSON that cannot end the script element around it."""
    text = json.dumps(spec, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace("&", "\\u0026").replace(">", "\\u003e")


def _list_legend(sections: Sequence[RunSection]) -> list[str]:
    labels = {label for section in sections for label in section.verdict.labels}
    return [text for label, text in LEGEND.items() if label in labels]
