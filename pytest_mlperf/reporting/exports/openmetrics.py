"""``results.prom``: figures of judged runs as OpenMetrics text.

Prometheus's textfile collector and push gateway read it. A figure has its unit as a
label, because LoadGen's units differ by scenario.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path

from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.whole_file import write_whole
from pytest_mlperf.reporting.flat import FlatRow
from pytest_mlperf.reporting.flat import list_rows
from pytest_mlperf.reporting.flat import read_labels

LABELS = ("benchmark", "scenario", "engine", "mode", "round", "system", "labels")
INVALID = re.compile(r"[^A-Za-z0-9_]")
"""What a label's name may not have."""
FAMILIES: tuple[tuple[str, str, Callable[[FlatRow], float | None], str], ...] = (
    ("mlperf_result", "The run's figure.", lambda row: row["value"], "unit"),
    ("mlperf_limit", "The bound of the run.", lambda row: row["limit"], "limit_unit"),
    ("mlperf_latency", "Latency, or time to first token, at the percentile.",
     lambda row: row["latency"], "latency_unit"),
    ("mlperf_tpot", "Time per output token at the percentile.",
     lambda row: row["tpot"], "tpot_unit"),
    ("mlperf_valid", "1 for VALID, 0 for INVALID and ERROR.",
     lambda row: float(row["verdict"] == "VALID"), ""),
    ("mlperf_duration_seconds", "How long LoadGen measured.",
     lambda row: row["actual_s"], ""),
    ("mlperf_rules", "Rules that were looked at.", lambda row: row["rules"], ""),
    ("mlperf_rules_passed", "Rules that passed.", lambda row: row["passed"], ""),
    ("mlperf_others_share", "Share of the CPUs, 0 to 1, that other programs used.",
     lambda row: row["others_share"], ""),
)  # fmt: skip
"""Name, help, value of a row, and the row's name of its unit."""


class OpenMetricsReporter:
    """Writes gauges; the newest run of equal labels counts."""

    name = "openmetrics"

    def write(self, session: SessionResults, folder: Path) -> Path | None:
        """Return the path; None where no run was judged."""
        rows = [row for row in list_rows(session) if row["verdict"]]
        if not rows:
            return None
        path = folder / "results.prom"
        write_whole(path, "\n".join([*format_metrics(rows), ""]))
        return path


def format_metrics(rows: list[FlatRow]) -> Iterator[str]:
    """Yield the lines of the text format, families one after another.

    What differs from session to session is a family of its own: as labels of the
    figures it would begin a new series with each commit.
    """
    session = {name: row[name] or "" for row in rows for name in ("host", "commit")}
    for row in rows:
        labels = read_labels(row).items()
        session |= {f"label_{INVALID.sub('_', key)}": text for key, text in labels}
    yield "# TYPE mlperf_session info"
    yield "# HELP mlperf_session Where and of what the runs are."
    yield f"mlperf_session_info{_join(session)} 1.0"
    for name, text, read, unit in FAMILIES:
        samples: dict[str, float] = {}
        for row in rows:
            value = read(row)
            if value is not None:
                samples[format_labels(row, unit)] = float(value)
        if samples:
            yield f"# TYPE {name} gauge"
            yield f"# HELP {name} {text}"
            yield from (f"{name}{labels} {one!r}" for labels, one in samples.items())
    yield "# EOF"


def format_labels(row: FlatRow, unit: str) -> str:
    """Return ``{benchmark="bert-99",…}``, escaped."""
    found = {name: row[name] or "" for name in LABELS}
    if unit:
        found["unit"] = row[unit]
    if unit in ("latency_unit", "tpot_unit"):
        found["quantile"] = f"{row['percentile'] or 0:g}"
    return _join(found)


def _join(labels: Mapping[str, object]) -> str:
    pairs = (f'{name}="{_escape(str(value))}"' for name, value in labels.items())
    return f"{{{','.join(pairs)}}}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


REPORTER = OpenMetricsReporter()
