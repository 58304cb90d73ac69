"""``pytest-mlperf explain``: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.commands import main
from pytest_mlperf.commands.explanation import details
from pytest_mlperf.commands.explanation import table
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting.results import ResultsWriter
from tests.support import logs
from tests.support.endpoints import make_result
from tests.support.judging import FEW_LATE
from tests.support.judging import SLOW
from tests.support.judging import fast
from tests.support.judging import verdict as judged

Capture = pytest.CaptureFixture[str]


def run_of(root: Path, scenario: str = "Offline", model: str = "resnet50") -> Path:
    """Return where a run lies in a tree of results."""
    return root / model / scenario / "performance" / "run_1"


def asked(capsys: Capture, *words: object) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit code and the JSON list of one call."""
    code = main.main(["explain", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def text(capsys: Capture, *words: object) -> tuple[int, str]:
    """Return the exit code and what people read."""
    code = main.main(["explain", *map(str, words)])
    return code, capsys.readouterr().out


def process(*words: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a process of its own."""
    code = "import sys; from pytest_mlperf.commands.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "explain", *map(str, words)]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, timeout=300
    )


def test_json_has_the_documented_keys(tmp_path: Path, capsys: Capture) -> None:
    """One object a run, and one a check, that other programs can rely on."""
    folder = logs.performance(run_of(tmp_path), "Offline")
    code, (found,) = asked(capsys, folder)
    keys = {"path", "verdict", "benchmark", "scenario", "round", "metric", "checks"}
    parts = {"name", "status", "found", "required", "where", "remedy"}

    assert code == 0
    assert keys <= found.keys()
    assert (str(folder), "VALID") == (found["path"], found["verdict"])
    assert (found["benchmark"], found["scenario"]) == ("resnet50", "Offline")
    assert found["metric"].keys() == {"key", "value", "unit"}
    assert found["metric"]["key"] == "result_samples_per_second"
    assert pytest.approx(found["metric"]["value"], rel=1e-3) == 100.0
    assert [parts] * len(found["checks"]) == [set(c) for c in found["checks"]]
    assert {check["status"] for check in found["checks"]} == {"pass"}


def test_a_damaged_log_is_an_error_without_a_metric(
    tmp_path: Path, capsys: Capture
) -> None:
    """What cannot be trusted is neither VALID nor INVALID."""
    folder = logs.performance(run_of(tmp_path), "Offline")
    detail = folder / "mlperf_log_detail.txt"
    detail.write_bytes(detail.read_bytes()[:-40])
    code, (found,) = asked(capsys, folder)

    assert (code, found["verdict"], found["metric"]) == (2, "ERROR", None)
    assert (found["benchmark"], found["scenario"]) == ("resnet50", "Offline")


@pytest.mark.parametrize(
    ("stories", "code"),
    [
        (("good",), 0),
        (("good", "slow"), 1),
        (("good", "slow", "cut"), 2),
        (("cut", "good"), 2),
    ],
)
def test_the_worst_run_decides_the_exit_code(
    tmp_path: Path, capsys: Capture, stories: tuple[str, ...], code: int
) -> None:
    """0 all VALID, 1 any INVALID, 2 any ERROR."""
    kinds = {"good": None, "slow": SLOW, "cut": None}
    for name in stories:
        folder = run_of(tmp_path / name, "Server")
        logs.performance(folder, "Server", latencies=kinds[name])
        if name == "cut":
            (folder / "mlperf_log_summary.txt").unlink()
    found, records = asked(capsys, tmp_path)

    assert code == found
    assert len(stories) == len(records)


@pytest.mark.parametrize("name", ["absent", "."])
def test_finding_nothing_is_an_error(
    tmp_path: Path, capsys: Capture, name: str
) -> None:
    """A gate that finds nothing to judge does not pass."""
    code, (found,) = asked(capsys, tmp_path / name)

    assert (code, found["verdict"]) == (2, "ERROR")
    assert "name a run's folder" in found["checks"][0]["remedy"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "PATH"),
        (("x", "--round", "v9"), "should be one of v1.0"),
        (("x", "--benchmark", "nobody"), "should be one of 3d-unet"),
        (("x", "--scenario", "batch"), "should be one of singlestream"),
    ],
)
def test_wrong_arguments_are_told_with_the_legal_ones(
    capsys: Capture, words: tuple[str, ...], message: str
) -> None:
    """Exit code 2, and no traceback."""
    with pytest.raises(SystemExit) as ended:
        main.main(["explain", *words])

    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_seeds_tell_the_round(tmp_path: Path, capsys: Capture) -> None:
    """Each round has its own; the verdict says that they decided."""
    folder = logs.performance(run_of(tmp_path), "Offline", seeds="v5.1")
    _, (found,) = asked(capsys, folder)

    assert found["round"] == "v5.1"
    assert "seeds are in the log" in found["facts"]["round"]
    assert found["verdict"] == "VALID"


def test_seeds_of_no_round_are_an_error(tmp_path: Path, capsys: Capture) -> None:
    """No round is guessed, and nobody is told to set another round's seeds."""
    change = {"effective_qsl_rng_seed": 7}
    folder = logs.performance(run_of(tmp_path), "Offline", change=change)
    code, (found,) = asked(capsys, folder)

    assert (code, found["round"]) == (2, "")
    assert found["checks"][0]["found"].startswith("seeds of no known round: 7, ")


def test_another_round_that_is_asked_for_says_whose_the_seeds_are(
    tmp_path: Path, capsys: Capture
) -> None:
    """The remedy names the round that would fit."""
    folder = logs.performance(run_of(tmp_path), "Offline", seeds="v5.1")
    code, (found,) = asked(capsys, folder, "--round", "6.0")
    (failed,) = [c for c in found["checks"] if c["status"] == "fail"]

    assert (code, found["round"], failed["name"]) == (1, "v6.0", "seeds")
    assert "--round v5.1" in failed["remedy"]


def test_benchmark_and_scenario_can_be_said(tmp_path: Path, capsys: Capture) -> None:
    """A folder that tells nothing is judged as the user says."""
    strange = {"qsl_reported_total_count": 49_999}
    folder = logs.performance(tmp_path / "today", "Offline", change=strange)
    untold, (nameless,) = asked(capsys, folder)
    told, (found,) = asked(capsys, folder, "--benchmark", "resnet")
    wrong, (other,) = asked(
        capsys, folder, "--benchmark", "resnet", "--scenario", "server"
    )

    assert (untold, nameless["checks"][0]["name"]) == (2, "benchmark")
    assert "--benchmark" in nameless["checks"][0]["remedy"]
    assert (told, found["benchmark"]) == (0, "resnet50")
    assert (wrong, other["scenario"]) == (1, "Server")


def test_a_dataset_of_one_benchmarks_size_tells_the_benchmark(
    tmp_path: Path, capsys: Capture
) -> None:
    """And the verdict says that it was told so."""
    folder = logs.performance(tmp_path / "today", "Offline")
    code, (found,) = asked(capsys, folder)

    assert (code, found["benchmark"]) == (0, "resnet50")
    assert "only it has 50,000 samples" in found["facts"]["benchmark"]


def test_an_accuracy_run_is_held_to_no_target_that_was_guessed(
    tmp_path: Path, capsys: Capture
) -> None:
    """99 and 99.9 share a dataset."""
    folder = logs.accuracy(tmp_path / "today")
    code, (found,) = asked(capsys, folder)

    assert (code, found["checks"][0]["name"]) == (2, "benchmark")


def test_a_benchmark_without_its_target_is_asked_for(
    tmp_path: Path, capsys: Capture
) -> None:
    """Bert alone leaves open whether 99 or 99.9 is meant."""
    folder = logs.performance(run_of(tmp_path, model="bert"), "Offline")
    code, (found,) = asked(capsys, folder)

    assert (code, found["checks"][0]["name"]) == (2, "rule")
    assert "accuracy target" in found["checks"][0]["remedy"]


def test_a_round_without_the_benchmark_says_what_it_has(
    tmp_path: Path, capsys: Capture
) -> None:
    """The rules, not the log, are what is missing."""
    folder = logs.performance(run_of(tmp_path, model="whisper"), "Offline")
    code, (found,) = asked(capsys, folder, "--round", "v2.0")

    assert (code, found["checks"][0]["name"]) == (2, "rule")
    assert "resnet50" in found["checks"][0]["required"]


def test_an_inferred_run_is_marked(tmp_path: Path, capsys: Capture) -> None:
    """In the JSON, in the headline and in the table."""
    logs.performance(run_of(tmp_path), "SingleStream")
    logs.performance(run_of(tmp_path, "SingleStream"), "SingleStream")
    _, (first, _) = asked(capsys, tmp_path)
    _, shown = text(capsys, run_of(tmp_path))
    _, table = text(capsys, tmp_path)

    assert (first["scenario"], first["inferred"]) == ("Offline", "SingleStream")
    assert "under v6.1, inferred from SingleStream" in shown
    assert "Offline inferred" in table
    assert "2 VALID (1 inferred)" in table


def test_one_run_shows_failures_in_full_and_first(
    tmp_path: Path, capsys: Capture
) -> None:
    """Found, should be, where and what to do next; passed rules take a line."""
    folder = logs.performance(run_of(tmp_path, "Server"), "Server", latencies=SLOW)
    code, shown = text(capsys, folder)
    lines = shown.splitlines()
    at = next(i for i, line in enumerate(lines) if "FAIL    latency_bound" in line)

    assert code == 1
    assert lines[0].startswith("INVALID  resnet50 Server performance under v6.1")
    assert "queries/s  (result_completed_samples_per_sec)" in lines[1]
    assert "p99 latency" in shown
    assert "of 15 ms allowed" in shown
    assert [line.split()[0] for line in lines[at + 1 : at + 5]] == [
        "found",
        "should",
        "where",
        "do",
    ]
    assert "lower target_qps from" in shown
    assert at < next(i for i, line in enumerate(lines) if line.startswith("  ok"))


def test_expected_and_actual_time_are_shown(tmp_path: Path, capsys: Capture) -> None:
    """So that a run that ended early is seen at once."""
    folder = logs.performance(run_of(tmp_path, "Server"), "Server")
    _, shown = text(capsys, folder)

    assert "ran 605.0 s, expected 600.0 s" in shown


def test_many_runs_make_an_aligned_table(tmp_path: Path, capsys: Capture) -> None:
    """Paths hold what differs, failures are told once, totals close."""
    for number in range(12):
        latencies = FEW_LATE if number % 4 == 0 else None
        folder = run_of(tmp_path / f"box{number:02}", "Server")
        logs.performance(folder, "Server", latencies=latencies)
    code, shown = text(capsys, tmp_path)
    head, *rows = shown.split("\n\n")[0].splitlines()
    starts = {line.index("resnet50") for line in rows}

    assert code == 1
    assert {head.index("benchmark")} == starts
    assert rows[1].split()[-1] == "box01"
    assert {line.split()[0] for line in rows} == {"INVALID", "VALID"}
    assert shown.count("- early_stopping") == 1
    assert shown.endswith("12 runs under v6.1: 9 VALID, 3 INVALID\n")
    assert max(map(len, rows)) <= 80


def test_a_terminal_gets_long_paths_as_headings(make_verdict: Any) -> None:
    """400 runs read well in 80 columns; a pipe keeps a line a run."""
    long = "/tree/" + "x" * 90
    pairs = [(f"{long}{i // 4}", scenario) for i, scenario in enumerate("abcd" * 100)]
    verdicts = [
        make_verdict(folder=f"{folder}/bert-99/{scenario}/accuracy", scenario=scenario)
        for folder, scenario in pairs
    ]
    fitted = table.format_runs(verdicts, 80, color=False, fit=True)
    piped = table.format_runs(verdicts, 80, color=False, fit=False)
    headings = [line for line in fitted if line.startswith("x")]

    assert len(headings) == 100
    assert max(len(line) for line in fitted if line not in headings) <= 80
    assert sum(line.startswith("VALID") and long[6:] in line for line in piped) == 400
    assert fitted[-1] == "400 runs under v4.1: 400 VALID"


def test_a_pipe_gets_no_color_and_a_terminal_does(make_verdict: Any) -> None:
    """Codes are around words, so that columns stay aligned."""
    verdicts = [make_verdict(folder=f"/tree/{name}") for name in "ab"]
    plain = table.format_runs(verdicts, 100, color=False, fit=True)
    bright = table.format_runs(verdicts, 100, color=True, fit=True)
    bare = [line.replace("\x1b[32m", "").replace("\x1b[0m", "") for line in bright]

    assert "\x1b" not in "".join(plain)
    assert "\x1b[32m" in "".join(bright)
    assert bare == plain


def test_what_a_log_says_cannot_drive_the_terminal(make_verdict: Any) -> None:
    """Escapes of a log's text or a folder's name are shown, not sent."""
    verdict = make_verdict(benchmark="\x1b[2J", folder="/tree/\x07\udcff")
    shown = "\n".join(details.format_run(verdict, 100, color=False))

    assert "\\x1b[2J" in shown
    assert "\\x07\\xdcff" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_can_be_printed(tmp_path: Path, encoding: str) -> None:
    """A terminal without Unicode gets escapes, not a traceback."""
    folder = logs.performance(run_of(tmp_path / "größe→"), "Offline")
    ended = process(folder, LANG="C", PYTHONIOENCODING=encoding)
    data = process(folder, "--json", PYTHONIOENCODING=encoding).stdout

    assert (ended.returncode, ended.stderr) == (0, b"")
    assert str(folder) == json.loads(data)[0]["path"]


def test_explaining_imports_nothing_heavy(tmp_path: Path) -> None:
    """It starts at once and runs where neither LoadGen nor pytest is."""
    folder = logs.performance(run_of(tmp_path), "Offline")
    code = (
        "import sys; from pytest_mlperf.commands.main import main; main(sys.argv[1:]);"
        "heavy = {'numpy', 'pytest', 'mlperf_loadgen', 'importlib.metadata'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "explain", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert ended.stdout.startswith("VALID")
    assert ended.stdout.endswith("[]\n")


def test_open_division_reports_accuracy_and_holds_it_to_nothing(
    tmp_path: Path, capsys: Capture
) -> None:
    """A low score is waived in open, and fails in closed."""
    outcomes = {}
    for division in ("open", "closed"):
        result = tmp_path / division / "ACME" / "results" / "box" / "resnet50"
        folder = result / "Offline" / "accuracy"
        logs.accuracy(folder, total=50_000, text="accuracy=1.5%, good=1, total=2")
        _, (found,) = asked(capsys, folder)
        outcomes[division] = {c["name"]: c["status"] for c in found["checks"]}

    assert outcomes["open"]["accuracy_acc"] == "waived"
    assert outcomes["closed"]["accuracy_acc"] == "fail"


SAME: dict[str, object] = {
    "effective_performance_issue_same": True,
    "effective_performance_issue_same_index": 3,
}
WARNED = ["Found Audit Config file (audit.config). Overriding TestSettings"]


@pytest.mark.parametrize(
    ("test", "change", "code", "failed"),
    [
        ("TEST04", SAME, 0, set()),
        ("TEST04", {}, 1, {"audit_settings"}),
        ("TEST04", SAME | {"effective_min_duration_ms": 1}, 1, {"min_duration"}),
        ("TEST06", SAME, 1, {"asked_for", "audit_settings"}),
        ("TEST99", SAME, 2, {"rule"}),
    ],
)
def test_a_compliance_run_is_held_to_its_test(
    tmp_path: Path,
    capsys: Capture,
    test: str,
    change: Mapping[str, object],
    code: int,
    failed: set[str],
) -> None:
    """What audit.config sets is no fault, all else is; the path names the test."""
    folder = tmp_path / "resnet50" / "Server" / test / "performance" / "run_1"
    logs.performance(folder, "Server", change=change, warnings=WARNED)
    ended, (found,) = asked(capsys, folder)

    assert (ended, found["mode"]) == (code, test)
    assert failed == {c["name"] for c in found["checks"] if c["status"] != "pass"}


def report(root: Path, verdict: Verdict) -> None:
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
    _, (without,) = asked(capsys, folder)
    report(tmp_path, replace(verdict, folder="/moved/" + "/".join(folder.parts[-3:])))
    code, (found,) = asked(capsys, folder)
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
    _, (without,) = asked(capsys, folder)
    (failed,) = [c for c in without["checks"] if c["status"] != "pass"]
    verdict = replace(
        judged(folder, "Offline", Mode.PERFORMANCE),
        mode="TEST04", labels=("fast",), checks=(waiver,),
    )  # fmt: skip
    report(tmp_path, verdict)
    code, (found,) = asked(capsys, folder)

    assert ("min_duration", waiver.found) == (failed["name"], failed["found"])
    assert (code, found["mode"], found["labels"]) == (0, "TEST04", ["fast"])


def test_what_failed_by_more_than_the_log_has_still_failed(
    tmp_path: Path, capsys: Capture
) -> None:
    """The log alone would be VALID; the device's bandwidth did not suffice."""
    folder = tmp_path / "logs" / "resnet50-offline-null" / "performance"
    logs.performance(folder, "Offline")
    before, _ = asked(capsys, folder)
    verdict = judged(folder, "Offline", Mode.PERFORMANCE)
    bandwidth = Check("on_device", Status.FAIL, "6 GB/s", "7 GB/s", "detail")
    report(tmp_path, replace(verdict, checks=(*verdict.checks, bandwidth)))
    code, (found,) = asked(capsys, folder)

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
    report(tmp_path, verdict)
    _, (found,) = asked(capsys, folder)
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
    report(tmp_path, judged(folder, "Offline", Mode.PERFORMANCE, context))
    logs.performance(folder, "Offline", change={"effective_min_duration_ms": 5})
    code, (found,) = asked(capsys, folder)

    assert (code, found["verdict"]) == (1, "INVALID")


@pytest.mark.parametrize("damage", ["", "nonsense", "{}\n{}"])
def test_a_damaged_report_leaves_the_rounds_rules(
    tmp_path: Path, capsys: Capture, damage: str
) -> None:
    """The verdict says that nothing was known of what shortened the run."""
    folder = tmp_path / "logs" / "resnet50-offline-null" / "performance"
    logs.performance(folder, "Offline")
    (tmp_path / "results.jsonl").write_text(damage)
    code, (found,) = asked(capsys, folder)

    assert code == 0
    assert "judged without" in found["facts"]["context"]


def test_results_of_endpoints_stand_in_the_same_table(
    tmp_path: Path, capsys: Capture
) -> None:
    """Beside LoadGen's, with the same columns and one exit code."""
    logs.performance(run_of(tmp_path, "Offline"), "Offline")
    make_result(tmp_path / "gpt-oss-120b/Server")
    code, table_text = text(capsys, tmp_path)
    rows = [
        line.split() for line in table_text.splitlines() if line.startswith("VALID")
    ]

    assert code == 0
    assert [row[1:3] for row in rows] == [
        ["gpt-oss-120b", "Server"],
        ["gpt-oss-120b", "Server"],
        ["resnet50", "Offline"],
    ]
    assert "3 runs under v6.1: 3 VALID" in table_text
