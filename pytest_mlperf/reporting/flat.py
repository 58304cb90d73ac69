"""A session as a table: one flat row a run, the same columns in every export."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from pytest_mlperf.core.repeats import find_values
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status

COLUMNS: dict[str, type] = {
    "started": str, "system": str, "nodeid": str, "outcome": str, "verdict": str,
    "benchmark": str, "scenario": str, "engine": str, "mode": str, "round": str,
    "labels": str, "metric": str, "value": float, "unit": str, "limit": float,
    "limit_unit": str, "percentile": float, "latency": float, "latency_unit": str,
    "tpot": float, "tpot_unit": str, "tpot_limit": float, "rules": int, "passed": int,
    "waived": str, "failed": str, "cause": str, "expected_s": float, "actual_s": float,
    "item_s": float, "device": str, "accelerators": int, "devices": int,
    "precision": str, "bare_loop_per_s": float, "others_share": float,
    "is_disturbed": bool, "beside": str, "build": str, "folder": str, "watts": float,
    "per_watt": float, "query_mj": float, "chip_watts": float, "host": str,
    "commit": str, "user_labels": str, "runs": int, "value_min": float,
    "value_median": float, "value_max": float, "scores": str, "score_limits": str,
}  # fmt: skip
"""Name -> type; a value that a run does not have is None. Units are LoadGen's own:
a latency is in ``latency_unit``. ``watts`` is a power meter's; ``chip_watts`` the
sum of what chips tell, which is unofficial. ``user_labels`` are ``--mlperf-label``'s;
``labels`` say what keeps a run from being a submission result. ``scores`` and
``score_limits`` are of every accuracy metric: ``ROUGE1=38.8 ROUGE2=16.1``."""
SPREAD = ("value_min", "value_median", "value_max")
"""Columns of the figures of a repeated item's runs; of others all are its value."""
FlatRow = dict[str, Any]
"""Column -> value."""


def list_rows(session: SessionResults) -> Iterator[FlatRow]:
    """Yield a row for each item, in the order in which they ended.

    An item that was not judged (skipped, interrupted) has an empty ``verdict``.
    """
    header = session.header
    system = header.get("system") or {}
    user_labels = (header.get("options") or {}).get("label") or ()
    for record in session.records:
        row = dict.fromkeys(COLUMNS)
        row |= {
            "started": header.get("started"), "system": system.get("name"),
            "host": header.get("host"), "commit": header.get("commit"),
            "user_labels": format_labels(user_labels),
            **_describe_item(record), **_describe_verdict(record),
        }  # fmt: skip
        yield row


def format_labels(pairs: Iterable[Sequence[str]]) -> str:
    """Return the user's own words as they were typed: ``branch=main,cooling=water``."""
    return ",".join(f"{name}={value}" for name, value in pairs)


def read_labels(row: FlatRow) -> dict[str, str]:
    """Return the user's own words of a row, by their names."""
    pairs = (pair.partition("=") for pair in row["user_labels"].split(",") if pair)
    return {name: value for name, _, value in pairs}


def _describe_item(record: Record) -> FlatRow:
    cell = record.cell
    target = cell.get("target")
    name = cell.get("benchmark", "")
    return {
        "nodeid": record.nodeid, "outcome": record.outcome,
        "benchmark": f"{name}-{target}" if target else name,
        "scenario": cell.get("scenario"), "engine": cell.get("engine"),
        "mode": cell.get("audit", cell.get("mode")), "round": cell.get("round"),
        "item_s": record.seconds, "cause": record.reason.partition("\n")[0],
    }  # fmt: skip


def _describe_verdict(record: Record) -> FlatRow:
    verdict = record.verdict_to_show()
    if verdict is None:
        return {}
    run, runs = verdict.run, verdict.repeats or (verdict,)
    spread = zip(SPREAD, find_values(runs) or (None, None, None), strict=True)
    names = {
        status: " ".join(c.name for c in verdict.checks if c.status is status)
        for status in Status
    }
    return {
        "verdict": verdict.outcome, "benchmark": verdict.benchmark,
        "scenario": verdict.scenario, "engine": verdict.engine, "mode": verdict.mode,
        "round": verdict.round, "labels": " ".join(map(_join, verdict.labels)),
        "metric": verdict.metric.key if verdict.metric else None,
        "scores": " ".join(f"{s.metric}={s.value:g}" for s in verdict.scores),
        "score_limits": " ".join(
            f"{s.metric}={s.threshold:g}" for s in verdict.scores
        ),
        **_split("value", "unit", verdict.metric),
        **_split("limit", "limit_unit", verdict.limit),
        "percentile": verdict.percentile,
        **_split("latency", "latency_unit", verdict.at_percentile),
        **_split("tpot", "tpot_unit", verdict.tpot),
        "tpot_limit": verdict.tpot_limit.value if verdict.tpot_limit else None,
        "rules": len(verdict.checks),
        "passed": sum(c.status is Status.PASS for c in verdict.checks),
        "waived": names[Status.WAIVED],
        "failed": " ".join(filter(None, [names[Status.ERROR], names[Status.FAIL]])),
        "cause": verdict.cause, "expected_s": verdict.expected_s,
        "actual_s": verdict.actual_s, "device": run.device,
        "accelerators": run.accelerators, "devices": run.devices,
        "precision": run.precision, "bare_loop_per_s": run.bare_loop_per_s,
        "others_share": run.others_share, "is_disturbed": run.is_disturbed,
        "beside": run.disturbance, "runs": len(verdict.repeats) or 1, **dict(spread),
        "build": verdict.build, "folder": verdict.folder,
        **{name: run.power.get(name) for name in ("watts", "per_watt", "query_mj")},
        "chip_watts": sum(run.chip_watts.values()) if run.chip_watts else None,
    }  # fmt: skip


def _join(label: str) -> str:
    return label.replace(" ", "_")


def _split(value: str, unit: str, metric: Metric | None) -> FlatRow:
    return {value: metric.value, unit: metric.unit} if metric else {}
