"""The plots below the table: every run beside its limit or its gate."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting.html.charts import Spec
from pytest_mlperf.reporting.html.charts import draw_rule
from pytest_mlperf.reporting.html.charts import make_plot
from pytest_mlperf.reporting.html.charts import show_number
from pytest_mlperf.reporting.html.numbers import format_number

OUTCOMES = ["VALID", "INVALID", "ERROR"]
OUTCOME_COLORS = ["#2e7d32", "#c62828", "#8e24aa"]
"""Read on light and on dark; the outcome also stands in words in the table."""
MOST_BARS = 60
"""Runs of a plot; of more, those that are furthest beyond or nearest to their limit."""
LONGEST = 2.0
"""Share of its limit at which a bar ends: one overloaded run would hide all others."""
TEXT_PX = 118
"""Room for ``1,696 of 2,000 ms`` on the right, where no bar comes."""
Named = Iterable[tuple[str, Verdict]]
"""``run, machine``, the name on its axis, and a run's verdict."""


def chart_limits(verdicts: Named) -> Spec | None:
    """Return bounded latencies as shares of their limits; None without any."""
    rows = list(_number_names(_list_latencies(verdicts)))
    if not rows:
        return None
    shown = sorted(rows, key=lambda row: -row["share"])[:MOST_BARS]
    title = "Latency at the bounded percentile, in shares of its limit"
    if len(shown) < len(rows):
        title += f": the {len(shown)} highest of {len(rows):,}"
    if shown[0]["share"] > LONGEST:
        title += f"; bars end at {LONGEST:.0%}"
    rows = [
        {**row, "length": min(row["share"], LONGEST)} for row in rows if row in shown
    ]
    return _chart_shares(title, "of the latency limit", rows, zero=True)


def chart_gates(verdicts: Named) -> Spec | None:
    """Return accuracies as shares of what is required; None without any."""
    found = (
        _make_row(name, verdict, verdict.metric, verdict.limit)
        for name, verdict in verdicts
        if verdict.mode == "accuracy"
    )
    rows = list(_number_names(filter(None, found)))
    if not rows:
        return None
    shown = sorted(rows, key=lambda row: row["share"])[:MOST_BARS]
    title = "Accuracy in shares of what is required"
    if len(shown) < len(rows):
        title += f": the {len(shown)} lowest of {len(rows):,}"
    rows = [{**row, "length": row["share"]} for row in rows if row in shown]
    return _chart_shares(title, "of the required accuracy", rows, zero=False)


def _list_latencies(verdicts: Named) -> Iterator[dict[str, Any]]:
    for name, verdict in verdicts:
        if verdict.mode == "accuracy":
            continue
        run, comma, machine = name.partition(", ")
        of_tokens = f"{run} TPOT{comma}{machine}"
        first = _make_row(name, verdict, verdict.at_percentile, verdict.limit)
        each = _make_row(of_tokens, verdict, verdict.tpot, verdict.tpot_limit)
        yield from filter(None, (first, each))


def _make_row(
    name: str, verdict: Verdict, found: Metric | None, bound: Metric | None
) -> dict[str, Any] | None:
    if not found or not bound or found.unit != bound.unit or not bound.value:
        return None
    value, limit = format_number(found.value), format_number(bound.value)
    return {
        "run": name, "share": found.value / bound.value, "outcome": verdict.outcome,
        "text": f"{value} of {limit} {bound.unit}".rstrip(),
    }  # fmt: skip


def _number_names(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows under names of their own: bars of one name would be added up."""
    seen: dict[str, int] = {}
    for row in rows:
        count = seen[row["run"]] = seen.get(row["run"], 0) + 1
        yield {**row, "run": f"{row['run']} #{count}"} if count > 1 else row


def _chart_shares(
    title: str, axis: str, rows: Sequence[Mapping[str, Any]], *, zero: bool
) -> Spec:
    """Return bars, or points where 0 is far away, with their figures in words."""
    most = max(1.0, *(row["length"] for row in rows))
    least = 0.0 if zero else min(1.0, *(row["share"] for row in rows))
    span = f"{most - least} / max(0.2, 1 - {TEXT_PX} / width)"
    scale = {
        "domainMin": least if zero else least - (most - least or 0.01) / 20,
        "domainMax": {"expr": f"{least} + {span if most > least else 0.05}"},
        "nice": False, "zero": zero,
    }  # fmt: skip
    marks = {"format": "~%", "tickCount": 6, "labelOverlap": True}
    x = show_number("length", axis, scale=scale, axis=marks)
    limit = {
        **draw_rule("x", 1.0, "#999"), "encoding": {"x": {"datum": 1.0}, "y": None},
    }  # fmt: skip
    present = [one for one in OUTCOMES if any(row["outcome"] == one for row in rows)]
    colors = [OUTCOME_COLORS[OUTCOMES.index(one)] for one in present]
    color = {
        "field": "outcome", "type": "nominal", "title": None,
        "scale": {"domain": present, "range": colors}, "legend": {"orient": "top"},
    }  # fmt: skip
    mark = (
        {"type": "bar"}
        if zero
        else {"type": "point", "filled": True, "size": 60, "opacity": 1}
    )
    text = {"type": "text", "align": "right", "dx": -4}
    told = {"x": {"value": "width"}, "text": {"field": "text"}}
    layers = [
        {"mark": {**mark, "tooltip": True}, "encoding": {"x": x, "color": color}},
        {"mark": text, "encoding": told},
        limit,
    ]
    y = {"field": "run", "type": "nominal", "sort": None, "title": None}
    return {**make_plot(title, rows, layers, {"step": 22}), "encoding": {"y": y}}
