"""A session that is compared with an earlier one."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mlperf.commands import main
from pytest_mlperf.config.options import Given
from pytest_mlperf.config.options import Options
from pytest_mlperf.core import published
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.published import Published
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.machine.system import detect_system
from pytest_mlperf.measure.baseline import Baseline
from pytest_mlperf.measure.baseline import find_latest
from pytest_mlperf.measure.baseline import save_session
from pytest_mlperf.measure.session import MeasureSession
from pytest_mlperf.plugin.comparing import INCONCLUSIVE
from pytest_mlperf.plugin.comparing import refuse_slower
from pytest_mlperf.reporting.results import FILE
from pytest_mlperf.reporting.results import ResultsWriter
from pytest_mlperf.reporting.results import read_results

SUITES = Path(__file__).parents[2] / "suites"
RUN = (
    str(SUITES), "-k", "resnet50 and offline and performance", "--mlperf-engine=null",
    "--mlperf-duration=0.2", "--mlperf-reports=reports",
)  # fmt: skip
PASS = Check("seeds", Status.PASS, "v6.1's", "v6.1's", "log")


def make_verdict(rate: float) -> Verdict:
    return Verdict(
        "resnet50", "Offline", "null", "performance", "v6.1",
        Metric("result_samples_per_second", rate, "samples/s"), (PASS,),
    )  # fmt: skip


def write_session(folder: Path, rate: float) -> Path:
    """Write the results of one Offline run."""
    folder.mkdir(parents=True)
    verdict = make_verdict(rate)
    writer = ResultsWriter(folder / FILE)
    writer.open({"host": "box", "system": {"name": "box"}})
    writer.add(Record("t::a", "passed", {"mode": "performance"}, verdict))
    writer.close(exitstatus=0, interrupted=False, selected=1)
    return folder


def test_the_latest_session_is_the_one_that_started_last(tmp_path: Path) -> None:
    """Files that came back from a CI's store are as old as the download."""
    for day, changed in (("01", 3.0), ("02", 2.0), ("", 1.0)):
        folder = tmp_path / f"day{day}"
        folder.mkdir()
        started = {"started": f"2026-11-{day}T00:00:00+00:00"} if day else {}
        ResultsWriter(folder / FILE).open(started)
        os.utime(folder / FILE, (changed, changed))

    assert find_latest(tmp_path / "own") == tmp_path / "day02"


def test_a_session_is_run_by_the_earlier_one_s_tuning(
    pytester: pytest.Pytester,
) -> None:
    """The header names it, a line a cell compares; a floor of nearly nothing holds."""
    pytester.runpytest_subprocess(*RUN).assert_outcomes(passed=1)
    result = pytester.runpytest_subprocess(
        *RUN, "--mlperf-compare=latest", "--mlperf-fail-below=0.001"
    )
    found = sorted((pytester.path / "reports").glob("2*/logs/*/*/tuning.json"))
    first, second = (json.loads(path.read_text()) for path in found)

    result.stdout.fnmatch_lines(
        [
            "mlperf: note: compared with *reports*",
            "compared: resnet50 Offline on null: *",
        ]
    )
    assert first == second
    assert result.ret in (0, INCONCLUSIVE)
    result.stdout.no_fnmatch_line("*loads are probed anew*")


def test_an_earlier_session_without_its_tuning_is_called_so(
    pytester: pytest.Pytester,
) -> None:
    """A CI that keeps results.jsonl alone has a probe's choice in its ratio."""
    pytester.runpytest_subprocess(*RUN).assert_outcomes(passed=1)
    for tuning in (pytester.path / "reports").glob("2*/logs/*/*/tuning.json"):
        tuning.unlink()
    result = pytester.runpytest_subprocess(*RUN, "--mlperf-compare=latest")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["mlperf: note: compared with *without its logs/*: loads are probed anew"]
    )


def test_a_results_file_of_another_name_is_named_itself(tmp_path: Path) -> None:
    """A CI may keep several in one folder."""
    folder = write_session(tmp_path / "kept", 100.0)
    file = (folder / FILE).rename(folder / "main.jsonl")

    baseline = Baseline.read(str(file), tmp_path / "own")
    session = MeasureSession(
        Options(fail_below=0.9),
        detect_system(rootdir=tmp_path),
        tmp_path,
        baseline=baseline,
    )
    with pytest.raises(pytest.fail.Exception) as failed:
        refuse_slower(session, make_verdict(50.0))

    assert baseline.describe().startswith(f"{file}, ")
    assert f"of {file} (--mlperf-fail-below)" in str(failed.value)


