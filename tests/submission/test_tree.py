"""The tree itself: what is written where."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.core.submission import documents
from pytest_mlperf.core.submission import seal
from pytest_mlperf.core.submission.check.listing import Listing
from pytest_mlperf.core.submission.choose import choose
from pytest_mlperf.core.submission.documents import SubmissionSession
from pytest_mlperf.core.submission.runs import Run
from pytest_mlperf.submission import tree
from tests.support import sessions
from tests.support.submissions import BERT
from tests.support.submissions import ask_of
from tests.support.submissions import describe_system
from tests.support.submissions import make_content
from tests.support.submissions import read_files


def test_a_v6_1_result_has_all_its_files_and_no_others(
    tmp_path: Path, bert: list[Run]
) -> None:
    """Logs, measurements and compliance lie together; nothing of LoadGen's rest."""
    root = tree.write_tree(make_content(bert, ask_of()), tmp_path / "submission").path
    row = root / "closed/ACME/results/box/bert-99/Offline"

    assert set(read_files(row)) == {
        "README.md",
        "measurements.json",
        "user.conf",
        "accuracy/accuracy.txt",
        "accuracy/mlperf_log_accuracy.json",
        "accuracy/mlperf_log_detail.txt",
        "accuracy/mlperf_log_summary.txt",
        "performance/run_1/mlperf_log_detail.txt",
        "performance/run_1/mlperf_log_summary.txt",
        "TEST01/verify_accuracy.txt",
        "TEST01/verify_performance.txt",
        "TEST01/accuracy/accuracy.txt",
        "TEST01/accuracy/mlperf_log_accuracy.json",
        "TEST01/performance/run_1/mlperf_log_detail.txt",
        "TEST01/performance/run_1/mlperf_log_summary.txt",
    }


def test_a_test_without_answers_has_its_verification_and_its_logs(
    tmp_path: Path,
) -> None:
    """TEST04 writes no accuracy log."""
    runs = sessions.complete(tmp_path / "reports", "v6.1", sessions.EDGE[:1])
    root = tree.write_tree(make_content(runs, ask_of()), tmp_path / "submission").path
    folder = root / "closed/ACME/results/box/resnet50/Offline/TEST04"

    assert set(read_files(folder)) == {
        "verify_performance.txt",
        "performance/run_1/mlperf_log_detail.txt",
        "performance/run_1/mlperf_log_summary.txt",
    }


def test_a_v5_1_result_is_spread_and_its_code_stands_under_its_benchmark(
    tmp_path: Path,
) -> None:
    """measurements/ and compliance/ are folders of their own before v6.0."""
    ask = ask_of("v5.1")
    runs = sessions.complete(tmp_path / "reports", "v5.1", BERT)
    home = (
        tree.write_tree(make_content(runs, ask), tmp_path / "submission").path
        / "closed/ACME"
    )
    row = "box/bert-99/Offline"

    assert (home / f"measurements/{row}/box_Offline.json").is_file()
    assert (home / f"compliance/{row}/TEST01/verify_accuracy.txt").is_file()
    assert (home / "code/bert-99/README.md").is_file()
    assert (home / "code/pytest-mlperf/pytest_mlperf/plugin/hooks.py").is_file()
    assert {p.name for p in (home / f"results/{row}").iterdir()} == {
        "accuracy",
        "performance",
    }


def test_accuracy_logs_are_cut_and_known_by_the_hash_of_the_whole(
    tmp_path: Path, bert: list[Run]
) -> None:
    """The log in the tree fits, the whole stays where it was, and its hash is said."""
    written = tree.write_tree(make_content(bert, ask_of()), tmp_path / "submission")
    whole = next(Path(folder) for folder in written.full_logs if "offline" in folder)
    row = written.path / "closed/ACME/results/box/bert-99/Offline/accuracy"
    text = (row / "accuracy.txt").read_text()

    assert (row / "mlperf_log_accuracy.json").stat().st_size <= 10_240
    assert (whole / "mlperf_log_accuracy.json").stat().st_size > 100_000
    assert f"hash={written.full_logs[str(whole)]}" in text
    assert '{"exact_match": 83.7, "f1": 90.9}' in text


