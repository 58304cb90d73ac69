"""Whatever an engine says or prints: the cause is kept, and everything is bounded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_mlperf.core import error_text
from pytest_mlperf.machine import log_file
from pytest_mlperf.machine.process import name_signal
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import PARTIAL
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.runner.runner import Runner
from tests.support import doubles
from tests.support import loud_doubles

KEY = "key-0123456789abcdef"
pytestmark = pytest.mark.usefixtures("bounded")


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    runner = Runner(stall_s=30, build_s=60, log=tmp_path / "runner.log")
    yield runner
    runner.close()


def make_task(folder: Path, engine: str) -> Task:
    return doubles.make_task(folder, f"{loud_doubles.__name__}:{engine}")


def run_to_failure(runner: Runner, task: Task) -> RunFailed:
    """Run a task that must fail; what marks its folder says the same."""
    with pytest.raises(RunFailed) as caught:
        runner.run(task)
    note = json.loads((task.folder / PARTIAL).read_text())
    assert note["cause"] == caught.value.cause
    return caught.value


def test_an_exception_of_50_mb_is_cut_where_it_is_raised(
    runner: Runner, tmp_path: Path
) -> None:
    """Its beginning and its end are shown, and that something is missing."""
    failed = run_to_failure(runner, make_task(tmp_path, "RAISING_HUGE"))

    assert "phase run: RuntimeError: begin xxx" in failed.cause
    assert failed.cause.endswith("xxx end")
    assert "52,4" in failed.cause.partition("[… ")[2]
    assert len(failed.cause) < error_text.MOST_CAUSE + 200
    assert "in raising_huge" in failed.stacks
    assert len(failed.stacks) < error_text.MOST_TRACEBACK + 200


def test_an_exception_without_a_text_is_named_by_its_type(
    runner: Runner, tmp_path: Path
) -> None:
    """And its traceback shows where it came from."""
    failed = run_to_failure(runner, make_task(tmp_path, "RAISING_MUTE"))

    assert "phase run: MuteError: (its text cannot be made: " in failed.cause
    assert "in raising_mute" in failed.stacks


def test_an_end_by_a_signal_without_a_name_is_told(
    runner: Runner, tmp_path: Path
) -> None:
    """By its number, and as the distance that kill -l shows."""
    failed = run_to_failure(runner, make_task(tmp_path, "ENDED_WITHOUT_A_NAME"))

    number = int(loud_doubles.NAMELESS)
    assert failed.cause == f"the runner was ended by signal {number} (SIGRTMIN+3)"


def test_every_signal_has_words() -> None:
    """Those of Linux have a name or a number."""
    names = [name_signal(number) for number in range(1, 66)]

    assert names[8] == "SIGKILL"
    assert len(set(names)) == len(names)


def test_an_engine_that_prints_100_mb_leaves_a_bounded_log_without_keys(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure shows the last lines; the log its beginning and its end."""
    monkeypatch.setenv("SERVER_API_KEY", KEY)
    failed = run_to_failure(runner, make_task(tmp_path, "PRINTING_MUCH"))
    log = tmp_path / "runner.log"
    bounded = log.stat().st_size
    runner.close()
    log_file.close_logs(tmp_path)
    text = log.read_text()

    assert bounded <= log_file.MOST_BYTES
    assert failed.stacks.endswith("the key is $SERVER_API_KEY")
    assert failed.stacks.count("x" * 100) == log_file.SHOWN_LINES - 1
    assert "bytes left out here" in text
    assert text.endswith("the key is $SERVER_API_KEY\n")
    assert KEY not in text