def test_a_saved_session_is_compared_with_by_its_name(
    pytester: pytest.Pytester,
) -> None:
    """Its tuning too, though the session's own folder is gone; labels and every run of
    a repeated item are kept.
    """
    labels = "--mlperf-label=branch=main,cooling=water"
    saved = pytester.runpytest_subprocess(
        *RUN, "--mlperf-save=main", labels, "--mlperf-export=csv,openmetrics",
        "--mlperf-repeat=3",
    )  # fmt: skip
    saved.stdout.fnmatch_lines(
        [
            "mlperf: engine null; *; 3 runs of each performance item, verdict by *",
            "mlperf: note: labels branch=main,cooling=water",
            "repeated: resnet50 Offline on null: 3 runs, 3 VALID; min *; verdict of *",
            "saved: reports/saved/main (--mlperf-compare=main)",
        ]
    )
    folder = (pytester.path / "reports" / "latest").resolve()
    tunings = [path.read_text() for path in folder.glob("logs/*/*/tuning.json")]
    assert len(tunings) == 3
    assert len({*tunings}) == 1
    (verdict,) = read_results(folder / FILE).verdicts
    assert {Path(run.folder).name for run in verdict.repeats} == {
        "performance", "performance-2", "performance-3",
    }  # fmt: skip
    assert ",branch=main" not in (folder / "results.prom").read_text()
    assert 'label_cooling="water"} 1.0' in (folder / "results.prom").read_text()
    assert '"branch=main,cooling=water"' in (folder / "results.csv").read_text()
    folder.rename(pytester.path / "elsewhere")

    result = pytester.runpytest_subprocess(*RUN, "--mlperf-compare=main")
    result.stdout.fnmatch_lines(
        [
            "mlperf: note: compared with *reports/saved/main, *",
            "compared: resnet50 Offline on null: *",
        ]
    )
    folder = (pytester.path / "reports" / "latest").resolve()
    assert next(folder.glob("logs/*/*/tuning.json")).read_text() == tunings[0]


def test_a_name_holds_the_last_session_that_ran_to_its_end(tmp_path: Path) -> None:
    """Saving again replaces it, and leaves nothing else."""
    for rate in (100.0, 50.0):
        save_session(write_session(tmp_path / f"run{rate}", rate), "main")
    baseline = Baseline.read("main", tmp_path / "now")

    assert baseline.folder == tmp_path / "saved" / "main"
    assert baseline.compare(make_verdict(50.0)).ratio == 1
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["main"]
    with pytest.raises(ValueError, match="a saved session: main"):
        Baseline.read("mian", tmp_path / "now")


def test_a_gate_without_an_answer_says_why_it_ends_with_8(
    pytester: pytest.Pytester,
) -> None:
    """All items passed, and nothing else explains the status. The file may have any
    name, as a CI keeps it.
    """
    text = (write_session(pytester.path / "before", 100.0) / FILE).read_text()
    (pytester.path / "main.jsonl").write_text(text.replace("Offline", "Server"))
    gate = ("--mlperf-compare=main.jsonl", "--mlperf-fail-below=0.9")
    result = pytester.runpytest_subprocess(*RUN, *gate)

    result.assert_outcomes(passed=1)
    assert result.ret == INCONCLUSIVE
    result.stdout.fnmatch_lines(
        "mlperf: --mlperf-fail-below: 1 of 1 cell has no answer, which ends a session "
        "that passed with 8; resnet50 Offline on null: no VALID run before: none ran: *"
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"schema": 1', '"schema": 2', "schema 2, but this version reads 1: read it"),
        ('"type": "header"', '"type": "x"', "no header line, but a results file"),
    ],
)
def test_a_file_that_this_version_cannot_read_is_a_usage_error(
    pytester: pytest.Pytester, old: str, new: str, said: str
) -> None:
    """A newer version's was read as if it were this one's."""
    file = write_session(pytester.path / "before", 100.0) / FILE
    file.write_text(file.read_text().replace(old, new))
    result = pytester.runpytest_subprocess(*RUN, "--mlperf-compare=before")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --mlperf-compare: *{said}*"])


