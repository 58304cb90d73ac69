"""What a power measurement comes to, by the submission checker's formulas.

Source: mlcommons/inference b66003e1, submission_checker/checks/power_check.py: Offline,
Server and Interactive are watts, and the result over them; a stream's figure is the
energy of a query.
"""

from __future__ import annotations

from pathlib import Path

from pytest_mlperf.core.checks.context import read_elapsed_s
from pytest_mlperf.core.checks.context import read_times
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.power.readings import find_mean_watts
from pytest_mlperf.core.power.readings import read_readings
from pytest_mlperf.core.power.result import PowerFigures
from pytest_mlperf.core.types import Scenario

PER_QUERY = {Scenario.SINGLE_STREAM: 1, Scenario.MULTI_STREAM: 8}
"""Streams -> samples in a query."""


def read_window(log: Log) -> tuple[float, float]:
    """Return LoadGen's power_begin and power_end, seconds since 1970."""
    begin, end = read_times(log, "power_begin"), read_times(log, "power_end")
    return min(begin).timestamp(), max(end).timestamp()


def compute_figures(
    logs: Path, readings: Path, scenario: Scenario, result: float, unit: str
) -> PowerFigures | None:
    """Return the figures of a run; None where the meter read nothing meanwhile.

    ``result``: the run's, in ``unit``. Raises ``LogError``.
    """
    log = Log.read(logs)
    watts = find_mean_watts(read_readings(readings), read_window(log))
    if watts is None:
        return None
    seconds = read_elapsed_s(log)
    if scenario in PER_QUERY:
        queries = log.integer("result_query_count")
        return PowerFigures(watts, seconds, query_mj=watts * seconds * 1000 / queries)
    return PowerFigures(watts, seconds, result / watts, unit)
