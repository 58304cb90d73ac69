"""What other people's plugins need to be told: HTML and Allure reports, timeouts."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting import junit
from pytest_mlperf.reporting.results import FILE

SECTION = "stdout"
"""Allure, too, shows what a passed test has printed."""


def add_section(item: pytest.Item, report: pytest.TestReport) -> None:
    """Add the verdict to an item's reports, unless it is the failure's text already.

    Reporters of other packages show a passed item's sections, and nothing else of it.
    """
    text = dict(report.user_properties).get(junit.KEY)
    if report.when != "call" or text is None:
        return
    verdict = Verdict.from_json(str(text))
    add_link(item.config, report, verdict.folder)
    words = verdict.explain()
    if words in report.longreprtext:
        return
    title, _, rest = words.partition("\n")
    words = "\n".join([title, *describe_figures(verdict), rest])
    # For the reports of this phase, and of those that follow.
    item.add_report_section("call", SECTION, f"{words}\n")
    report.sections.append((f"Captured {SECTION} call", f"{words}\n"))


def describe_figures(verdict: Verdict) -> Iterator[str]:
    """Yield a verdict's figure, and the latency beside it with its limit.

    Of tokens ``explain`` has both latencies.
    """
    if metric := verdict.metric:
        yield f"  {metric.value:,.10g} {metric.unit}"
    latency, limit, share = verdict.at_percentile, verdict.limit, verdict.percentile
    if latency and share is not None and not verdict.tpot:
        bound = f" of {limit.value:g} {limit.unit}" if limit else ""
        yield f"  p{share * 100:g} {latency.value:,.10g} {latency.unit}{bound}"


def add_link(config: pytest.Config, report: pytest.TestReport, folder: str) -> None:
    """Add a run's folder to the links of pytest-html's page, where one is written.

    Relative to the page, so that both can be kept together elsewhere.
    """
    page = config.getoption("htmlpath", default=None)
    if not page or not folder:
        return
    path = os.path.relpath(folder, Path(page).absolute().parent)
    link = {
        "name": "logs", "format_type": "url", "content": quote(Path(path).as_posix()),
        "mime_type": None, "extension": None,
    }  # fmt: skip
    vars(report)["extras"] = [*getattr(report, "extras", ()), link]


def add_suite_properties(config: pytest.Config, header: Mapping[str, Any]) -> None:
    """Add what ran, on what and at which commit, to the junit file where one is made.

    The fixture ``record_testsuite_property`` is for tests, and not known to xdist.
    """
    writers = [
        plugin.add_global_property
        for plugin in config.pluginmanager.get_plugins()
        if hasattr(plugin, "add_global_property")
    ]
    for write in writers:
        for name, text in junit.list_suite_properties(header):
            write(name, text)


def describe_unwritten(error: OSError) -> str:
    """Return which plugin could not write at the session's end, and why.

    pytest's junit file is one: the error of a full disk does not name the file.
    """
    plugin = ""
    for frame, _line in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "pytest_sessionfinish":
            plugin = str(frame.f_globals.get("__name__", ""))
    option = " (--junitxml)" if plugin == "_pytest.junitxml" else ""
    return (
        f"{plugin or 'a plugin'}{option} could not write its file: {error}; "
        f"{FILE} is whole: make room, or name another place, and run again"
    )


def describe_timeout(config: pytest.Config, least_s: float) -> list[str]:
    """Return a note where pytest-timeout would end a run of ``least_s`` seconds."""
    limit_s = find_timeout_s(config)
    if not 0 < limit_s < least_s:
        return []
    text = (
        f"pytest-timeout ends an item after {limit_s:g} s, but the longest run here "
        f"takes at least {least_s:g} s: its item will fail; raise --timeout or set it "
        "to 0 (a run that makes no progress is ended after --mlperf-stall)"
    )
    return [text]


def find_timeout_s(config: pytest.Config) -> float:
    """Return pytest-timeout's limit for a session's items; 0 where there is none."""
    if not config.pluginmanager.has_plugin("timeout"):
        return 0.0
    given: Any = config.getoption("timeout", default=None)
    for value in (given, os.environ.get("PYTEST_TIMEOUT"), config.getini("timeout")):
        if value not in (None, ""):
            with suppress(ValueError):  # which that plugin refuses
                return float(value)
    return 0.0
