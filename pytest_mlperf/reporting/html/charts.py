"""The report's plots as Vega-Lite specifications: plain JSON values, data inside.

Colors and fonts are set by the page, which knows whether it is light or dark.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from pytest_mlperf.core.facts import CONTENDED
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting.html.run_files import RunFiles

Spec = dict[str, Any]
OUTCOMES = ["VALID", "INVALID", "ERROR"]
OUTCOME_COLORS = ["#2e7d32", "#c62828", "#8e24aa"]
"""Read on light and on dark; the outcome also stands in words beside each bar."""
DEVICE_SERIES = (
    ("power_w", "power (W)"),
    ("sm_mhz", "SM clock (MHz)"),
    ("temperature_c", "temperature (°C)"),
)


def chart_limits(verdicts: Iterable[tuple[str, Verdict]]) -> Spec | None:
    """Return every bounded run's share of its latency limit; None without any.

    ``verdicts``: the label of a bar and its verdict.
    """
    rows = []
    for label, verdict in verdicts:
        pairs = [("", verdict.at_percentile, verdict.limit)]
        pairs += [(" TPOT", verdict.tpot, verdict.tpot_limit)]
        for suffix, found, bound in pairs:
            if found and bound and found.unit == bound.unit and bound.value:
                share = found.value / bound.value
                rows.append(
                    {
                        "run": label + suffix, "share": share,
                        "outcome": verdict.outcome,
                        "text": f"{found.value:.4g} of {bound.value:.4g} {bound.unit}",
                    }
                )  # fmt: skip
    if not rows:
        return None
    color = {
        "field": "outcome", "type": "nominal", "title": "verdict",
        "scale": {"domain": OUTCOMES, "range": OUTCOME_COLORS},
        "legend": {"orient": "bottom"},
    }  # fmt: skip
    y = {"field": "run", "type": "nominal", "sort": None, "title": None}
    return {
        "description": "Latency at the bounded percentile, in shares of its limit",
        "width": "container", "height": {"step": 22}, "data": {"values": rows},
        "encoding": {"y": y},
        "layer": [
            {
                "mark": {"type": "bar", "tooltip": True},
                "encoding": {
                    "x": {
                        "field": "share", "type": "quantitative",
                        "axis": {"format": "%"}, "title": "of the latency limit",
                    },
                    "color": color,
                },
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 4},
                "encoding": {
                    "x": {"field": "share", "type": "quantitative"},
                    "text": {"field": "text"},
                },
            },
            {**_rule("x", 1.0), "encoding": {"x": {"datum": 1.0}, "y": None}},
        ],
    }  # fmt: skip


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
        specs.append(_latency_spec(name, rows, bound))
    return specs


def _latency_spec(
    name: str, rows: Sequence[Mapping[str, Any]], bound: Metric | None
) -> Spec:
    encoding = {
        "x": {"field": "percentile", "type": "ordinal", "sort": None,
              "axis": {"labelAngle": 0}},
        "y": {"field": "ms", "type": "quantitative", "title": f"{name} (ms)",
              "scale": {"zero": True}},
    }  # fmt: skip
    layers: list[Spec] = [
        {"mark": {"type": "line", "point": True, "tooltip": True}, "encoding": encoding}
    ]
    title = f"{name} by percentile"
    if bound and bound.unit == "ms":
        layers.append(_rule("y", bound.value))
        title += f"; the dashed line is the limit of {bound.value:g} ms"
    return {
        "description": title, "title": title, "width": "container", "height": 180,
        "data": {"values": list(rows)}, "layer": layers,
    }  # fmt: skip


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
    x = {"field": "qps", "type": "quantitative", "title": "queries/s",
         "scale": {"zero": False}}  # fmt: skip
    y = {"field": "share", "type": "quantitative", "title": "of the limit",
         "axis": {"format": "%"}}  # fmt: skip
    legend = {"orient": "bottom", "title": None}
    kind = {"field": "what", "type": "nominal", "legend": legend}
    mark = {"type": "point", "filled": True, "size": 70, "tooltip": True}
    encoding = {"x": x, "y": y, "color": kind, "shape": kind}
    return [
        {
            "description": title, "title": title, "width": "container", "height": 160,
            "data": {"values": rows},
            "layer": [{"mark": mark, "encoding": encoding}, _rule("y", 1.0)],
        }
    ]  # fmt: skip


def chart_other_load(files: RunFiles) -> list[Spec]:
    """Return what other programs used of the run's CPUs, red above a tenth."""
    rows = [
        {"at": one["at_s"], "share": one["others_share"]}
        for one in files.cpu_samples
        if isinstance(one.get("others_share"), int | float)
    ]
    if not rows:
        return []
    title = "other programs' share of the run's CPUs; red above a tenth"
    color = {
        "condition": {"test": f"datum.share > {CONTENDED}", "value": "#c62828"},
        "value": "#5b8def",
    }
    x = {"field": "at", "type": "quantitative", "title": "seconds of the run"}
    y = {
        "field": "share", "type": "quantitative", "title": "other load",
        "axis": {"format": "%"},
    }  # fmt: skip
    return [
        {
            "description": title, "title": title, "width": "container", "height": 120,
            "data": {"values": rows},
            "layer": [
                {
                    "mark": {"type": "bar", "width": {"band": 0.8}, "tooltip": True},
                    "encoding": {"x": x, "y": y, "color": color},
                },
                _rule("y", CONTENDED),
            ],
        }
    ]  # fmt: skip


