"""Tests of ``tuning.json``: what was written is read, and what is damaged is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_mlperf.api.engine import Streams
from pytest_mlperf.core.load_trials import LoadTrial
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.runner.runner import Runner
from pytest_mlperf.sut.tuned_load import ServiceTuned
from pytest_mlperf.sut.tuned_load import Tuned
from pytest_mlperf.sut.tuned_load import TunedLoad
from pytest_mlperf.tuning import saved
from tests.support import doubles

TRIAL = LoadTrial(90.0, 10.0, 0.8, queries=900, late=3)
ENGINES = Tuned(
    Streams(2, 4), 8, 0.001, (4, 8), target_qps=100.0, queries=270, probed_share=0.9,
    hopeless="none", note="probed", trials=(TRIAL,),
)  # fmt: skip
SERVICES = ServiceTuned(16, expected_latency_ns=5, loop_rate=7.5, trials=(TRIAL,))
OLDER = {"streams": {"count": 1, "threads": 2}, "batch": 4, "preferred": []}


@pytest.mark.parametrize("tuned", [ENGINES, SERVICES])
def test_a_tuning_is_read_as_it_was_written(tmp_path: Path, tuned: TunedLoad) -> None:
    """An engine's has streams, a service's has none."""
    saved.write(tmp_path, tuned)

    assert saved.read(tmp_path) == tuned


def test_a_tuning_of_an_older_version_is_read(tmp_path: Path) -> None:
    """It listed no trials; what it does not say is left open."""
    (tmp_path / saved.FILE).write_text(json.dumps(OLDER))

    assert saved.read(tmp_path) == Tuned(Streams(1, 2), 4)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"concurrency": 4, "pace": 2}', '{"streams": 2, "batch": 1}',
        json.dumps({**OLDER, "trials": [4]}),
    ],
)  # fmt: skip
def test_what_is_no_tuning_is_said(tmp_path: Path, text: str) -> None:
    """Its readers go on without it, or refuse the run; a TypeError ended it."""
    (tmp_path / saved.FILE).write_text(text)
    with pytest.raises(ValueError, match=r"no tuning of this version|Expecting value"):
        saved.read(tmp_path)


def test_another_load_has_no_findings_of_the_one_before() -> None:
    """How late a trial was, and how many queries that needs, belongs to its load."""
    other = ENGINES.at_load(50.0)

    assert other.target_qps == 50.0
    assert (other.queries, other.probed_share, other.hopeless) == (None, None, "")
    assert (other.streams, other.batch, other.trials) == (Streams(2, 4), 8, (TRIAL,))


def test_an_engine_does_not_run_as_a_service_was_tuned(tmp_path: Path) -> None:
    """A file of an edited folder may say so; no engine has a concurrency."""
    runner = Runner(stall_s=30, build_s=60)
    said = "has the tuning of a service, and should have that of an engine; run both"
    with pytest.raises(RunFailed, match=said):
        runner.run(doubles.make_task(tmp_path, tuned=ServiceTuned(4)))
    runner.close()
