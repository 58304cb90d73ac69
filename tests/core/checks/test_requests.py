"""The checks of a run that a service answered, each passing and failing."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from tests.support import logs
from tests.support.judging import named
from tests.support.judging import verdict


def judge_facts(folder: Path, facts: RunFacts) -> Verdict:
    """Judge a run that is valid but for what its client tells."""
    context = Context(run=facts)
    return verdict(logs.performance(folder, "Server"), "Server", context=context)


@pytest.mark.parametrize(
    ("requests", "resent", "status"),
    [
        (60_500, 0, Status.PASS),
        (60_500, 60, Status.PASS),
        (60_500, 61, Status.FAIL),
        (2_180, 635, Status.FAIL),
        (100, 1, Status.PASS),
        (100, 2, Status.FAIL),
    ],
)
def test_one_request_in_a_thousand_may_go_out_again(
    tmp_path: Path, requests: int, resent: int, status: Status
) -> None:
    """More of them is a server that drops what it was asked."""
    found = judge_facts(tmp_path, RunFacts(requests=requests, resent=resent))
    check = named(found, "requests_resent")

    assert check.status is status
    assert f"{resent:,} of {requests:,} requests sent again" in check.found
    assert found.valid is (status is Status.PASS)
    assert bool(check.remedy) is (status is Status.FAIL)
    assert (check.found in found.explain()) is bool(resent)


def test_an_engines_run_has_no_requests(tmp_path: Path) -> None:
    """Nothing is passed that was not looked at."""
    found = judge_facts(tmp_path, RunFacts())

    assert not {"requests_resent", "request_fields"} & {c.name for c in found.checks}


def test_a_field_that_the_server_refuses_is_waived(tmp_path: Path) -> None:
    """The answers are not those that the rules ask for: no submission result."""
    facts = RunFacts(requests=10, refused_fields=("ignore_eos", "min_tokens"))
    found = judge_facts(tmp_path, facts)
    check = named(found, "request_fields")

    assert check.status is Status.WAIVED
    assert check in found.waived
    assert check.found == "requests without ignore_eos, min_tokens"
    assert found.facts["refused by the server"] == "ignore_eos, min_tokens"
    assert Verdict.from_json(found.to_json()) == found
