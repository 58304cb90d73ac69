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
from pytest_mlperf.core.verdict import VERDICT_FILE
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.cells import find_cells
from pytest_mlperf.measure.power import find_problems
from pytest_mlperf.measure.run import measure_cell
from pytest_mlperf.measure.session import MeasureSession
from pytest_mlperf.tuning import saved
from tests.support.power_stand import make_config
from tests.support.power_stand import serve_director
from tests.support.power_stand import serve_ntp

REHEARSE = (
    "-k", "resnet50 and offline and performance", "--mlperf-rehearsal",
    "--mlperf-duration=1", "--mlperf-reports=out",
)  # fmt: skip


@pytest.fixture
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Addresses of a director, of that version of PTDaemon, and of an NTP server."""
    version = getattr(request, "param", "1.11.1")
    with serve_ntp() as ntp:
        settings = ("SIM_PERIOD_S=0.05", f"SIM_VERSION={version}")
        config = make_config(tmp_path, ntp, *settings)
        with serve_director(config, []) as port:
            yield f"127.0.0.1:{port}", ntp


def make_options(folder: Path, stand: tuple[str, str], **more: object) -> Options:
    """Return the options of a resnet50 item of null answers, with power.

    0.6 s: a busy machine keeps the simulated meter from its turn for 0.2 at times.
    """
    address, ntp = stand
    return Options(
        benchmark=("resnet50",), engine=("null",), duration=0.6, power=address,
        power_ntp=ntp, reports=folder / "reports", cache=folder / "cache",
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


def measure(options: Options) -> tuple[Verdict, list[Verdict], Path]:
    """Measure the one cell; return its verdict, all that were written, the reports."""
    session = MeasureSession.start(options)
    (cell,) = find_cells(options)
    verdict = measure_cell(session, cell)
    files = sorted(session.reports.glob(f"logs/*/*/{VERDICT_FILE}"))
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


@pytest.mark.parametrize(
    ("stand", "scenario", "round_name", "other"),
    [
        ("1.11.1", "singlestream", "v6.1", "v4.1"),
        ("1.10.0", "multistream", "v4.1", "v6.1"),
    ],
    indirect=["stand"],
)
def test_a_stream_has_the_energy_of_a_query(
    tmp_path: Path, stand: tuple[str, str], scenario: str, round_name: str, other: str
) -> None:
    """The checker's formula: watts times power_begin to power_end, over the queries;
    a query of eight samples is one query. The session is held to the run's own round:
    another one takes another version of PTDaemon.
    """
    options = make_options(
        tmp_path, stand, scenario=(scenario,), round=round_name
    )  # fmt: skip
    verdict, _, reports = measure(options)
    values = read_values(Path(verdict.folder))
    begin, end = (
        datetime.strptime(values[key], "%m-%d-%Y %H:%M:%S.%f")
        for key in ("power_begin", "power_end")
    )
    joules = 230 * (end - begin).total_seconds()
    expected = joules * 1000 / int(values["result_query_count"])
    (session,) = (reports / "power").iterdir()
    rules = {
        name: {problem.rule for problem in find_problems(session, name)}
        for name in (round_name, other)
    }

    assert verdict.run.power["query_mj"] == pytest.approx(expected)
    assert "per_watt" not in verdict.run.power
    assert verdict.facts["power"].endswith(" mJ a query")
    assert verdict.round == round_name
    assert rules == {
        round_name: {"power_sources"}, other: {"power_sources", "power_meter"},
    }  # fmt: skip
    assert {c.name for c in verdict.checks if c.name.startswith("power")} == {
        "power_sources", "power",
    }  # fmt: skip


def test_the_remedy_of_a_ranging_run_is_the_tested_run_s(
    tmp_path: Path, stand: tuple[str, str]
) -> None:
    """Ranging was over too soon; the tested run is longer at the same load, and no
    other session follows.
    """
    options = make_options(
        tmp_path, stand, scenario=("offline",), target_qps=(("offline", 1000.0),),
        retarget=True,
    )  # fmt: skip
    verdict, written, reports = measure(options)
    (session,) = (reports / "power").iterdir()
    told = verdict.facts[RETARGETED]

    assert verdict.facts["ranging run"].startswith("INVALID")
    assert [one.folder for one in written] == [verdict.folder]
    assert told.startswith("retargeted: target_qps 1000.0 to ")
    assert told.endswith("/ranging")
    assert verdict.run.power["watts"] == pytest.approx(230)
    assert (saved.read(Path(verdict.folder)).target_qps or 0) > 1000
    detail = "mlperf_log_detail.txt"
    tested = (session / "run_1" / detail).read_bytes()
    assert tested == (Path(verdict.folder) / detail).read_bytes()
    assert tested != (session / "ranging" / detail).read_bytes()
