"""Under xdist: the same story, one device a worker, one build in one place."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from pytest_mlperf.machine.devices import Device
from pytest_mlperf.reporting import results
from tests.support.newest import newest

pytest.importorskip("xdist")
from pytest_mlperf.plugin.xdist import count_room
from pytest_mlperf.plugin.xdist import is_mlperf_session

CPUS = len(os.sched_getaffinity(0))
needs_two = pytest.mark.skipif(CPUS < 2, reason="two workers need two CPUs")


@needs_two
def test_two_workers_tell_the_same_story_as_none(suite: pytest.Pytester) -> None:
    """Outcomes, header, table and results are those of a session without -n."""
    result = suite.runpytest("-n2", "--fast", "-k", "resnet50")

    result.assert_outcomes(passed=5, failed=2, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "mlperf: 8 items, at least 0:04:00, round v*",
            "*mlperf: 7 results on onnxruntime: 2 INVALID, 5 VALID (waived)*",
            "results: reports*results.jsonl",
        ]
    )
    found = newest(suite)

    assert found.end is not None
    assert found.end["counts"] == {"passed": 5, "failed": 2, "skipped": 1}
    left = {path.name for path in (suite.path / "reports" / "latest").iterdir()}
    assert left - {"report.html"} == {results.FILE}  # it is there with the extra html


@needs_two
def test_a_build_stays_with_one_worker_which_owns_one_device(
    suite: pytest.Pytester,
) -> None:
    """Items of one benchmark and target never meet two workers or devices."""
    suite.runpytest("-n2", "-k", "bert or resnet50")
    places = defaultdict(set)
    for record in newest(suite).records:
        if record.verdict:
            facts = record.verdict.facts
            key = (record.cell["benchmark"], record.cell["target"])
            places[key].add((facts["worker"], facts["device"]))

    assert len(places) == 3
    assert all(len(owners) == 1 for owners in places.values())
    assert set.union(*places.values()) == {("gw0", "0"), ("gw1", "1")}


@needs_two
@pytest.mark.parametrize(
    ("args", "is_told"),
    [
        (("-n2", "-k", "resnet50"), True),
        (("-n2", "-k", "resnet50", "--dist", "worksteal"), False),
        (("-n2", "-k", "bert or resnet50"), False),
        (("-n1", "-k", "resnet50"), False),
    ],
)
def test_a_worker_without_a_build_of_its_own_is_told(
    suite: pytest.Pytester, args: tuple[str, ...], is_told: bool
) -> None:
    """Half of the machine would idle without a word."""
    result = suite.runpytest(*args, "--fast")
    note = "mlperf: note: 1 of 2 workers idles, and keeps a share of the devices"

    assert (note in result.stdout.str()) == is_told


@needs_two
def test_one_item_is_not_told_to_spread(suite: pytest.Pytester) -> None:
    """It runs on one worker, whatever spreads."""
    result = suite.runpytest("-n2", "-k", "resnet50 and offline and performance")

    result.stdout.fnmatch_lines(["mlperf: note: 1 of 2 workers idles*"])
    result.stdout.no_fnmatch_line("*--dist worksteal*")


def test_more_workers_than_devices_is_a_usage_error(suite: pytest.Pytester) -> None:
    """Runs that share a device would spoil each other's figures."""
    result = suite.runpytest(f"-n{CPUS + 1}", "-k", "resnet50 and offline")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: -n {CPUS + 1}, *try -n auto or -n *"])
    assert not (suite.path / "reports").exists()
    result.stdout.no_fnmatch_line("created: *")  # no worker was started to learn that


def test_more_workers_than_devices_of_a_package_start_none(
    suite: pytest.Pytester,
) -> None:
    """As of a file: ``--pyargs pytest_mlperf.suites`` names one."""
    package = suite.mkdir("site") / "installed"
    package.mkdir()
    (package / "__init__.py").touch()
    (suite.path / "test_suite.py").rename(package / "test_suite.py")
    suite.syspathinsert(package.parent)
    result = suite.runpytest(f"-n{CPUS + 1}", "--pyargs", "installed")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: -n {CPUS + 1}, *try -n auto or -n *"])
    result.stdout.no_fnmatch_line("created: *")


