"""Do the figures of a summary tell one story? No official checker looks.

The relations are the client's own arithmetic: metrics/report.py and
metrics/early_stopping.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from pytest_mlperf.core import early_stopping
from pytest_mlperf.core.endpoints.documents import Document

EQUAL = 1e-6
"""Relative: the client writes its floats in full."""
SERIES = ("latency", "ttft", "tpot", "output_sequence_lengths")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Two places of a summary that cannot both be right."""

    found: str
    required: str
    where: str


def compare(
    summary: Document, keys: tuple[str, ...], low: float, high: float, why: str
) -> Iterator[Mismatch]:
    """Yield a value that is outside a range, by more than rounding explains."""
    value = summary.number(*keys)
    room = EQUAL * max(abs(low), abs(high))
    if not low - room <= value <= high + room:
        required = f"{low:,.10g}" if low == high else f"{low:,.10g} to {high:,.10g}"
        yield Mismatch(
            f"{'.'.join(keys)} {value:,.10g}",
            f"{required}, {why}",
            summary.where(*keys),
        )


def find_mismatches(summary: Document) -> Iterator[Mismatch]:
    """Yield every contradiction of a performance summary."""
    for name in SERIES:
        if summary.find(name):
            yield from find_distortions(summary, name)
    yield from find_wrong_rates(summary)
    yield from find_wrong_times(summary)


def count_values(summary: Document, name: str) -> int:
    """Return how many values a series has: the sum of its histogram."""
    counts = summary.find(name, "histogram", "counts")
    if not isinstance(counts, list) or not all(
        type(count) is int and count >= 0 for count in counts
    ):
        raise summary.wrong("a list of counts", name, "histogram", "counts")
    return sum(counts)


def read_percentiles(summary: Document, name: str, kind: str) -> dict[float, float]:
    """Return percentile -> value, rising; those that are null are left out."""
    found = summary.find(name, kind)
    if not isinstance(found, dict) or not found:
        raise summary.wrong("percentiles and their values", name, kind)
    try:
        shares = sorted(found, key=float)
    except ValueError:
        raise summary.wrong("percentiles and their values", name, kind) from None
    known = [key for key in shares if found[key] is not None]
    return {float(key): summary.number(name, kind, key) for key in known}


def find_distortions(summary: Document, name: str) -> Iterator[Mismatch]:
    """Yield what no list of values can have."""
    count, completed = (
        count_values(summary, name),
        summary.integer("n_samples_completed"),
    )
    where = summary.where(name, "histogram", "counts")
    if not 0 < count <= completed or (name == "latency" and count != completed):
        required = f"{completed:,}, from n_samples_completed"
        yield Mismatch(f"{count:,} values of {name}", required, where)
        return
    low, high = summary.number(name, "min"), summary.number(name, "max")
    if low < 0:
        yield Mismatch(f"{low:,.10g}", "0 or more", summary.where(name, "min"))
    total = summary.number(name, "total") / count
    yield from compare(summary, (name, "avg"), total, total, "total by the count")
    yield from compare(summary, (name, "avg"), low, high, "between min and max")
    points = read_percentiles(summary, name, "percentiles")
    rising = [low, *points.values(), high]
    if any(a > b for a, b in pairwise(rising)):
        where = summary.where(name, "percentiles")
        yield Mismatch("percentiles that fall", "min to max, rising", where)
    if 50.0 in points:
        middle = points[50.0]
        yield from compare(summary, (name, "median"), middle, middle, "the 50th")
    yield from find_wrong_bins(summary, name, low, high)
    yield from find_wrong_estimates(summary, name, count, points, high)


def find_wrong_bins(
    summary: Document, name: str, low: float, high: float
) -> Iterator[Mismatch]:
    """Yield a histogram that does not reach from the least to the most."""
    edges = summary.find(name, "histogram", "buckets")
    counts = summary.find(name, "histogram", "counts")
    where = summary.where(name, "histogram", "buckets")
    if not isinstance(edges, list) or len(edges) != len(counts):
        yield Mismatch("no bucket for each count", f"{len(counts)} buckets", where)
        return
    filled = [edge for edge, count in zip(edges, counts, strict=True) if count]
    ends = (filled[0][0], filled[-1][1])
    # Buckets are rounded outwards: to three digits by the client's histogram.
    if not (ends[0] <= low * 1.01 + 1 and ends[1] >= high * 0.99 - 1):
        found = f"values from {ends[0]:,.6g} to {ends[1]:,.6g}"
        yield Mismatch(found, f"{low:,.6g} to {high:,.6g}", where)


def find_wrong_estimates(
    summary: Document, name: str, count: int, points: dict[float, float], high: float
) -> Iterator[Mismatch]:
    """Yield early-stopping estimates that the sorted values rule out.

    The estimate is the t-th highest value, where t - 1 may be left out; of too few
    values there is none.
    """
    kind = "early_stopping_percentiles"
    if summary.find(name, kind) is None:
        return
    estimates = read_percentiles(summary, name, kind)
    for percent, value in estimates.items():
        where = summary.where(name, kind, f"{percent:g}")
        most = early_stopping.count_most_over(count, percent / 100)
        if not most:
            needed = early_stopping.count_queries_needed(1, percent / 100)
            required = f"null: it takes {needed:,} values, and there are {count:,}"
            yield Mismatch(f"{value:,.10g}", required, where)
        least = points.get(percent, 0.0)
        if not least * (1 - EQUAL) <= value <= high * (1 + EQUAL):
            required = f"{least:,.10g} to {high:,.10g}, the percentile and the most"
            yield Mismatch(f"{value:,.10g}", required, where)


def find_wrong_rates(summary: Document) -> Iterator[Mismatch]:
    """Yield rates that are not counts by time."""
    completed = summary.integer("n_samples_completed")
    seconds, why = summary.number("duration_ns") / 1e9, "completed by the duration"
    window = summary.find("legacy_loadgen_window_duration_ns")
    if window is not None:
        # As LoadGen counts a server's: up to the last issued query's answer.
        seconds = summary.number("legacy_loadgen_window_duration_ns") / 1e9
        completed, why = completed - 1, "completed - 1 by the window"
        key = ("legacy_loadgen_window_duration_ns",)
        high = summary.number("duration_ns")
        yield from compare(summary, key, 0.0, high, "the duration at most")
    if seconds <= 0:
        yield Mismatch("0 s", "some time", summary.where("duration_ns"))
        return
    rate = completed / seconds
    yield from compare(summary, ("qps",), rate, rate, why)
    if summary.find("tps") is not None:
        rate = summary.number("output_sequence_lengths", "total") / seconds
        yield from compare(summary, ("tps",), rate, rate, "tokens by the same time")


def find_wrong_times(summary: Document) -> Iterator[Mismatch]:
    """Yield latencies that do not fit into the run, or into one another."""
    duration, longest = summary.number("duration_ns"), summary.number("latency", "max")
    # The duration ends with the last answer of the run.
    yield from compare(summary, ("latency", "max"), 0.0, duration, "the whole run")
    if summary.find("ttft"):
        yield from compare(
            summary, ("ttft", "max"), 0.0, longest, "the slowest answer's"
        )
        mean = summary.number("latency", "avg")
        if count_values(summary, "ttft") == count_values(summary, "latency"):
            why = "the whole answers' mean"
            yield from compare(summary, ("ttft", "avg"), 0.0, mean, why)
