"""A session that is compared with an earlier one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_mlperf.commands import main
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.plugin.comparing import INCONCLUSIVE
from pytest_mlperf.reporting.results import FILE
from pytest_mlperf.reporting.results import ResultsWriter

SUITES = Path(__file__).parents[2] / "suites"
RUN = (
    str(SUITES), "-k", "resnet50 and offline and performance", "--mlperf-engine=null",
    "--mlperf-duration=0.2", "--mlperf-reports=reports",
)  # fmt: skip
PASS = Check("seeds", Status.PASS, "v6.1's", "v6.1's", "log")


def write_session(folder: Path, rate: float, **run: str) -> Path:
    """Write the results of one Offline run."""
    folder.mkdir(parents=True)
    verdict = Verdict(
        "resnet50", "Offline", "null", "performance", "v6.1",
        Metric("result_samples_per_second", rate, "samples/s"), (PASS,), **run,  # type: ignore[arg-type]
    )  # fmt: skip
    writer = ResultsWriter(folder / FILE)
    writer.open({"host": "box", "system": {"name": "box"}})
    writer.add(Record("t::a", "passed", {"mode": "performance"}, verdict))
    writer.close(exitstatus=0, interrupted=False, selected=1)
    return folder


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


def test_a_session_that_is_not_there_is_a_usage_error(
    pytester: pytest.Pytester,
) -> None:
    """Before the first item."""
    result = pytester.runpytest_subprocess(*RUN, "--mlperf-compare=latest")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*has no earlier session; run one without*"])


def test_an_item_that_became_slower_fails(pytester: pytest.Pytester) -> None:
    """With both figures, their ratio and what to do."""
    pytester.runpytest_subprocess(*RUN).assert_outcomes(passed=1)
    (path,) = (pytester.path / "reports").glob(f"2*/{FILE}")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    metric = lines[1]["verdict"]["metric"]
    metric["value"] *= 1000
    lines[1]["verdict"]["run"]["others_share"] = 0.0
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    result = pytester.runpytest_subprocess(
        *RUN, f"--mlperf-compare={path}", "--mlperf-fail-below=0.9"
    )
    output = result.stdout.str()

    # Beside other programs there is no answer, and an exit status that says so.
    if "inconclusive" in output:
        assert result.ret == INCONCLUSIVE
    else:
        result.assert_outcomes(failed=1)
        assert "it should be at least 0.9 of " in output


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
