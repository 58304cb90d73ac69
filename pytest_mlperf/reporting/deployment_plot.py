"""A deployment's results as a plot: where a request's time goes, by batch size."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from pytest_mlperf.core.latency_breakdown import COLUMNS
from pytest_mlperf.reporting.deployment_table import LoadFigures


def draw_svg(title: str, rows: Sequence[LoadFigures]) -> str | None:
    """Return the plot of a results table; None where vl-convert is not installed."""
    if not importlib.util.find_spec("vl_convert"):
        return None
    import vl_convert

    steps = [
        (one.batch, one.per_s, {k: v * 1e3 for k, v in one.steps_ms.items()})
        for one in rows
    ]
    svg: str = vl_convert.vegalite_to_svg(make_plot(title, steps))
    return svg


def make_plot(
    title: str, rows: Sequence[tuple[int, float, Mapping[str, float]]]
) -> dict[str, Any]:
    """Return a Vega-Lite plot: the steps of each batch on top of each other in
    microseconds, its rate above.

    Takes (batch, inferences a second, step -> microseconds).
    """
    values = [
        {"batch": f"{batch:,}", "step": step, "order": place, "us": steps[step],
         "rate": f"{rate:.3g}/s"}
        for batch, rate, steps in rows for place, step in enumerate(COLUMNS)
    ]  # fmt: skip
    batch = {"field": "batch", "type": "nominal", "sort": None, "title": "batch",
             "axis": {"labelAngle": 0}}  # fmt: skip
    total = {"field": "us", "type": "quantitative", "aggregate": "sum",
             "title": "microseconds"}  # fmt: skip
    color = {"field": "step", "type": "nominal", "sort": list(COLUMNS), "title": None}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": title, "width": 460, "height": 260, "background": "white",
        "data": {"values": values},
        "encoding": {"x": batch, "y": total},
        "layer": [
            {"mark": "bar", "encoding": {"color": color, "order": {"field": "order"}}},
            {"mark": {"type": "text", "dy": -6},
             "encoding": {"text": {"field": "rate"}}},
        ],
    }  # fmt: skip
