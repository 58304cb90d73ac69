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
from pytest_mlperf.reporting.html import overview
from pytest_mlperf.reporting.html import query_charts
from pytest_mlperf.reporting.html.numbers import format_number
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
    folder: Path | None = None
    """Of the session: its logs are found there after it was copied elsewhere."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot and the line above it, which the page wraps and a plot would cut."""

    title: str
    spec: str
    """Vega-Lite's, as JSON that is safe inside a script element."""


@dataclass(frozen=True, slots=True)
class RunSection:
    """One run: its row of the table and what stands below it."""

    anchor: str
    row: Row
    machine: str
    """Submitter and system, where the log's place or a session tells them."""
    verdict: Verdict
    checks: Sequence[Check]
    """Failed ones first."""
    plots: Sequence[Plot]
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
    sections = [*_make_sections(report)]
    outcomes = [section.verdict.outcome for section in sections]
    several = len({section.machine for section in sections} - {""}) > 1
    named = [(_label(section, several), section.verdict) for section in sections]
    overviews = (overview.chart_limits(named), overview.chart_gates(named))
    page: str = _load_template().render(
        report=report,
        sections=sections,
        counts={name: outcomes.count(name) for name in overview.OUTCOMES},
        columns=_list_columns(sections, several),
        others=[r for r in report.records if r.verdict_to_show() is None],
        disturbed=[s for s in sections if s.verdict.run.is_disturbed],
        other_load=OTHERS,
        legend=_list_legend(sections),
        overviews=[_embed(spec) for spec in overviews if spec],
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


def _make_sections(report: ReportInput) -> Sequence[RunSection]:
    shown = [(v, r) for r in report.records if (v := r.verdict_to_show()) is not None]
    shown.sort(key=lambda pair: place_verdict(pair[0]))
    several = len({verdict.engine for verdict, _ in shown}) > 1
    failed = [place for place, (verdict, _) in enumerate(shown) if not verdict.valid]
    machines = _name_machines([verdict for verdict, _ in shown])
    opened = range(len(shown)) if len(shown) == 1 else failed[:MOST_OPEN]
    return [
        RunSection(
            anchor=f"run-{place + 1}",
            row=make_row(verdict, name_engine=several),
            machine=machines[place],
            verdict=verdict,
            checks=sorted(verdict.checks, key=lambda check: _ORDER.index(check.status)),
            plots=[_embed(spec) for spec in _list_plots(verdict, report.folder)],
            reason=record.reason if verdict.outcome == "ERROR" else "",
            is_open=place in opened,
        )
        for place, (verdict, record) in enumerate(shown)
    ]


def _list_plots(verdict: Verdict, session: Path | None) -> list[charts.Spec]:
    if not verdict.folder:
        return []
    files = read_run_files(_find_logs(verdict, session))
    return [
        *charts.chart_latencies(files, verdict),
        *query_charts.chart_queries(files.queries, verdict),
        *query_charts.chart_breakdown(verdict),
        *charts.chart_trials(files, verdict),
        *charts.chart_other_load(files),
        *charts.chart_meter(files),
        *charts.chart_device(files),
    ]


def _find_logs(verdict: Verdict, session: Path | None) -> Path:
    """Return a run's folder: where it was written, or where its session lies now."""
    written = Path(verdict.folder)
    if session is None or written.is_dir():
        return written
    moved = session.joinpath("logs", *written.parts[-2:])  # logs/CELL/MODE
    return moved if moved.is_dir() else written


def _name_machines(verdicts: Sequence[Verdict]) -> list[str]:
    """Return each run's system, with its submitter where there are several."""
    submitters = [verdict.facts.get("submitter", "") for verdict in verdicts]
    systems = [verdict.facts.get("system", "") for verdict in verdicts]
    if len({*submitters}) < 2:
        return systems
    pairs = zip(submitters, systems, strict=True)
    return [f"{submitter} {system}".strip() for submitter, system in pairs]


def _label(section: RunSection, several: bool) -> str:
    """Return a run's name in a plot of all; ``several``: machines."""
    row = section.row
    name = row.item if row.section == "accuracy" else f"{row.item} {row.section}"
    return f"{name}, {section.machine}" if several and section.machine else name


def _list_columns(sections: Sequence[RunSection], several: bool) -> tuple[str, ...]:
    """Return the heads of the table's columns, without those that would be empty."""
    engines = any(section.row.engine for section in sections)
    return (
        "Run", "Scenario", "Result", "Unit", "Verdict", "Latency ms", "Limit",
        *(["Engine"] if engines else []), *(["System"] if several else []),
        "Rules", "Round",
    )  # fmt: skip


def _embed(spec: charts.Spec) -> Plot:
    """Return a specification as JSON that cannot end the script element around it."""
    title = str(spec["title"])
    untitled = {key: value for key, value in spec.items() if key != "title"}
    text = json.dumps(untitled, separators=(",", ":"), ensure_ascii=True)
    for character in "<&>":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Plot(title, text)


def _list_legend(sections: Sequence[RunSection]) -> list[str]:
    labels = {label for section in sections for label in section.verdict.labels}
    return [text for label, text in LEGEND.items() if label in labels]
