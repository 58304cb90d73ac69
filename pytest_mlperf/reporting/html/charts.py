"""The report's plots as Vega-Lite specifications: plain JSON values, data inside.

Colors and fonts are set by the page, which knows whether it is light or dark.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

from pytest_mlperf.core.facts import CONTENDED
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting.html.run_files import RunFiles

Spec = dict[str, Any]
R = TypeVar("R", bound=Mapping[str, Any])
MOST_POINTS = 60
"""Of a line over time: of a longer run one sample stands for several, which keeps a
page of 100 runs of ten minutes below 2 MB."""
HEIGHT, LOW_HEIGHT = 160, 120
"""Pixels of a plot; the low ones are of the machine during the run."""
RUN = "run"
"""The phase of a sample that was taken while LoadGen ran."""
DEVICE_SERIES = (
    ("power_w", "power (W)"),
    ("sm_mhz", "SM clock (MHz)"),
    ("temperature_c", "temperature (°C)"),
)


def chart_latencies(files: RunFiles, verdict: Verdict) -> list[Spec]:
    """Return one plot for each kind of latency, over percentiles, with its limit."""
    specs = []
    for name, found in files.latencies.items():
        bound = verdict.tpot_limit if name == "TPOT" else verdict.limit
        if name == "latency" and "TTFT" in files.latencies:
            bound = None  # of whole answers, which no rule bounds there
        rows = [
            {"percentile": f"p{float(share):g}", "ms": value}
            for share, value in found.items()
        ]
        estimate = verdict.metric if name in _list_estimates(verdict) else None
        specs.append(_latency_spec(name, rows, bound, estimate))
    return specs


def _list_estimates(verdict: Verdict) -> tuple[str, ...]:
    """Return the latencies that the result of a run is an estimate of."""
    is_latency = verdict.metric is not None and verdict.metric.unit == "ms"
    several = "latency per query" if verdict.scenario == "MultiStream" else "latency"
    return (several,) if is_latency else ()


def _latency_spec(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    bound: Metric | None,
    estimate: Metric | None,
) -> Spec:
    encoding = {
        "x": {"field": "percentile", "type": "ordinal", "sort": None,
              "axis": {"labelAngle": 0}},
        "y": show_number("ms", f"{name} (ms)", scale={"zero": True}),
    }  # fmt: skip
    layers: list[Spec] = [
        {"mark": {"type": "line", "point": True, "tooltip": True}, "encoding": encoding}
    ]
    title = f"{name} by percentile"
    if bound and bound.unit == "ms":
        layers.append(draw_rule("y", bound.value))
        title += f"; the dashed line is the limit of {bound.value:g} ms"
    if estimate:
        layers.append(draw_rule("y", estimate.value, "#888"))
        title += f"; the gray line is the result, {estimate.value:.4g} ms"
    return make_plot(title, rows, layers)


def chart_trials(files: RunFiles, verdict: Verdict) -> list[Spec]:
    """Return the probe's curve: each trial's load and latency, and the run's own."""
    rows = [
        {
            "qps": trial.qps, "share": trial.latency_share,
            "what": "disturbed" if trial.is_disturbed else trial.kind,
        }
        for trial in files.trials
    ]  # fmt: skip
    if not rows:
        return []
    found, bound = verdict.at_percentile, verdict.limit
    if verdict.metric and found and bound and found.unit == bound.unit and bound.value:
        share = found.value / bound.value
        rows.append({"qps": verdict.metric.value, "share": share, "what": "this run"})
    title = "the probe's trials: latency by load, in shares of its limit"
    x = show_number("qps", "queries/s", scale={"zero": False})
    y = show_number("share", "of the limit", axis={"format": ",.0%"})
    legend = {"orient": "bottom", "title": None}
    kind = {"field": "what", "type": "nominal", "legend": legend}
    mark = {"type": "point", "filled": True, "size": 70, "tooltip": True}
    encoding = {"x": x, "y": y, "color": kind, "shape": kind}
    layers = [{"mark": mark, "encoding": encoding}, draw_rule("y", 1.0)]
    return [make_plot(title, rows, layers)]


def chart_other_load(files: RunFiles) -> list[Spec]:
    """Return what other programs used of the run's CPUs, red above a tenth."""
    rows, since = [], 0.0
    for one in files.cpu_samples:
        if isinstance(one.get("others_share"), int | float):
            rows.append(
                {"from": since, "at": one["at_s"], "share": one["others_share"]}
            )
        since = one["at_s"]
    if not rows:
        return []
    blocks = split_rows(rows)
    busiest = [max(one["share"] for one in block) for block in blocks]
    rows = [
        {"from": block[0]["from"], "at": block[-1]["at"], "share": share}
        for block, share in zip(blocks, busiest, strict=True)
    ]
    title = "other programs' share of the run's CPUs, red above a tenth"
    color = {
        "condition": {"test": f"datum.share > {CONTENDED}", "value": "#c62828"},
        "value": "#5b8def",
    }
    encoding = {
        "x": show_number("from", "seconds of the run"), "x2": {"field": "at"},
        "y": show_number("share", "other load", axis={"format": "%"}),
        "y2": {"datum": 0}, "color": color,
    }  # fmt: skip
    mark = {"type": "rect", "tooltip": True}
    layers = [{"mark": mark, "encoding": encoding}, draw_rule("y", CONTENDED, "#888")]
    return [make_plot(title, rows, layers, LOW_HEIGHT)]


