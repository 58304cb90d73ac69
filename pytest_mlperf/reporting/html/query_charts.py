"""Plots over a run's time and its queries, from its record a query."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting.html.charts import Spec
from pytest_mlperf.reporting.html.charts import draw_rule
from pytest_mlperf.reporting.html.charts import make_plot
from pytest_mlperf.reporting.html.charts import show_number
from pytest_mlperf.reporting.query_record import QueryRecord

BINS = 60
"""Steps of a plot over time, at most."""
FEW_BINS = 10
ROWS_A_BIN = 8
"""Rows that a step has on average, at least: of fewer, a rate is noise."""
SHARES = (0, 10, 25, 50, 75, 90, 95, 97, 99, 99.5, 99.7, 99.9, 99.99)
"""Percentiles of a distribution."""
MOST_SIZES = 40
"""Batch sizes with a bar of their own; more are put together."""
FEW_SIZES = 8
NS = 1e-9
STEPS = {
    "due, not issued": ("scheduled_ns", "issued_ns"),
    "in the queue": ("issued_ns", "started_ns"),
    "in its batch": ("started_ns", "completed_ns"),
}
"""What a query's time is spent on -> the columns between which that is."""
SERVICE_STEPS = {
    "due, not issued": ("scheduled_ns", "issued_ns"),
    "until the first token": ("issued_ns", "first_token_ns"),
    "until the last token": ("first_token_ns", "completed_ns"),
}


def chart_queries(record: QueryRecord | None, verdict: Verdict) -> list[Spec]:
    """Return a run's plots over time and queries; none without a record."""
    if record is None or not len(record):
        return []
    specs = [
        *_chart_latency(record, verdict), *_chart_flow(record),
        *_chart_distributions(record, verdict), *_chart_batches(record),
        *_chart_steps(record),
    ]  # fmt: skip
    if record.every > 1:
        for spec in specs:
            spec["title"] += f" (of one in {record.every:,})"
    return specs


def _seconds(record: QueryRecord, name: str) -> Any:
    return record.columns[name] * NS


