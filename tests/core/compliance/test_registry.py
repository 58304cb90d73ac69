"""Compliance tests of somebody else's: registered, named by a rule, verified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mlperf.core import compliance
from pytest_mlperf.core.checks.outcome import make_check
from pytest_mlperf.core.compliance import Audit
from pytest_mlperf.core.compliance import AuditedRun
from pytest_mlperf.core.compliance import AuditFinding
from pytest_mlperf.core.compliance import AuditTest
from pytest_mlperf.core.compliance import registry
from pytest_mlperf.core.compliance.audit import make_audit
from pytest_mlperf.core.logs.discover import find_test_name
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.verdict import Status
from tests.support.audits import outcome
from tests.support.audits import rule_of

FILE = "verify_quiet.txt"


class QuietTest(AuditTest):
    """Passes where the run's folder has a note that the machine was quiet."""

    name = "ACME01"
    files = (FILE,)

    def resolve(self, rule: Rule) -> Audit:
        return make_audit(self, rule, {"min_duration": 1000}, "ACME")

    def verify(self, run: AuditedRun) -> tuple[AuditFinding, ...]:
        quiet = (run.folder / "quiet").is_file()
        check = make_check("quiet", quiet, str(quiet), "True", "quiet")
        return (AuditFinding((check,), FILE, f"TEST {check.status.name}\n"),)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> QuietTest:
    monkeypatch.setattr(registry, "_tests", dict(registry._tests))
    test = QuietTest()
    compliance.register(test)
    return test


def test_a_registered_test_is_found_and_verifies(
    quiet: QuietTest, tmp_path: Path
) -> None:
    """Everything else asks the test: its settings, its files, its verdict."""
    rule = replace(rule_of("resnet50"), compliance=("ACME01",))
    audit = compliance.find("ACME01", rule)
    findings = compliance.verify(audit, rule, tmp_path, {})
    compliance.write(audit, tmp_path, findings)

    assert audit.test is quiet
    assert audit.config.splitlines() == [
        "# ACME01: ACME",
        "*.Offline.mode = 2",
        "*.Offline.min_duration = 1000",
    ]
    assert outcome(findings) == {"quiet": Status.FAIL}
    assert (tmp_path / FILE).read_text() == "TEST FAIL\n"
    assert compliance.names()[-1] == "ACME01"
    assert audit.test.refusal() == ""


def test_a_run_is_known_by_its_folder(quiet: QuietTest) -> None:
    """Explain finds the test of a run in this suite's reports and in a submission."""
    folders = ["ACME01", "ACME01-2", "TEST04-A", "TEST04-B-3", "TEST77", "ACME02"]

    assert quiet.name == "ACME01"
    assert [find_test_name(folder) for folder in folders] == [
        "ACME01",
        "ACME01",
        "TEST04-A",
        "TEST04-B",
        "TEST77",
        "",
    ]


def test_a_name_is_taken_once(quiet: QuietTest) -> None:
    """The same object may come twice, as entry points are read in each process."""
    compliance.register(quiet)

    with pytest.raises(ValueError, match="two compliance tests are called 'ACME01'"):
        compliance.register(QuietTest())


def test_a_test_that_a_rule_names_and_nobody_has_is_refused_in_words() -> None:
    """The text names those that are known."""
    rule = replace(rule_of("resnet50"), compliance=("ACME01",))

    with pytest.raises(ValueError, match=r"'ACME01' is no compliance test; known: TE"):
        compliance.find("ACME01", rule)


def test_tests_say_what_they_need_of_a_service() -> None:
    """Those of tokens need token ids, and TEST07 another set of questions."""
    refused = {
        name
        for name in compliance.names()
        if compliance.get(name).refusal("http://box", tells_token_ids=False)
    }

    assert refused == {"TEST06", "TEST07", "TEST09"}
    assert compliance.get("TEST06").refusal("http://box") == ""