def chart_meter(files: RunFiles) -> list[Spec]:
    """Return the power that a meter read while LoadGen measured, and its average."""
    rows = list(files.meter_watts)
    if not rows:
        return []
    mean = statistics.fmean(row["watts"] for row in rows)
    rows = [block[0] for block in split_rows(rows)]
    encoding = {
        "x": show_number("at_s", "seconds"),
        "y": show_number("watts", "power (W)", scale={"zero": False}),
    }
    title = f"power at the wall; dashed: average of {mean:,.1f} W"
    mark = {"type": "line", "tooltip": True}
    layers = [{"mark": mark, "encoding": encoding}, draw_rule("y", mean)]
    return [make_plot(title, rows, layers, LOW_HEIGHT)]


def chart_device(files: RunFiles) -> list[Spec]:
    """Return power, clock and temperature over the run, throttled seconds marked."""
    times = [one["at_s"] for one in files.device_samples if one.get("phase") == RUN]
    shade = {"from": min(times), "to": max(times)} if times else {}
    devices = dict.fromkeys(one.get("device", 0) for one in files.device_samples)
    specs = []
    for key, title in DEVICE_SERIES:
        rows: list[Mapping[str, Any]] = []
        for device in devices:
            about = {"device": str(device)} if len(devices) > 1 else {}
            points = [
                _make_point(one, key, about)
                for one in files.device_samples
                if one.get("device", 0) == device and one.get(key) is not None
            ]
            blocks = split_rows(points)
            rows += [max(block, key=lambda row: "throttled" in row) for block in blocks]
        if rows:
            specs.append(_device_spec(title, rows, shade))
    return specs


def _make_point(
    sample: Mapping[str, Any], key: str, about: Mapping[str, str]
) -> dict[str, Any]:
    point = {"at": sample["at_s"], "value": sample[key], **about}
    if why := sample.get("held_back"):
        point["throttled"] = ", ".join(why)
    return point


def split_rows(rows: Sequence[R]) -> list[Sequence[R]]:
    """Return the rows in blocks that follow each other, at most ``MOST_POINTS``."""
    step = max(1, -(-len(rows) // MOST_POINTS))
    return [rows[start : start + step] for start in range(0, len(rows), step)]


def _device_spec(
    title: str, rows: Sequence[Mapping[str, Any]], shade: Mapping[str, float]
) -> Spec:
    x = show_number("at", "seconds of the item")
    y = show_number("value", title, scale={"zero": False})
    color = {"field": "device", "type": "nominal", "title": "device"}
    told = title
    if any("throttled" in row for row in rows):
        told += "; points are throttled seconds"
    if shade:
        told += "; shaded: while LoadGen ran"
    return {
        "description": told, "title": told, "width": "container", "height": LOW_HEIGHT,
        "layer": [
            {
                "data": {"values": [shade] if shade else []},
                "mark": {"type": "rect", "color": "#888", "opacity": 0.2},
                "encoding": {"x": {**x, "field": "from"}, "x2": {"field": "to"}},
            },
            {
                "data": {"values": list(rows)}, "encoding": {"x": x, "y": y},
                "layer": [
                    {
                        "mark": {"type": "line", "tooltip": True},
                        "encoding": {"color": color} if "device" in rows[0] else {},
                    },
                    {
                        "mark": {"type": "point", "filled": True, "color": "#e53935",
                                 "opacity": 1, "tooltip": {"content": "data"}},
                        "transform": [{"filter": "datum.throttled"}],
                    },
                ],
            },
        ],
    }  # fmt: skip


def make_plot(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    layers: Sequence[Spec],
    height: int | Mapping[str, int] = HEIGHT,
) -> Spec:
    """Return a plot of rows as wide as its place; its layers share the rows."""
    return {
        "description": title, "title": title, "width": "container", "height": height,
        "data": {"values": list(rows)}, "layer": list(layers),
    }  # fmt: skip


def show_number(field: str, title: str, **more: Any) -> Spec:
    """Return an axis of numbers: a row's field, and what is written beside it."""
    return {"field": field, "type": "quantitative", "title": title, **more}


def draw_rule(axis: str, value: float, color: str = "#c62828") -> Spec:
    """Return a dashed line at a value."""
    return {
        "mark": {"type": "rule", "strokeDash": [6, 4], "color": color},
        "encoding": {axis: {"datum": value, "type": "quantitative"}},
    }