def test_the_tree_is_clean_for_git(tmp_path: Path, bert: list[Run]) -> None:
    """No dot files, blanks, caches, links, empty folders or large files."""
    root = tree.write_tree(make_content(bert, ask_of()), tmp_path / "submission").path

    for path in root.rglob("*"):
        assert not path.name.startswith(".")
        assert " " not in path.name
        assert path.name != "__pycache__"
        assert not path.is_symlink()
        assert path.is_file() or any(path.iterdir())
        assert path.is_dir() or path.stat().st_size < 50 << 20
    assert "embedded" not in {p.name for p in root.rglob("*") if p.is_dir()}


def test_the_readme_repeats_the_run_in_one_session(
    tmp_path: Path, bert: list[Run]
) -> None:
    """An audit is compared with the runs beside it, so that they go together."""
    root = tree.write_tree(make_content(bert, ask_of()), tmp_path / "submission").path
    text = (root / "closed/ACME/results/box/bert-99/Offline/README.md").read_text()

    assert "pytest --mlperf-round=v6.1 \\\n" in text
    for item in (
        "suites/test_performance.py::test_performance[bert-99-offline-onnxruntime]",
        "suites/test_accuracy.py::test_accuracy[bert-99-offline-onnxruntime]",
        "test_compliance[bert-99-offline-onnxruntime-TEST01]",
    ):
        assert item in text
    assert "pytest suites -n 8" in text
    assert "`SYSTEM_NAME`" in text


def test_a_rehearsal_says_so_in_every_file_that_allows_a_word(tmp_path: Path) -> None:
    """Nobody who opens one of them can take it for a result."""
    runs = sessions.complete(tmp_path / "reports", "v6.1", BERT, labels=("rehearsal",))
    ask = ask_of(rehearsal=True)
    root = tree.write_tree(make_content(runs, ask), tmp_path / "submission").path
    row = root / "closed/ACME/results/box/bert-99/Offline"

    for path in (
        row / "README.md",
        row / "user.conf",
        row / "measurements.json",
        root / "closed/ACME/documentation/calibration.md",
        root / "closed/ACME/src/pytest-mlperf/README.md",
    ):
        assert "REHEARSAL" in path.read_text(), path
    assert "REHEARSAL" in documents.format_report(choose(runs, ask), ask, {})
    assert "REHEARSAL" not in documents.format_report(choose(runs, ask), ask_of(), {})


def test_the_files_of_a_power_meter_are_placed(tmp_path: Path, bert: list[Run]) -> None:
    """power/ and ranging/ beside run_1, spl.txt in it, the settings where they go."""
    home = next(r.folder for r in bert if r.folder.parent.name.startswith("bert-99-o"))
    home = home.parent / "performance"
    for name in ("client.json", "client.log", "ptd_logs.txt", "server.json"):
        (home / "power").mkdir(exist_ok=True)
        (home / "power" / name).write_text("{}")
    (home / "ranging").mkdir()
    for name in ("mlperf_log_summary.txt", "mlperf_log_detail.txt"):
        shutil.copy(home / name, home / "ranging")
    for name in ("ranging/spl.txt", "spl.txt", "analyzer_table.md"):
        (home / name).write_text("x")

    root = tree.write_tree(make_content(bert, ask_of()), tmp_path / "submission").path
    row = root / "closed/ACME/results/box/bert-99/Offline"

    assert (row / "performance/power/ptd_logs.txt").is_file()
    assert (row / "performance/ranging/spl.txt").is_file()
    assert (row / "performance/run_1/spl.txt").is_file()
    assert (row / "analyzer_table.md").is_file()
    single = row.with_name("SingleStream")
    assert not (single / "performance/power").exists()


def test_an_open_entry_with_another_model_has_its_own_name(tmp_path: Path) -> None:
    """The folder is not the official one, and model_mapping.json says whose it is."""
    runs = sessions.complete(
        tmp_path / "reports", "v6.1", sessions.EDGE[:1], labels=("embedded",)
    )
    ask = ask_of(division="open")
    home = (
        tree.write_tree(make_content(runs, ask), tmp_path / "submission").path
        / "open/ACME"
    )

    assert (home / "results/box/resnet50-embedded/Offline/README.md").is_file()
    assert json.loads((home / "model_mapping.json").read_text()) == {
        "resnet50-embedded": "resnet"
    }


