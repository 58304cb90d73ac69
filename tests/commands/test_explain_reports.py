"""A run of ours that is explained: what its session's results.jsonl adds to the log."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting.results import ResultsWriter
from tests.support import logs
from tests.support.explaining import SAME
from tests.support.explaining import WARNED
from tests.support.explaining import Capture
from tests.support.explaining import explain_json
from tests.support.judging import fast
from tests.support.judging import verdict as judged


def write_report(root: Path, verdict: Verdict) -> None:
    """Write results.jsonl with the verdict of one run."""
    writer = ResultsWriter(root / "results.jsonl")
    writer.open({"started": datetime.now().isoformat()})
    writer.add(Record("item", "passed", {"mode": "performance"}, verdict))


def test_a_run_of_ours_keeps_the_waivers_of_its_report(
    tmp_path: Path, capsys: Capture
) -> None:
    """A fast run is VALID as fast as it was asked for, wherever the report is now."""
    folder = tmp_path / "logs" / "resnet50-offline-null" / "performance"
    logs.performance(folder, "Offline", change={"effective_min_duration_ms": 10_000})
    context = Context(settings=fast("Offline", 10), labels=("fast",))
    verdict = judged(folder, "Offline", Mode.PERFORMANCE, context)
    _, (without,) = explain_json(capsys, folder)
    write_report(
        tmp_path, replace(verdict, folder="/moved/" + "/".join(folder.parts[-3:]))
    )
    code, (found,) = explain_json(capsys, folder)
    statuses = {c["name"]: c["status"] for c in found["checks"]}

    assert without["verdict"] == "INVALID"
    assert (code, found["labels"]) == (0, ["fast"])
    assert statuses["min_duration"] == "waived"
    assert "as recorded in" in found["facts"]["context"]


@pytest.mark.parametrize("name", ["TEST04", "TEST04-2"])
def test_a_compliance_run_of_ours_keeps_them_too(
    tmp_path: Path, capsys: Capture, name: str
) -> None:
    """Whichever attempt it is."""
    folder = tmp_path / "logs" / "resnet50-offline-null" / name
    change = SAME | {"effective_min_duration_ms": 10_000}
    logs.performance(folder, "Offline", change=change, warnings=WARNED)
    waiver = Check("min_duration", Status.WAIVED, "a setting of 10,000 ms", "", "")
    _, (without,) = explain_json(capsys, folder)
    (failed,) = [c for c in without["checks"] if c["status"] != "pass"]
    verdict = replace(
        judged(folder, "Offline", Mode.PERFORMANCE),
        mode="TEST04", labels=("fast",), checks=(waiver,),
    )  # fmt: skip
    write_report(tmp_path, verdict)
    code, (found,) = explain_json(capsys, folder)

    assert ("min_duration", waiver.found) == (failed["name"], failed["found"])
    assert (code, found["mode"], found["labels"]) == (0, "TEST04", ["fast"])


def test_what_failed_by_more_than_the_log_has_still_failed(
    tmp_path: Path, capsys: Capture
) -> None:
    """The log alone would be VALID; the device's bandwidth did not suffice."""
    folder = tmp_path / "logs" / "resnet50-offline-null" / "performance"
    logs.performance(folder, "Offline")
    before, _ = explain_json(capsys, folder)
    verdict = judged(folder, "Offline", Mode.PERFORMANCE)
    bandwidth = Check("on_device", Status.FAIL, "6 GB/s", "7 GB/s", "detail")
    write_report(tmp_path, replace(verdict, checks=(*verdict.checks, bandwidth)))
    code, (found,) = explain_json(capsys, folder)

    assert (before, code, found["verdict"]) == (0, 1, "INVALID")
    assert found["checks"][-1]["name"] == "on_device"


def test_explain_gives_the_advice_that_the_item_gave(
    tmp_path: Path, capsys: Capture
) -> None:
    """The report knows what else ran; a log that was changed since is judged anew."""
    folder = tmp_path / "logs" / "resnet50-server-null" / "performance"
    logs.performance(folder, "Server", latencies=[17_000_000] * 900 + [10**6])
    context = Context(run=RunFacts(is_disturbed=True))
    verdict = judged(folder, "Server", Mode.PERFORMANCE, context)
    write_report(tmp_path, verdict)
    _, (found,) = explain_json(capsys, folder)
    advice = {c["name"]: c["remedy"] for c in found["checks"]}
    given = {check.name: check.remedy for check in verdict.checks}

    assert advice["latency_bound"] == given["latency_bound"]
    assert advice["latency_bound"].startswith("other programs used")


def test_a_report_does_not_excuse_a_log_that_changed_since(
    tmp_path: Path, capsys: Capture
) -> None:
    """A waiver stands only where the log still shows what was waived."""
    folder = tmp_path / "logs" / "resnet50-offline-null" / "performance"
    logs.performance(folder, "Offline", change={"effective_min_duration_ms": 10_000})
    context = Context(settings=fast("Offline", 10), labels=("fast",))
    write_report(tmp_path, judged(folder, "Offline", Mode.PERFORMANCE, context))
    logs.performance(folder, "Offline", change={"effective_min_duration_ms": 5})
    code, (found,) = explain_json(capsys, folder)

    assert (code, found["verdict"]) == (1, "INVALID")


@pytest.mark.parametrize("damage", ["", "nonsense", "{}\n{}"])
def test_a_damaged_report_leaves_the_rounds_rules(
    tmp_path: Path, capsys: Capture, damage: str
) -> None:
    """The verdict says that nothing was known of what shortened the run."""
    folder = tmp_path / "logs" / "resnet50-offline-null" / "performance"
    logs.performance(folder, "Offline")
    (tmp_path / "results.jsonl").write_text(damage)
    code, (found,) = explain_json(capsys, folder)

    assert code == 0
    assert "judged without" in found["facts"]["context"]
