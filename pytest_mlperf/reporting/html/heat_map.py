"""A grid's results as heat maps, two of its settings at a time, in one HTML file."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_mlperf.reporting.html.charts import Spec

SIZE = 54
"""Pixels of a square's side."""
SUBTITLE = "each square: the best of all combinations with these two values"


@dataclass(frozen=True, slots=True)
class GridResult:
    """One combination's longest run."""

    settings: Mapping[str, str]
    score: float
    """More is better; all positive (a rate) or all negative (a latency)."""
    figure: str
    seconds: float


def draw_heat_maps(title: str, results: Sequence[GridResult]) -> Spec | None:
    """Return a Vega-Lite specification; None where no setting has two values.

    A square is the best combination that has its two values, whatever the others are.
    """
    names = list(results[0].settings) if results else []
    axes = {
        name: list(dict.fromkeys(one.settings[name] for one in results))
        for name in names
    }
    many = [name for name, values in axes.items() if len(values) > 1]
    if not many:
        return None
    pairs = list(itertools.combinations(many, 2)) or [(many[0], "")]
    maps = [_draw_map(x, y, axes, results) for x, y in pairs]
    best = max(results, key=lambda one: one.score)
    whole = f"100%: {best.figure} in {best.seconds:g} s, {_format_settings(best)}"
    lines = [SUBTITLE, whole]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": {"text": title, "subtitle": lines, "anchor": "start", "offset": 12},
        "config": {"font": "system-ui, sans-serif"},
        "columns": 2, "spacing": 40, "concat": maps,
        "resolve": {"scale": {"color": "shared"}},
    }  # fmt: skip


def _draw_map(
    x: str, y: str, axes: Mapping[str, list[str]], results: Sequence[GridResult]
) -> Spec:
    best = max(one.score for one in results)
    squares: dict[tuple[str, str], GridResult] = {}
    for one in results:
        place = one.settings[x], one.settings.get(y, "")
        if place not in squares or one.score > squares[place].score:
            squares[place] = one
    rows = [
        {
            "x": place[0], "y": place[1], "share": find_share(one.score, best),
            "figure": one.figure, "run": f"{one.seconds:g} s",
            "settings": _format_settings(one),
        }
        for place, one in squares.items()
    ]  # fmt: skip
    tooltip = [{"field": name} for name in ("settings", "figure", "run")]
    ordinal = {"type": "ordinal"}
    encoding: Spec = {
        "x": {**ordinal, "field": "x", "title": x, "sort": axes[x],
              "axis": {"labelAngle": 0}},
        "tooltip": tooltip,
    }  # fmt: skip
    if y:
        encoding["y"] = {**ordinal, "field": "y", "title": y, "sort": axes[y]}
    color = {
        "field": "share", "type": "quantitative", "title": "of the best",
        "scale": {"scheme": "blues"}, "legend": {"format": ".0%"},
    }  # fmt: skip
    dark = {"test": "datum.share > 0.75", "value": "white"}
    text = {"field": "share", "format": ".0%", "type": "quantitative"}
    return {
        "width": {"step": SIZE}, "height": {"step": SIZE}, "data": {"values": rows},
        "encoding": encoding,
        "layer": [
            {"mark": "rect", "encoding": {"color": color}},
            {"mark": "text",
             "encoding": {"text": text,
                          "color": {"condition": dark, "value": "black"}}},
        ],
    }  # fmt: skip


def _format_settings(one: GridResult) -> str:
    return " ".join(f"{name}={text}" for name, text in one.settings.items())


def find_share(score: float, best: float) -> float:
    """Return how good a score is, as a share of the best one."""
    if score == best:
        return 1.0
    return score / best if best > 0 else best / score


def render_page(spec: Spec) -> str:
    """Return a page that needs nothing else: the library is inside."""
    import vl_convert

    page: str = vl_convert.vegalite_to_html(spec, bundle=True)
    return page