def test_a_description_that_is_kept_says_what_this_session_has_instead(
    tmp_path: Path, bert: list[Run]
) -> None:
    """Software changes between sessions, and a person decides what the file says."""
    ask = ask_of()
    first = tree.write_tree(make_content(bert, ask), tmp_path / "submission").path
    other = json.loads(describe_system(ask)) | {"framework": "onnxruntime 99"}

    made = make_content(bert, ask, description=json.dumps(other))
    [same] = said(tree.write_tree(make_content(bert, ask), first, first))
    [unlike] = said(tree.write_tree(made, first, first))

    assert same.endswith("systems/box.json: kept as it is")
    assert "framework is 'N/A' there and 'onnxruntime 99' here" in unlike
    assert "submit seal" in unlike


def said(written: tree.Written) -> list[str]:
    return [note for note in written.notes if "box.json" in note]


def test_the_readme_names_no_place_of_the_machine(
    tmp_path: Path, bert: list[Run]
) -> None:
    """Folders of models, reports and clones are the submitter's business."""
    command = [
        "/home/me/clone/suites", "--mlperf-reports=/data/r", "--mlperf-checker", "/c/i",
        "--mlperf-cache=/fast", "--mlperf-scratch", "models", "--mlperf-batch=8",
        "--mlperf-engine-options=plan=/data/models/x",
        "/home/me/suites/test_accuracy.py::test_accuracy[a-b]", "--mlperf-tree=/data/t",
    ]  # fmt: skip
    shown = documents.hide_places(command, Path("/data/models"))
    made = make_content(bert, ask_of(), session=SubmissionSession(shown, []))
    root = tree.write_tree(made, tmp_path / "submission").path
    text = (root / "closed/ACME/results/box/bert-99/Offline/README.md").read_text()

    assert shown == [
        "suites", "--mlperf-scratch=$MLPERF_SCRATCH_PATH", "--mlperf-batch=8",
        "--mlperf-engine-options=plan=$MLPERF_SCRATCH_PATH/x",
        "test_accuracy.py::test_accuracy[a-b]",
    ]  # fmt: skip
    assert "pytest suites --mlperf-scratch=$MLPERF_SCRATCH_PATH --mlperf-b" in text


def test_the_seal_has_no_file_outside_the_tree(tmp_path: Path, bert: list[Run]) -> None:
    """A link that leaves it is a problem of its own, and none of the seal's."""
    root = tree.write_tree(make_content(bert, ask_of()), tmp_path / "submission").path
    home = root / "closed/ACME"
    (tmp_path / "outside").write_text("secret")
    (home / "documentation/notes.txt").symlink_to(tmp_path / "outside")
    before = (home / seal.FILE).read_text()

    seal.write_seal(Listing.of(root), "closed/ACME")

    assert before == (home / seal.FILE).read_text()


def on_device(run: Run) -> Run:
    """Return a run that started from the device, with its proof beside its logs."""
    (run.folder / "on_device.txt").write_text("granted\n")
    (run.folder / "on_device_diagram.png").write_bytes(b"a drawing")
    facts = replace(run.verdict.run, start_from_device=True)
    return replace(run, verdict=replace(run.verdict, run=facts))


def test_what_entitles_a_run_to_the_device_goes_with_it(
    tmp_path: Path, bert: list[Run]
) -> None:
    """Reckoning and drawing of the result; no other result has any."""
    runs = [on_device(r) if r.scenario.value == "Offline" else r for r in bert]
    root = tree.write_tree(make_content(runs, ask_of()), tmp_path / "submission").path
    home = root / "closed/ACME/documentation/on_device"

    assert read_files(home) == {
        "box/bert-99/Offline/on_device.txt": b"granted\n",
        "box/bert-99/Offline/on_device_diagram.png": b"a drawing",
    }


def test_runs_from_the_host_and_from_the_device_make_no_result_together(
    bert: list[Run],
) -> None:
    """An accuracy run that started elsewhere proves nothing of this one."""
    runs = [
        on_device(r) if r.mode == "performance" and r.scenario.value == "Offline" else r
        for r in bert
    ]
    choice = choose(runs, ask_of())

    assert [e.rule.scenario.value for e in choice.entries] == ["SingleStream"]
