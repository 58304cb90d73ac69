"""``--mlperf-power``: an item's two runs, its figures, and what a submission takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_mlperf.core.power.result import PowerFigures
from pytest_mlperf.core.verdict import Verdict
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
