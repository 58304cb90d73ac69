"""What LoadGen says of early stopping, from its words back to numbers.

The sentences are those of loadgen/results.cc, PerformanceSummary::EarlyStopping; the
same from LoadGen 2.0 to 6.0. In the detail log they are one line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_mlperf.core import early_stopping
from pytest_mlperf.core.logs.keys import FIRST_TOKEN_LATENCY
from pytest_mlperf.core.logs.keys import LOGGED
from pytest_mlperf.core.logs.keys import TOKEN_LATENCY
from pytest_mlperf.core.logs.keys import format_share
from pytest_mlperf.core.logs.log import Log

FAILED = re.compile(
    r"Run unsuccessful\.\s+\* Processed (\d+) queries\.\s+"
    r"\* Would need to run at least (\d+) more queries"
)
SHORT = re.compile(
    r"Only processed (\d+) queries\.\s+\* Need to process at least (\d+) queries"
)
ENOUGH = re.compile(
    r"(?:Processed at least (\d+) queries \((\d+)\)\.\s+\* )?"
    r"Would discard (\d+) highest latency"
)
ESTIMATE = re.compile(r"Early stopping ([\d.]+)th percentile estimate: (-?\d+)")

KINDS = {"ttft": FIRST_TOKEN_LATENCY, "tpot": TOKEN_LATENCY}
EXTREMES = {
    "ttft": "result_first_token_{}_latency_ns",
    "tpot": "result_time_to_output_token_{}",
}


@dataclass(frozen=True, slots=True)
class EarlyStoppingReport:
    """One of LoadGen's reports, as numbers; None where the words have none."""

    met: bool
    queries: int | None = None
    needed: int | None = None
    """Queries that would have proved the percentile: N(t, p), or N(1, p)."""
    discarded: int | None = None
    estimates: Mapping[float, int] | None = None
    """Percentile, as a share -> estimated latency in nanoseconds."""

    def late(self, percentile: float) -> int | None:
        """Return how many late queries LoadGen counted; None where it does not tell.

        Only a Server run that failed tells: it names N(t, p), which has one t.
        """
        if self.met or self.needed is None or self.discarded is not None:
            return None
        late = early_stopping.count_most_over(self.needed, percentile)
        if late is None:
            return None
        exact = early_stopping.count_queries_needed(late, percentile) == self.needed
        return late if exact else None


def read_report(text: object) -> EarlyStoppingReport | None:
    """Return a report's numbers; None for any other text (Offline: empty)."""
    if not isinstance(text, str):
        return None
    if "Run successful" in text:
        return EarlyStoppingReport(met=True)
    if found := FAILED.search(text):
        queries, more = int(found[1]), int(found[2])
        return EarlyStoppingReport(met=False, queries=queries, needed=queries + more)
    if found := SHORT.search(text):
        return EarlyStoppingReport(
            met=False, queries=int(found[1]), needed=int(found[2])
        )
    if found := ENOUGH.search(text):
        estimates = {float(p) / 100: int(ns) for p, ns in ESTIMATE.findall(text)}
        least, processed = (int(n) if n else None for n in found.group(1, 2))
        return EarlyStoppingReport(True, processed, least, int(found[3]), estimates)
    return None


def count_late_tokens(
    log: Log, queries: int, percentile: float, bounds: Mapping[str, int | None]
) -> int:
    """Return the fewest queries that can have been late by TTFT or by TPOT.

    LoadGen counts neither where the run succeeded (its own count of late queries is
    of whole answers, against 0). The logged percentiles admit no fewer than this;
    where the run failed against the same bound, LoadGen's words give the number.
    ``bounds``: ``ttft`` and ``tpot``, nanoseconds.
    """
    fewest = 0
    for kind, bound in bounds.items():
        if bound is None:
            continue
        points = {share: KINDS[kind].format(format_share(share)) for share in LOGGED}
        points |= {0.0: EXTREMES[kind].format("min"), 1.0: EXTREMES[kind].format("max")}
        there = {share: key for share, key in points.items() if key in log.values}
        known = {share: log.integer(key) for share, key in there.items()}
        fewest = max(fewest, early_stopping.count_late_range(queries, known, bound)[0])
        report = read_report(log.get(f"early_stopping_{kind}_result"))
        same = log.get(f"requested_server_{kind}_latency") == bound
        if report and same and report.queries == queries:
            fewest = max(fewest, report.late(percentile) or 0)
    return fewest
