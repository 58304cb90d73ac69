"""``pytest-mlperf explain``: what it judges by, its JSON and its exit codes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_mlperf.commands import main
from tests.support import logs
from tests.support.explaining import SAME
from tests.support.explaining import WARNED
from tests.support.explaining import Capture
from tests.support.explaining import explain_json
from tests.support.explaining import run_of
from tests.support.judging import SLOW


def test_json_has_the_documented_keys(tmp_path: Path, capsys: Capture) -> None:
    """One object a run, and one a check, that other programs can rely on."""
    folder = logs.performance(run_of(tmp_path), "Offline")
    code, (found,) = explain_json(capsys, folder)
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
    code, (found,) = explain_json(capsys, folder)

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
    found, records = explain_json(capsys, tmp_path)

    assert code == found
    assert len(stories) == len(records)


@pytest.mark.parametrize("name", ["absent", "."])
def test_finding_nothing_is_an_error(
    tmp_path: Path, capsys: Capture, name: str
) -> None:
    """A gate that finds nothing to judge does not pass."""
    code, (found,) = explain_json(capsys, tmp_path / name)

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
    _, (found,) = explain_json(capsys, folder)

    assert found["round"] == "v5.1"
    assert "seeds are in the log" in found["facts"]["round"]
    assert found["verdict"] == "VALID"


def test_seeds_of_no_round_are_an_error(tmp_path: Path, capsys: Capture) -> None:
    """No round is guessed, and nobody is told to set another round's seeds."""
    change = {"effective_qsl_rng_seed": 7}
    folder = logs.performance(run_of(tmp_path), "Offline", change=change)
    code, (found,) = explain_json(capsys, folder)

    assert (code, found["round"]) == (2, "")
    assert found["checks"][0]["found"].startswith("seeds of no known round: 7, ")


def test_another_round_that_is_asked_for_says_whose_the_seeds_are(
    tmp_path: Path, capsys: Capture
) -> None:
    """The remedy names the round that would fit."""
    folder = logs.performance(run_of(tmp_path), "Offline", seeds="v5.1")
    code, (found,) = explain_json(capsys, folder, "--round", "6.0")
    (failed,) = [c for c in found["checks"] if c["status"] == "fail"]

    assert (code, found["round"], failed["name"]) == (1, "v6.0", "seeds")
    assert "--round v5.1" in failed["remedy"]


def test_benchmark_and_scenario_can_be_said(tmp_path: Path, capsys: Capture) -> None:
    """A folder that tells nothing is judged as the user says."""
    strange = {"qsl_reported_total_count": 49_999}
    folder = logs.performance(tmp_path / "today", "Offline", change=strange)
    untold, (nameless,) = explain_json(capsys, folder)
    told, (found,) = explain_json(capsys, folder, "--benchmark", "resnet")
    wrong, (other,) = explain_json(
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
    code, (found,) = explain_json(capsys, folder)

    assert (code, found["benchmark"]) == (0, "resnet50")
    assert "only it has 50,000 samples" in found["facts"]["benchmark"]


def test_an_accuracy_run_is_held_to_no_target_that_was_guessed(
    tmp_path: Path, capsys: Capture
) -> None:
    """99 and 99.9 share a dataset."""
    folder = logs.accuracy(tmp_path / "today")
    code, (found,) = explain_json(capsys, folder)

    assert (code, found["checks"][0]["name"]) == (2, "benchmark")


def test_a_benchmark_without_its_target_is_asked_for(
    tmp_path: Path, capsys: Capture
) -> None:
    """Bert alone leaves open whether 99 or 99.9 is meant."""
    folder = logs.performance(run_of(tmp_path, model="bert"), "Offline")
    code, (found,) = explain_json(capsys, folder)

    assert (code, found["checks"][0]["name"]) == (2, "rule")
    assert "accuracy target" in found["checks"][0]["remedy"]


def test_a_round_without_the_benchmark_says_what_it_has(
    tmp_path: Path, capsys: Capture
) -> None:
    """The rules, not the log, are what is missing."""
    folder = logs.performance(run_of(tmp_path, model="whisper"), "Offline")
    code, (found,) = explain_json(capsys, folder, "--round", "v2.0")

    assert (code, found["checks"][0]["name"]) == (2, "rule")
    assert "resnet50" in found["checks"][0]["required"]


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
        _, (found,) = explain_json(capsys, folder)
        outcomes[division] = {c["name"]: c["status"] for c in found["checks"]}

    assert outcomes["open"]["accuracy_acc"] == "waived"
    assert outcomes["closed"]["accuracy_acc"] == "fail"


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
    ended, (found,) = explain_json(capsys, folder)

    assert (ended, found["mode"]) == (code, test)
    assert failed == {c["name"] for c in found["checks"] if c["status"] != "pass"}