def test_a_partial_session_is_called_so(tmp_path: Path) -> None:
    """A gate against the few cells that a killed session measured looks complete."""
    file = write_session(tmp_path / "before", 100.0) / FILE
    whole = Baseline.read(str(file), tmp_path / "now").describe()
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    cut = Baseline.read(str(file), tmp_path / "now").describe()

    assert cut == f"{whole}, partial: it did not end"


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ((), "0.50 of the best published 100 samples/s each (v5.1 closed, ACME"),
        (("null answers",), "null answers is not the model that submitters ran"),
    ],
)
def test_official_is_the_best_published_result(
    monkeypatch: pytest.MonkeyPatch, labels: tuple[str, ...], words: str
) -> None:
    """As the verdict has it, else why there is none."""
    best = Published(800.0, 8, "H200", "v5.1", "ACME")
    key = ("H200", "resnet50", Scenario.OFFLINE)
    monkeypatch.setattr(published, "read_results", lambda: {key: best})
    run = RunFacts(device="NVIDIA H200", accelerators=1)
    verdict = replace(make_verdict(50.0), run=run, labels=labels)
    facts = published.list_comparisons(verdict, Scenario.OFFLINE)

    assert words in published.describe_standing(replace(verdict, facts=facts))


def test_a_published_result_is_no_floor() -> None:
    """Nor may a name be a word that means another thing, nor a submission repeat."""
    here = Path.cwd()
    for words, chosen in {
        "other machines'": {"compare": "official", "fail_below": "0.9"},
        "other than latest": {"save": "latest"},
        "a submission has one": {"repeat": "2", "submission": "ACME"},
    }.items():
        options = {key: Given(text, key) for key, text in chosen.items()}
        with pytest.raises(ValueError, match=words):
            Options.from_given(options, here=here, root=here, environ={})


def test_a_session_that_is_not_there_is_a_usage_error(
    pytester: pytest.Pytester,
) -> None:
    """Before the first item."""
    result = pytester.runpytest_subprocess(*RUN, "--mlperf-compare=latest")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*has no earlier session; run one without*"])


@pytest.mark.parametrize(
    ("rate", "least", "fails"),
    [(50.0, 0.9, True), (50.0, 0.4, False), (98.0, 0.99, False), (50.0, None, False)],
)
def test_an_item_that_became_slower_fails(
    tmp_path: Path, rate: float, least: float | None, *, fails: bool
) -> None:
    """With both figures, their ratio and what to do; not for what may be noise."""
    folder = write_session(tmp_path / "before", 100.0)
    session = MeasureSession(
        Options(fail_below=least),
        detect_system(rootdir=tmp_path),
        tmp_path,
        baseline=Baseline.read(str(folder), tmp_path / "now"),
    )
    verdict = make_verdict(rate)

    with pytest.raises(pytest.fail.Exception) if fails else nullcontext() as failed:
        refuse_slower(session, verdict)
    if failed:
        text = str(failed.value)
        assert "100 -> 50 samples/s, ratio 0.500" in text
        assert f"it should be at least 0.9 of {folder} (--mlperf-fail-below)" in text


@pytest.mark.parametrize(
    ("old", "new", "code", "word"),
    [(100, 100, 0, "same"), (100, 50, 1, "slower"), (100, 200, 0, "faster")],
)
def test_finished_sessions_are_compared(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    old: float,
    new: float,
    code: int,
    word: str,
) -> None:
    """The exit code is a gate's."""
    paths = [
        str(write_session(tmp_path / "old", old)),
        str(write_session(tmp_path / "new", new)),
    ]

    assert main.main(["report", "compare", *paths, "--fail-below", "0.9"]) == code
    assert f"resnet50 Offline on null: {word}; {old} -> {new}" in (
        capsys.readouterr().out
    )


def test_another_round_has_no_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And an exit code of its own."""
    old = write_session(tmp_path / "old", 100)
    new = write_session(tmp_path / "new", 100)
    text = (new / FILE).read_text().replace('"round": "v6.1"', '"round": "v5.1"')
    (new / FILE).write_text(text)
    command = ["report", "compare", str(old), str(new), "--json"]

    assert main.main([*command, "--fail-below", "0.9"]) == 3
    assert json.loads(capsys.readouterr().out)["change"] == "not comparable"
    assert main.main(["report", "compare", str(tmp_path), str(new)]) == 2
    assert "name sessions' reports folders" in capsys.readouterr().err