def _find_bins(record: QueryRecord) -> Any:
    import numpy as np

    end = max(float(_seconds(record, "completed_ns").max()), 1e-6)
    bins = min(BINS, max(FEW_BINS, len(record) // ROWS_A_BIN))
    return np.linspace(0.0, end, bins + 1)


def _has_one_query(record: QueryRecord) -> bool:
    return bool((record.columns["query"] == 0).all())


def _limit_of(verdict: Verdict) -> float | None:
    """Return the bound on a whole answer, ms; None where a round times tokens."""
    limit = verdict.limit
    has_tokens = verdict.tpot_limit is not None
    return limit.value if limit and limit.unit == "ms" and not has_tokens else None


def _chart_latency(record: QueryRecord, verdict: Verdict) -> list[Spec]:
    """Return latency over time; Offline, of one query, has none."""
    import numpy as np

    if _has_one_query(record):
        return []
    ms = (record.columns["completed_ns"] - record.columns["scheduled_ns"]) / 1e6
    edges = _find_bins(record)
    place = np.digitize(_seconds(record, "scheduled_ns"), edges) - 1
    rows = []
    for number in np.unique(place):
        mine = ms[place == number]
        figures = {"p50": np.median(mine), "p99": np.percentile(mine, 99)}
        figures["longest"] = mine.max()
        at = _round(edges[min(number, len(edges) - 2)])
        rows += [{"s": at, "ms": _round(v), "of": k} for k, v in figures.items()]
    title = "latency over time, by when queries were due"
    return [_lines(title, rows, ("ms", "latency (ms)"), _limit_of(verdict))]


def _chart_flow(record: QueryRecord) -> list[Spec]:
    """Return what was completed a second, and what was outstanding."""
    import numpy as np

    columns = record.columns
    edges, weight = _find_bins(record), columns["samples"] * record.every
    done, issued = (_seconds(record, f"{one}_ns") for one in ("completed", "issued"))
    counts, _ = np.histogram(done, edges, weights=weight)
    rates = counts / np.diff(edges)
    left = np.cumsum(np.histogram(issued, edges, weights=weight)[0]) - np.cumsum(counts)
    rows = [
        {"s": _round(edge), "rate": _round(rate)}
        for edge, rate in zip(edges[:-1], rates, strict=True)
    ]
    specs = [_lines("throughput over time", rows, ("rate", "samples/s"))]
    rows = [
        {"s": _round(edge), "n": _round(max(0.0, count))}
        for edge, count in zip(edges[1:], left, strict=True)
    ]
    one = columns["samples"].max() * record.every
    if not _has_one_query(record) and max(row["n"] for row in rows) <= one:
        return specs  # one query at a time
    title = "samples issued and not completed, over time"
    return [*specs, _lines(title, rows, ("n", "outstanding"))]


def _chart_distributions(record: QueryRecord, verdict: Verdict) -> list[Spec]:
    """Return the latencies over percentiles, and of tokens where they were noted."""
    columns = record.columns
    total = (columns["completed_ns"] - columns["scheduled_ns"]) / 1e6
    if _has_one_query(record):
        return [_distribution("completion since the start (ms)", total, None)]
    specs = [_distribution("latency (ms)", total, _limit_of(verdict))]
    timed = columns["first_token_ns"] >= 0
    streamed = timed & (columns["first_token_ns"] < columns["completed_ns"])
    if not streamed.any():
        return specs
    first = columns["first_token_ns"] - columns["scheduled_ns"]
    bound = verdict.limit.value if verdict.limit and verdict.tpot_limit else None
    specs.append(_distribution("TTFT (ms)", first[timed] / 1e6, bound))
    several = streamed & (columns["tokens"] > 1)
    if several.any():
        rest = columns["completed_ns"] - columns["first_token_ns"]
        each = rest[several] / (columns["tokens"][several] - 1) / 1e6
        bound = verdict.tpot_limit.value if verdict.tpot_limit else None
        specs.append(_distribution("TPOT (ms)", each, bound))
    return specs


def _distribution(name: str, values: Any, bound: float | None) -> Spec:
    import numpy as np

    shares = [one for one in SHARES if len(values) * (100 - one) >= 100]
    rows = [
        {"p": f"p{share:g}", "ms": _round(value)}
        for share, value in zip(shares, np.percentile(values, shares), strict=True)
    ]
    rows.append({"p": "longest", "ms": _round(values.max())})
    title = f"{name.removesuffix(' (ms)')} of every query by percentile"
    x = {"field": "p", "type": "ordinal", "sort": None, "title": "percentile",
         "axis": {"labelAngle": -40}}  # fmt: skip
    y = show_number("ms", name)
    return _spec(title, rows, {"type": "line", "point": True}, x, y, bound)


def _chart_batches(record: QueryRecord) -> list[Spec]:
    """Return how often each batch size occurred; nothing where it was always one."""
    import numpy as np

    columns = record.columns
    if columns["batch"].max() < 2:
        return []
    known = columns["batch"] > 0
    batch = columns["batch"][known]
    # Of its samples each is a part of a batch: counting batches that were seen would
    # miss small ones where only some queries are recorded.
    parts = columns["samples"][known] * record.every / batch
    sizes, place = np.unique(batch, return_inverse=True)
    counts = np.bincount(place, weights=parts)
    if len(sizes) > MOST_SIZES:
        step = -(-int(sizes.max()) // MOST_SIZES)
        tops = -(-sizes // step) * step
        sizes, place = np.unique(tops, return_inverse=True)
        counts = np.bincount(place, weights=counts)
    rows = [
        {"size": int(size), "n": round(float(count))}
        for size, count in zip(sizes, counts, strict=True)
    ]
    beside = max(0.2, (FEW_SIZES - len(sizes)) / 2)  # keeps few bars narrow
    x = {"field": "size", "type": "ordinal", "title": "samples of a batch",
         "axis": {"labelAngle": 0, "labelOverlap": True},
         "scale": {"paddingOuter": beside}}  # fmt: skip
    y = show_number("n", "batches")
    return [_spec("batch sizes", rows, {"type": "bar"}, x, y)]


def _chart_steps(record: QueryRecord) -> list[Spec]:
    """Return where a query's time went, on average."""
    columns = record.columns
    steps = STEPS if columns["started_ns"].max() >= 0 else SERVICE_STEPS
    rows = []
    for name, (start, end) in steps.items():
        known = (columns[start] >= 0) & (columns[end] >= 0)
        if known.any():
            mean = float((columns[end][known] - columns[start][known]).mean()) / 1e6
            rows.append({"step": name, "ms": _round(mean)})
    if not any(row["ms"] for row in rows):
        return []
    return [_bars("where a query's time went", rows)]


def chart_breakdown(verdict: Verdict) -> list[Spec]:
    """Return the steps of a request that its server told, where one did."""
    steps = verdict.run.breakdown_us
    rows = [{"step": name, "ms": _round(us / 1e3)} for name, us in steps.items()]
    title = "where a request's time went, by its server's counters"
    return [_bars(title, rows)] if rows else []


def _bars(title: str, rows: Sequence[Mapping[str, Any]]) -> Spec:
    """Return a bar for each step."""
    x = show_number("ms", "mean (ms)")
    y = {"field": "step", "type": "nominal", "sort": None, "title": None}
    return {**_spec(title, rows, {"type": "bar"}, x, y), "height": {"step": 22}}


def _lines(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    y: tuple[str, str],
    bound: float | None = None,
) -> Spec:
    x = show_number("s", "seconds of the run")
    spec = _spec(title, rows, {"type": "line"}, x, show_number(*y), bound)
    if "of" in rows[0]:
        legend = {"orient": "bottom", "title": None}
        series = {"field": "of", "type": "nominal", "sort": None, "legend": legend}
        spec["layer"][0]["encoding"]["color"] = series
    return spec


def _spec(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    mark: Mapping[str, Any],
    x: Mapping[str, Any],
    y: Mapping[str, Any],
    bound: float | None = None,
) -> Spec:
    layers: list[Spec] = [
        {"mark": {**mark, "tooltip": True}, "encoding": {"x": x, "y": y}}
    ]
    if bound is not None:
        title += f"; the dashed line is the limit of {bound:g} ms"
        layers.append(draw_rule("y", bound))
    return make_plot(title, rows, layers)


def _round(value: float) -> float:
    """Return a figure with four digits, which keeps the page small."""
    return float(f"{value:.4g}")