def chart_meter(files: RunFiles) -> list[Spec]:
    """Return the power that a meter read while LoadGen measured, and its average."""
    rows = list(files.meter_watts)
    if not rows:
        return []
    mean = statistics.fmean(row["watts"] for row in rows)
    title = "power (W)"
    encoding = {
        "x": {"field": "at_s", "type": "quantitative", "title": "seconds"},
        "y": {"field": "watts", "type": "quantitative", "title": title,
              "scale": {"zero": False}},
    }  # fmt: skip
    told = f"power at the wall; dashed: average of {mean:,.1f} W"
    return [
        {
            "description": told, "title": told, "width": "container", "height": 120,
            "data": {"values": rows},
            "layer": [
                {"mark": {"type": "line", "tooltip": True}, "encoding": encoding},
                _rule("y", mean),
            ],
        }
    ]  # fmt: skip


def chart_device(files: RunFiles) -> list[Spec]:
    """Return power, clock and temperature over the run, throttled seconds marked."""
    specs = []
    for key, title in DEVICE_SERIES:
        rows = [
            {
                "at": sample["at_s"], "value": sample[key],
                "device": str(sample.get("device", 0)),
                "throttled": ", ".join(sample.get("held_back") or []),
            }
            for sample in files.device_samples
            if sample.get(key) is not None
        ]  # fmt: skip
        if rows:
            specs.append(_device_spec(title, rows))
    return specs


def _device_spec(title: str, rows: Sequence[Mapping[str, Any]]) -> Spec:
    x = {"field": "at", "type": "quantitative", "title": "seconds"}
    y = {"field": "value", "type": "quantitative", "title": title,
         "scale": {"zero": False}}  # fmt: skip
    several = len({row["device"] for row in rows}) > 1
    legend = {"title": "device"} if several else None
    color = {"field": "device", "type": "nominal", "legend": legend}
    return {
        "description": f"{title} over the run", "width": "container", "height": 120,
        "title": f"{title} over the run; points are throttled seconds",
        "data": {"values": list(rows)}, "encoding": {"x": x, "y": y},
        "layer": [
            {"mark": {"type": "line", "tooltip": True}, "encoding": {"color": color}},
            {
                "mark": {"type": "point", "filled": True, "color": "#c62828",
                         "tooltip": {"content": "data"}},
                "transform": [{"filter": "datum.throttled != ''"}],
            },
        ],
    }  # fmt: skip


def _rule(axis: str, value: float) -> Spec:
    """Return a dashed line at a value."""
    return {
        "mark": {"type": "rule", "strokeDash": [6, 4], "color": "#c62828"},
        "encoding": {axis: {"datum": value, "type": "quantitative"}},
    }
