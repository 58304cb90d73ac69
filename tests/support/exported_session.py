"""A session of three items, as every export gets it: VALID, INVALID and skipped."""

from __future__ import annotations

from dataclasses import replace

from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

HEADER = {
    "started": "2026-11-28T14:00:00+00:00", "args": ["suites"], "options": {},
    "items": 3, "rounds": ["v6.1"], "versions": {"numpy": "2.4"}, "host": "box",
    "commit": "0123abc", "system": {"name": "A | box", "summary": "A box, 2 cores"},
}  # fmt: skip
RUN = RunFacts(
    device="A CPU", precision="int8", others_share=0.25, sessions_beside=("b",)
)
FINE = Verdict(
    benchmark="bert-99", scenario="Server", engine="torch", mode="performance",
    round="v6.1", metric=Metric("rate", 12.5, "queries/s"),
    checks=(Check("seeds", Status.PASS, "v6.1's", "v6.1's", "detail:1"),),
    labels=("embedded", "null answers"), limit=Metric("limit", 15.0, "ms"),
    percentile=0.99, at_percentile=Metric("p99", 7.25, "ms"), actual_s=600.5, run=RUN,
)  # fmt: skip
LATE = Check("latency_bound", Status.FAIL, "50.1 ms", "at most 15 ms", "detail:2", "x")
LOADGEN = Check("loadgen_validity", Status.FAIL, "INVALID", "VALID", "detail:3",
                "see the checks that failed with it")  # fmt: skip
FEW = Check("early_stopping", Status.FAIL, "5 queries", "at least 64", "detail:4", "y")
SLOW = replace(
    FINE, checks=(LOADGEN, FEW, LATE), at_percentile=Metric("p99", 50.1, "ms")
)
CELL = {"benchmark": "bert", "target": "99", "scenario": "server", "engine": "torch",
        "round": "v6.1", "mode": "performance"}  # fmt: skip


def make_session(*records: Record) -> SessionResults:
    return SessionResults(HEADER, records, {"exitstatus": 1, "interrupted": False})


SESSION = make_session(
    Record("t.py::fine", "passed", CELL, FINE, "", 601.0),
    Record("t.py::slow", "failed", CELL, SLOW, SLOW.explain(), 602.0),
    Record("t.py::skip", "skipped", CELL, None, "no dataset\nsecond line", 0.0),
)
