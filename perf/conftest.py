"""Collects ratios, prints them as one table and keeps them as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from perf.ratio import Row
from perf.ratio import render
from perf.suite_run import Bench
from pytest_mlperf.measure.placement import place
from pytest_mlperf.plugin.session import State

ROWS = pytest.StashKey[list[Row]]()
Record = Callable[[Row], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of this folder; they exist only when it is named."""
    group = parser.getgroup("speed", "speed of pytest-mlperf itself")
    group.addoption("--ratio-runs", type=int, default=3, metavar="N",
                    help="runs of each side of a comparison (default 3)")  # fmt: skip
    group.addoption("--ratio-scale", type=float, default=1.0, metavar="X",
                    help="factor on the length of LoadGen runs; below 1 the figures "
                    "mean little (default 1)")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Begin with no rows."""
    config.stash[ROWS] = []


@pytest.fixture(scope="session")
def record(pytestconfig: pytest.Config) -> Record:
    """Takes a row for the table at the end."""
    return pytestconfig.stash[ROWS].append


@pytest.fixture(scope="session")
def bench(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Bench:
    """The session's folders, CPUs and number of runs."""
    state = State.of(pytestconfig)
    return Bench(
        folder=tmp_path_factory.mktemp("speed"),
        cache=state.options.cache,
        cpus=place(state.measuring).cpus,
        runs=pytestconfig.getoption("--ratio-runs"),
        scale=pytestconfig.getoption("--ratio-scale"),
    )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table and write it beside the other reports."""
    rows = config.stash[ROWS]
    if not rows:
        return
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    terminalreporter.section("speed: medians of interleaved runs")
    for line in render(rows):
        terminalreporter.write_line(line)
    terminalreporter.write_line(
        f"spread: (largest - smallest) / median of the noisier side. Load average at "
        f"the end: {loads} on {os.cpu_count()} CPUs"
    )
    path = write(rows, State.of(config).options.reports)
    terminalreporter.write_line(f"written to {path}")


def write(rows: list[Row], reports: Path) -> Path:
    """Write the rows as JSON and return where."""
    now = datetime.now()
    path = reports / f"speed-{now:%Y%m%d-%H%M%S}.json"
    reports.mkdir(parents=True, exist_ok=True)
    facts = {
        "finished": now.isoformat(timespec="seconds"),
        "load_average": os.getloadavg(),
        "cpus": os.cpu_count(),
        "rows": [row.record() for row in rows],
    }
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return path
