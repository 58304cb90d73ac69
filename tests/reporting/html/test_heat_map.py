"""A grid's heat maps: which squares there are, and what they are worth."""

from __future__ import annotations

import itertools

import pytest

from pytest_mlperf.reporting.html.heat_map import GridResult
from pytest_mlperf.reporting.html.heat_map import draw_heat_maps
from pytest_mlperf.reporting.html.heat_map import render_page


def results(sign: float = 1.0) -> list[GridResult]:
    """Return eight combinations; of rates, or of latencies with the same best."""
    found = []
    for streams, threads, batch in itertools.product((1, 2), (1, 4), (8, 16)):
        worth = float(streams * threads * batch)
        settings = {"streams": streams, "threads": threads, "batch": batch, "copy": 1}
        score = worth if sign > 0 else -1 / worth
        texts = {name: str(value) for name, value in settings.items()}
        found.append(GridResult(texts, score, f"{worth:g}", 2.0))
    return found


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_square_is_the_best_that_has_its_two_values(sign: float) -> None:
    """Every pair of settings with several values has a map; shares are of the best."""
    spec = draw_heat_maps("cell", results(sign))

    assert spec is not None
    titles = [
        (one["encoding"]["x"]["title"], one["encoding"]["y"]["title"])
        for one in spec["concat"]
    ]
    assert titles == [
        ("streams", "threads"),
        ("streams", "batch"),
        ("threads", "batch"),
    ]
    shares = {
        (row["x"], row["y"]): row["share"]
        for row in spec["concat"][0]["data"]["values"]
    }
    assert shares == pytest.approx(
        {("1", "1"): 1 / 8, ("1", "4"): 1 / 2, ("2", "1"): 1 / 4, ("2", "4"): 1.0}
    )
    best = spec["concat"][0]["data"]["values"][-1]
    settings = "streams=2 threads=4 batch=16 copy=1"
    assert best["settings"] == settings
    assert spec["title"]["subtitle"][-1] == f"100%: 128 in 2 s, {settings}"


def test_one_setting_is_one_row_and_none_is_no_map() -> None:
    one = [
        r for r in results() if r.settings["threads"] == r.settings["streams"] == "1"
    ]

    spec = draw_heat_maps("cell", one)

    assert spec is not None
    (row,) = spec["concat"]
    assert row["encoding"]["x"]["title"] == "batch"
    assert "y" not in row["encoding"]
    assert draw_heat_maps("cell", one[:1]) is None
    assert draw_heat_maps("cell", []) is None


def test_the_page_needs_nothing_else() -> None:
    """Vega-Lite accepts the specification, and the page loads nothing."""
    vl_convert = pytest.importorskip("vl_convert", reason="needs the extra html")
    spec = draw_heat_maps("cell", results())
    assert spec is not None

    svg = vl_convert.vegalite_to_svg(spec)
    page = render_page(spec)

    assert svg.count("100%") >= 3
    assert "each square" in svg
    assert " src=" not in page.partition("<script")[0]
    assert "<script src=" not in page
    assert "streams=2 threads=4 batch=16" in page