@pytest.mark.parametrize("is_beside", [False, True], ids=["alone", "beside others"])
def test_every_item_on_every_worker_is_refused(
    suite: pytest.Pytester, is_beside: bool
) -> None:
    """All would measure at once, into one folder."""
    if is_beside:
        suite.makepyfile(test_theirs="def test_theirs(): ...")
    chosen = ["-k", "theirs or (resnet50 and offline)"]
    result = suite.runpytest("-n2", "--dist=each", *chosen)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --dist each runs every item on each of 2 *"])
    assert not (suite.path / "reports").exists()


def test_others_may_run_everything_on_every_worker(suite: pytest.Pytester) -> None:
    """Only mlperf items are in each other's way; one worker has nobody else."""
    suite.makepyfile(test_theirs="def test_theirs(): ...")
    theirs = suite.runpytest("-n2", "--dist=each", "-k", "theirs")
    alone = suite.runpytest("-n1", "--dist=each", "-k", "bert-99- and offline")

    theirs.assert_outcomes(passed=2)
    alone.assert_outcomes(passed=2)


def test_others_beside_a_suite_start_their_workers(suite: pytest.Pytester) -> None:
    """Which of them run is known once they are collected."""
    suite.makepyfile(test_theirs="def test_theirs(): ...")
    result = suite.runpytest(f"-n{CPUS + 1}", "-k", "theirs")

    result.assert_outcomes(passed=1)


def test_a_quota_limits_the_workers_as_it_limits_the_runs() -> None:
    """A container that shows 8 CPUs but may use 2 at once has room for two workers."""
    cpu = Device(0, "cpu", "CPU", tuple(range(8)), threads=2)

    assert count_room([cpu]) == (2, "usable CPUs and no GPU")
    assert count_room([replace(cpu, threads=9)]) == (8, "usable CPUs and no GPU")
    assert count_room([replace(cpu, threads=0)]) == (1, "usable CPU and no GPU")


def test_only_a_readable_file_makes_a_suite(pytester: pytest.Pytester) -> None:
    """A folder named like a test, a broken link and a suite: the suite is found."""
    pytester.mkdir("test_folder.py")
    (pytester.path / "test_link.py").symlink_to("nowhere")
    config = pytester.parseconfig(str(pytester.path))
    assert not is_mlperf_session(config)

    pytester.makepyfile(test_suite="@pytest.mark.mlperf(mode='performance')")
    assert is_mlperf_session(config)
    assert is_mlperf_session(pytester.parseconfig("test_suite.py::test_performance"))
    assert not is_mlperf_session(pytester.parseconfig("test_folder.py"))


def test_auto_is_one_worker_a_device(suite: pytest.Pytester) -> None:
    """A machine without GPU is one device, however many CPUs it has."""
    from pytest_mlperf.machine.devices import find_devices
    from pytest_mlperf.machine.system import detect_system

    result = suite.runpytest("-nauto", "-k", "resnet50 and offline")

    result.assert_outcomes(passed=2)
    count = len(find_devices(detect_system()))
    result.stdout.fnmatch_lines([f"*{count}/{count} worker*"])


def test_auto_counts_devices_whichever_plugin_is_loaded_first(
    suite: pytest.Pytester,
) -> None:
    """One worker a CPU, which is the answer of xdist, does not come before ours."""
    from pytest_mlperf.machine.devices import find_devices
    from pytest_mlperf.machine.system import detect_system

    early = ("-p", "pytest_mlperf.plugin.hooks", "-p", "xdist.plugin")
    late = ("-p", "xdist.plugin", "-p", "pytest_mlperf.plugin.hooks")
    chosen = ("-nauto", "-k", "resnet50 and offline")
    for order in (early, late):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
            patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
            result = suite.runpytest_subprocess(*order, *chosen)
        count = len(find_devices(detect_system()))

        result.stdout.fnmatch_lines([f"*{count}/{count} worker*"])


def test_a_crashed_worker_costs_one_item(suite: pytest.Pytester) -> None:
    """The item that killed its worker is an error with a row; the others run."""
    suite.makeconftest(
        """
        import os
        def pytest_runtest_call(item):
            if item.name == "test_performance[resnet50-offline-onnxruntime]":
                os._exit(1)
        """
    )
    result = suite.runpytest(
        "-n1", "-k", "resnet50 and offline or bert-99- and offline"
    )
    found = newest(suite)
    outcomes = {r.nodeid.partition("::")[2]: r.outcome for r in found.records}

    result.assert_outcomes(passed=3, failed=1)
    assert outcomes["test_performance[resnet50-offline-onnxruntime]"] == "error"
    assert list(outcomes.values()).count("passed") == 3
    crashed = next(r for r in found.records if r.outcome == "error")
    assert "crashed while running" in crashed.reason
    assert (
        crashed.cell["benchmark"],
        crashed.cell["mode"],
    ) == ("resnet50", "performance")


