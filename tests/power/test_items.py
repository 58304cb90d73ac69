"""``--mlperf-power``: an item's two runs, its figures, and what a submission takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from pytest_mlperf.config.options import Options
from pytest_mlperf.core.power.result import PowerFigures
from pytest_mlperf.core.verdict import RETARGETED
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.cells import find_cells
from pytest_mlperf.measure.judged_run import VERDICT
from pytest_mlperf.measure.run import measure_cell
from pytest_mlperf.measure.session import MeasureSession
from tests.support.power_stand import make_config
from tests.support.power_stand import serve_director
from tests.support.power_stand import serve_ntp

REHEARSE = (
    "-k", "resnet50 and offline and performance", "--mlperf-rehearsal",
    "--mlperf-duration=1", "--mlperf-reports=out",
)  # fmt: skip


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Addresses of a director and of an NTP server."""
    with serve_ntp() as ntp:
        config = make_config(tmp_path, ntp)
        with serve_director(config, []) as port:
            yield f"127.0.0.1:{port}", ntp


def make_options(folder: Path, stand: tuple[str, str], **more: object) -> Options:
    """Return the options of a resnet50 item of null answers and 0.2 s, with power."""
    address, ntp = stand
    return Options(
        benchmark=("resnet50",), engine=("null",), duration=0.2, power=address,
        power_ntp=ntp, reports=folder / "reports", cache=folder / "cache",
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


def measure(options: Options) -> tuple[Verdict, list[Verdict], Path]:
    """Measure the one cell; return its verdict, all that were written, the reports."""
    session = MeasureSession.start(options)
    (cell,) = find_cells(options)
    verdict = measure_cell(session, cell)
    files = sorted(session.reports.glob(f"logs/*/*/{VERDICT}"))
    return verdict, [Verdict.from_json(f.read_text()) for f in files], session.reports


def read_values(folder: Path) -> dict[str, str]:
    """Return LoadGen's figures as its detail log has them."""
    text = (folder / "mlperf_log_detail.txt").read_text("utf-8")
    lines = [json.loads(line.partition(" ")[2]) for line in text.splitlines() if line]
    return {line["key"]: line["value"] for line in lines}


def read_verdict(pytester: pytest.Pytester) -> Verdict:
    (path,) = pytester.path.glob("out/2*/logs/*/performance/verdict.json")
    return Verdict.from_json(path.read_text("utf-8"))


def test_an_item_runs_twice_and_has_its_power(
    pytester: pytest.Pytester, stand: tuple[str, str]
) -> None:
    """Ranging is nobody's result; table, verdict and folder have the tested run's."""
    address, ntp = stand
    root = Path(__file__).parents[2]
    result = pytester.runpytest_subprocess(
        str(root / "suites/test_performance.py"), f"--rootdir={root}", *REHEARSE,
        f"--mlperf-power={address}", f"--mlperf-power-ntp={ntp}",
    )  # fmt: skip
    result.assert_outcomes(passed=1)
    verdict = read_verdict(pytester)
    folder = Path(verdict.folder)
    figures = PowerFigures(**verdict.run.power)  # type: ignore[arg-type]
    assert verdict.metric
    waived = {check.name for check in verdict.waived}

    result.stdout.fnmatch_lines(["*power: 230.0 W on average over *samples/s/W*"])
    assert verdict.facts["power"].startswith("230.0 W on average over ")
    assert "own power client" in verdict.labels
    assert "power_sources" in waived
    assert figures.per_watt == pytest.approx(verdict.metric.value / 230)
    assert {path.name for path in (folder / "ranging").iterdir()} == {
        "mlperf_log_detail.txt", "mlperf_log_summary.txt", "spl.txt",
    }  # fmt: skip
    assert "YokogawaWT310" in (folder / "analyzer_table.md").read_text("utf-8")
    assert list(folder.parent.glob("ranging/verdict.json")) == []


@pytest.mark.parametrize("scenario", ["singlestream", "multistream"])
def test_a_stream_has_the_energy_of_a_query(
    tmp_path: Path, stand: tuple[str, str], scenario: str
) -> None:
    """The checker's formula: watts times power_begin to power_end, over the queries;
    a query of eight samples is one query.
    """
    verdict, _, _ = measure(make_options(tmp_path, stand, scenario=(scenario,)))
    values = read_values(Path(verdict.folder))
    begin, end = (
        datetime.strptime(values[key], "%m-%d-%Y %H:%M:%S.%f")
        for key in ("power_begin", "power_end")
    )
    joules = 230 * (end - begin).total_seconds()
    expected = joules * 1000 / int(values["result_query_count"])

    assert verdict.run.power["query_mj"] == pytest.approx(expected)
    assert "per_watt" not in verdict.run.power
    assert verdict.facts["power"].endswith(" mJ a query")


def test_a_phase_is_repeated_and_a_retargeted_item_measures_both_again(
    tmp_path: Path, stand: tuple[str, str]
) -> None:
    """A tested run that is over too soon runs once more while the meter runs on. Its
    remedy is another load, and so another session: ranges are those of the load.
    """
    options = make_options(
        tmp_path, stand, scenario=("offline",), target_qps=(("offline", 1000.0),),
        retarget=True,
    )  # fmt: skip
    verdict, (first, second), reports = measure(options)
    sessions = sorted((reports / "power").iterdir())
    detail = "mlperf_log_detail.txt"

    assert first.outcome == "INVALID"
    assert first.facts["power phase"].startswith("attempt 2 of 2: min_duration: ")
    assert verdict.facts == second.facts
    assert verdict.facts[RETARGETED].startswith("retargeted: target_qps 1000.0 to ")
    assert verdict.facts[RETARGETED].endswith(first.folder)
    assert verdict.run.power["watts"] == pytest.approx(230)
    assert len(sessions) == 2
    for session, judged in zip(sessions, (first, verdict), strict=True):
        tested = (session / "run_1" / detail).read_bytes()
        assert tested == (Path(judged.folder) / detail).read_bytes()
        assert tested != (session / "ranging" / detail).read_bytes()
