"""Checks of a run that a service answered: what was asked, and how often.

The figures are the client's own: LoadGen's log does not know of requests.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.outcome import Outcome
from pytest_mlperf.core.checks.rule_check import EVERY_MODE
from pytest_mlperf.core.checks.rule_check import NamedJudges
from pytest_mlperf.core.checks.rule_check import RuleCheck
from pytest_mlperf.core.checks.rule_check import check_each
from pytest_mlperf.core.verdict import VERDICT_FILE
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status

MOST_RESENT = 1000
"""One request in so many may go out again; a run of fewer may repeat one."""


@check_each("requests_resent", modes=EVERY_MODE)
def requests_resent(run: JudgedRun) -> NamedJudges:
    """Yield the check of a run whose client counted its requests."""
    if run.context.run.requests:
        yield "requests_resent", check_resent


def check_resent(run: JudgedRun) -> Outcome:
    """Hardly any request crossed a connection's close, and went out again."""
    facts = run.context.run
    most = max(1, facts.requests // MOST_RESENT)
    found = f"{facts.resent:,} of {facts.requests:,} requests sent again"
    required = f"at most {most:,}"
    remedy = (
        "the server or its proxy closes connections that are in use: raise its "
        "keep-alive time-out above the pauses between requests"
    )
    return Outcome(facts.resent <= most, found, required, VERDICT_FILE, remedy)


def judge_fields(run: JudgedRun) -> Iterator[Check]:
    """Yield the waived check of a run whose server refused what the rules ask for."""
    if refused := run.context.run.refused_fields:
        yield Check(
            "request_fields",
            Status.WAIVED,
            f"requests without {', '.join(refused)}",
            "the fields that the rules put into every request",
            VERDICT_FILE,
            "the server refuses them (HTTP 400 or 422), and answers may differ in "
            "length; use a server that takes them",
        )


request_fields = RuleCheck("request_fields", judge_fields)