def test_ctrl_c_while_workers_are_started_leaves_no_folder(
    suite: pytest.Pytester,
) -> None:
    """It was made so that they know its name; no session finishes that never began."""
    suite.makeconftest(
        """
        import pytest
        @pytest.hookimpl(trylast=True)
        def pytest_configure_node(node):
            assert node.config.rootpath.joinpath("reports").is_dir()
            raise KeyboardInterrupt
        """
    )
    result = suite.runpytest_subprocess("-n1", "--mlperf-reports=reports")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert not (suite.path / "reports").exists()


def test_a_stop_at_the_last_items_failure_leaves_whole_results(
    suite: pytest.Pytester,
) -> None:
    """As Ctrl-C, xdist ends a session for -x and --maxfail; nothing is missing here."""
    result = suite.runpytest("-n1", "--maxfail=2", "-k", "resnet50 and server")
    found = newest(suite)

    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert [record.outcome for record in found.records] == ["failed", "failed"]
    assert not found.is_interrupted
    result.stdout.no_fnmatch_line("*partial: interrupted*")


def test_an_empty_selection_is_explained_by_the_controller(
    suite: pytest.Pytester,
) -> None:
    """Only the workers know that there were cells; the terminal says it too."""
    result = suite.runpytest("-n1", "-k", "bert and multistream")

    result.stdout.fnmatch_lines(["mlperf: nothing selected; *bert multistream*"])


def test_other_peoples_sessions_keep_xdists_scheduler(
    pytester: pytest.Pytester,
) -> None:
    """Nothing changes where no suite is named: not the scheduler, not the limit."""
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.parametrize("n", range(8))
        def test_theirs(n): ...
        """
    )
    result = pytester.runpytest(f"-n{CPUS + 1}", "-v")

    result.assert_outcomes(passed=8)
    result.stdout.fnmatch_lines(["scheduling tests via LoadScheduling"])
    assert not any("mlperf:" in line for line in result.outlines)
    assert not (pytester.path / "reports").exists()


BESIDE = """
import json, os, time
from pathlib import Path
import pytest
from pytest_mlperf.runner.runner import Runner

run = Runner.run

def noted(self, job, on_beat=lambda _: None):
    began = time.monotonic()
    try:
        return run(self, job, on_beat)
    finally:
        line = [len(job.cpus), len(job.slots), began, time.monotonic(), os.getpid()]
        with Path("NOTES").open("a") as file:
            file.write(json.dumps(line) + "\\n")

Runner.run = noted
"""
MIXED = """
import pytest

@pytest.mark.mlperf(mode="accuracy", scenario="offline")
def test_accuracy(cell, measure):
    assert measure(cell).outcome

@pytest.mark.mlperf(mode="performance", scenario="offline", devices="all")
def test_all_performance(cell, measure):
    assert measure(cell).outcome

@pytest.mark.mlperf(mode="performance", scenario="offline", devices=DEVICES)
def test_performance(cell, measure):
    assert measure(cell).outcome
"""


@needs_two
def test_an_item_of_all_devices_runs_beside_no_other(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers with a CPU each; who wants both CPUs, as one device or as two, has
    them while nobody else measures, and the others go side by side.
    """
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    notes = pytester.path / "notes.jsonl"
    pytester.makeconftest(BESIDE.replace("NOTES", str(notes)))
    pytester.makepyfile(test_suite=MIXED.replace("DEVICES", str(CPUS)))
    engines = (
        "--mlperf-engine=tests.support.doubles:SLOW_BATCH,tests.support.doubles:COLD"
    )
    result = pytester.runpytest_subprocess(
        "-n2", engines, "--mlperf-duration=1", "-k", "resnet50"
    )
    runs = [json.loads(line) for line in notes.read_text().splitlines()]
    wide = [one for one in runs if one[0] == CPUS]
    overlaps = [
        (first, second)
        for first, second in combinations(runs, 2)
        if first[2] < second[3] and second[2] < first[3]
    ]

    result.assert_outcomes(passed=6)
    assert sorted(one[1] for one in wide) == [0, 0, CPUS, CPUS]
    assert len({one[4] for one in runs}) == 2
    assert not any(one in wide for pair in overlaps for one in pair)
    assert not list((pytester.path / "reports" / "latest").glob(".l*"))
