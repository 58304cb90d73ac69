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
PERCENTILES, ESTIMATES = "percentiles", "early_stopping_percentiles"
GRID = (99.9, 99.0, 97.0, 95.0, 90.0, 80.0, 75.0, 50.0, 25.0, 10.0, 5.0, 1.0)
"""The client's percentiles (metrics_aggregator/registry.py)."""
DECADE = 10
"""The client spreads its buckets over a factor of ten at least."""
DIGITS = 2e-3
"""Relative: its histogram keeps three digits of a value."""
LEAST_ESTIMATED = 50.0
"""ES_MIN_PERCENTILE."""
SERIES = (
    "latency",
    "ttft",
    "tpot",
    "output_sequence_lengths",
    "input_sequence_lengths",
)
BEFORE_THE_END = ("ttft", "input_sequence_lengths")
"""Series that have a value of an answer which began and did not end."""


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
    """Return percentile -> value, rising; those that are null are left out.

    ``LogError`` for another grid than the client's.
    """
    wanted = [
        share for share in GRID if kind == PERCENTILES or share >= LEAST_ESTIMATED
    ]
    found = summary.find(name, kind)
    if not isinstance(found, dict):
        raise summary.wrong("percentiles and their values", name, kind)
    if sorted(found, key=str) != sorted(map(str, wanted), key=str):
        raise summary.wrong(f"values at {', '.join(map(str, wanted))}", name, kind)
    known = [share for share in sorted(wanted) if found[str(share)] is not None]
    return {share: summary.number(name, kind, str(share)) for share in known}


def find_distortions(summary: Document, name: str) -> Iterator[Mismatch]:
    """Yield what no list of values can have."""
    count, key = count_values(summary, name), "n_samples_completed"
    if name in BEFORE_THE_END:
        key = "n_samples_issued"
    most = summary.integer(key)
    where = summary.where(name, "histogram", "counts")
    if not 0 < count <= most or (name == "latency" and count != most):
        yield Mismatch(f"{count:,} values of {name}", f"{most:,}, from {key}", where)
        return
    low, high = summary.number(name, "min"), summary.number(name, "max")
    if low < 0:
        yield Mismatch(f"{low:,.10g}", "0 or more", summary.where(name, "min"))
    total = summary.number(name, "total") / count
    yield from compare(summary, (name, "avg"), total, total, "total by the count")
    yield from compare(summary, (name, "avg"), low, high, "between min and max")
    points = read_percentiles(summary, name, PERCENTILES)
    if len(points) != len(GRID):
        yield Mismatch("null", "a value each", summary.where(name, PERCENTILES))
        return
    rising = [low, *points.values(), high]
    if any(a > b for a, b in pairwise(rising)):
        where = summary.where(name, PERCENTILES)
        yield Mismatch("percentiles that fall", "min to max, rising", where)
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
    first, last = edges[0][0], edges[-1][1]
    ends = (high, max(high, DECADE * low))
    fits = abs(first - low) <= EQUAL * low and any(
        abs(last - end) <= EQUAL * end for end in ends
    )
    inside = filled[-1][0] * (1 - DIGITS) <= high <= filled[-1][1] * (1 + DIGITS)
    if not (fits and inside and counts[0]):
        found = f"values from {first:,.10g} to {filled[-1][1]:,.10g}"
        yield Mismatch(found, f"{low:,.10g} to {high:,.10g}", where)


def find_wrong_estimates(
    summary: Document, name: str, count: int, points: dict[float, float], high: float
) -> Iterator[Mismatch]:
    """Yield early-stopping estimates that the sorted values rule out.

    The estimate is the t-th highest value, where t - 1 may be left out; of too few
    values there is none.
    """
    if summary.find(name, ESTIMATES) is None:
        return
    estimates = read_percentiles(summary, name, ESTIMATES)
    for share, least in points.items():
        if share < LEAST_ESTIMATED:
            continue
        value, where = estimates.get(share), summary.where(name, ESTIMATES, str(share))
        needed = early_stopping.count_queries_needed(1, share / 100)
        if (value is None) != (count < needed):
            found = "null" if value is None else f"{value:,.10g}"
            required = "a value" if value is None else "null"
            required += f": it takes {needed:,} values, and there are {count:,}"
            yield Mismatch(found, required, where)
        elif value is not None and not (
            least * (1 - EQUAL) <= value <= high * (1 + EQUAL)
        ):
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
        low = high - summary.number("latency", "max")
        why_long = "the duration, which ends at most one answer later"
        yield from compare(summary, key, low, high, why_long)
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
