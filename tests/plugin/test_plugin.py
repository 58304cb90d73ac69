"""The plugin inside pytest: selection, verdicts, reports, other people's sessions."""

from __future__ import annotations

import os
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from pytest_mlperf.reporting import results
from tests.support.newest import newest

ROOT = Path(__file__).resolve().parents[2]


def test_every_cell_is_listed_with_a_readable_id(suite: pytest.Pytester) -> None:
    """Performance and accuracy of a cell are neighbours; listing leaves no folder."""
    result = suite.runpytest("--collect-only", "-q")

    result.stdout.fnmatch_lines(
        [
            "test_suite.py::test_performance[[]bert-99-server-onnxruntime[]]",
            "test_suite.py::test_accuracy[[]bert-99-server-onnxruntime[]]",
            "test_suite.py::test_performance[[]resnet50-multistream-onnxruntime[]]",
        ]
    )
    assert not (suite.path / "reports").exists()


def test_listing_says_how_long_the_items_would_take(suite: pytest.Pytester) -> None:
    """And how many of them skip at once; of programs' lists (-q) each line is an id."""
    chosen = ("--benchmarks=resnet50,wan-2.2", "--scenarios=offline", "--collect-only")
    result = suite.runpytest(*chosen)
    quiet = suite.runpytest(*chosen, "-q")

    result.stdout.fnmatch_lines(
        [
            "mlperf: 4 items, at least 0:10:00, round v6.1",
            "mlperf: 2 of them skip: no installed package runs the benchmark",
            "*<Function test_performance*",
        ]
    )
    quiet.stdout.no_fnmatch_line("mlperf: *")
    assert not (suite.path / "reports").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-k", "bert and server and performance"], 2),
        (["-k", "resnet50 and not offline"], 6),
        (["-m", "bert and server"], 4),
        (["-m", "resnet and offline and accuracy"], 1),
        (["-m", "mlperf(benchmark='bert', scenario='server')"], 4),
        (["-m", "mlperf(benchmark='resnet')"], 8),
        (["-m", "mlperf(benchmark='bert-99', mode='accuracy')"], 3),
        (["--mlperf-engine", "null,onnxruntime", "-m", "null and bert"], 12),
        (["test_suite.py::test_performance[resnet-offline-onnxruntime]"], 1),
        (["test_suite.py::test_performance[resnet50-Offline-onnxruntime]"], 1),
    ],
)
def test_selection_is_what_a_pytest_user_expects(
    suite: pytest.Pytester, arguments: list[str], expected: int
) -> None:
    """Keywords, marks, aliases and ids pick the same cells, under strict markers."""
    result = suite.runpytest("--collect-only", "-q", "--strict-markers", *arguments)
    listed = [line for line in result.outlines if "::" in line]

    assert expected == len(listed)


def test_devices_of_a_mark_select_nothing_and_are_looked_at_while_collecting(
    suite: pytest.Pytester,
) -> None:
    """How many devices an item takes is no property of its cell."""
    path = suite.path / "test_suite.py"
    text = path.read_text()
    for devices, expected in (("'all'", 0), ("2", 0), ("'many'", 1)):
        changed = text.replace(
            'mode="performance"', f'mode="performance", devices={devices}'
        )
        assert changed != text
        path.write_text(changed)
        result = suite.runpytest("--collect-only", "-q", "-k", "resnet50")

        result.assert_outcomes(errors=expected)
        if expected:
            result.stdout.fnmatch_lines(
                ["*devices='many', but should be a whole number of at least 1, or all"]
            )


def test_more_devices_for_each_item_than_there_are_is_a_usage_error(
    suite: pytest.Pytester,
) -> None:
    """Before anything runs."""
    result = suite.runpytest("--mlperf-devices-per-item=4096", "-k", "resnet50")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: an item is to take 4096 devices, but *"])
    assert not (suite.path / "reports").exists()


def test_an_empty_selection_says_which_cells_no_round_has(
    suite: pytest.Pytester,
) -> None:
    """Bert has no MultiStream in any round; the terminal says so."""
    result = suite.runpytest("-k", "bert and multistream")

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["mlperf: nothing selected; *bert multistream*"])


@pytest.mark.parametrize(
    ("args", "typed", "meant"),
    [
        (["-k", "brt and offline"], "brt", "bert"),
        (["-k", "bert and ofline"], "ofline", "offline"),
        (["-k", "wisper"], "wisper", "whisper"),
        (["-m", "ofline"], "ofline", "offline"),
    ],
)
def test_a_misspelt_word_that_selects_nothing_is_named(
    suite: pytest.Pytester, args: list[str], typed: str, meant: str
) -> None:
    """The list of what no round has would not help."""
    result = suite.runpytest(*args)

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    line = f"mlperf: nothing selected; no item is named {typed!r}."
    result.stdout.fnmatch_lines([f"{line} Did you mean {meant!r}?"])


def test_verdicts_become_outcomes_table_header_and_results(
    suite: pytest.Pytester,
) -> None:
    """A session tells the same story in the terminal and in results.jsonl."""
    result = suite.runpytest("--fast", "-k", "resnet50")

    result.assert_outcomes(passed=5, failed=2, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "mlperf: 8 items, at least 0:04:00, round v*",
            "mlperf: engine onnxruntime; workload embedded*",
            "mlperf: fast: 60 s *",
            "*mlperf: 7 results on onnxruntime: 2 INVALID, 5 VALID (waived)*",
            "results: reports*results.jsonl",
        ]
    )
    found = newest(suite)

    assert found.header["options"]["fast"]
    assert found.end is not None
    assert found.end["counts"] == {"passed": 5, "failed": 2, "skipped": 1}
    assert not found.end["interrupted"]
    skipped = next(r for r in found.records if r.outcome == "skipped")
    assert skipped.reason == "no such device; install one"
    assert skipped.cell["scenario"] == "multistream"


def test_a_session_that_measured_nothing_says_so(suite: pytest.Pytester) -> None:
    """Where every item was skipped, one line stands for the table."""
    result = suite.runpytest("-k", "resnet50 and multistream and performance")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        [
            "mlperf: 1 item skipped, nothing was measured; -rs says why",
            "results: reports*results.jsonl",
        ]
    )


def test_the_header_notes_what_could_not_be_found_out(suite: pytest.Pytester) -> None:
    """A name that no system file has is used, and said."""
    result = suite.runpytest("--mlperf-system=nowhere", "-k", "resnet50 and offline")

    result.stdout.fnmatch_lines(
        [
            "mlperf: 2 items, at least 0:10:00, round v*",
            "mlperf: note: no system file is named 'nowhere'*",
        ]
    )


THEIRS = """
class Old:
    precisions, batches = ("fp32",), (1,)
    def unavailable(self): ...
    def build(self, request): ...
    def open(self, build, threads): ...
    def layouts(self, cpus): ...
OLD, NUMBER = Old(), 1
"""


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("gone:ENGINE", "ModuleNotFoundError: No module named 'gone'"),
        ("theirs:TYPO", "AttributeError: module 'theirs' has no attribute 'TYPO'"),
        ("broken:ENGINE", "ZeroDivisionError: division by zero"),
        ("theirs:NUMBER", "is without unavailable(), but should be an object"),
        ("theirs:OLD", "is without answers, but should be an object*attributes"),
        ("pytest_mlperf.engines.null:NullProvider", "is a class, but should be an"),
    ],
)
def test_an_engine_in_development_is_looked_at_while_collecting(
    suite: pytest.Pytester, spec: str, said: str
) -> None:
    """What cannot be an engine is one error, and no item runs."""
    suite.makepyfile(theirs=THEIRS, broken="1 / 0")
    result = suite.runpytest_subprocess(f"--mlperf-engine={spec}", "-k", "resnet50")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"--mlperf-engine: engine *{said}*"])
    assert not (suite.path / "reports").exists()


def test_last_failed_reruns_the_invalid_cells_only(suite: pytest.Pytester) -> None:
    """``--lf`` after a session with two INVALID cells runs those two."""
    suite.runpytest("-k", "resnet50")
    result = suite.runpytest("--lf")

    result.assert_outcomes(failed=2)


def test_exitfirst_leaves_a_complete_file_of_what_ran(suite: pytest.Pytester) -> None:
    """``-x`` ends the file properly; what did not run is the difference."""
    suite.runpytest("-x", "-k", "resnet50 and server")
    end = newest(suite).end

    assert end is not None
    assert (end["recorded"], end["selected"]) == (1, 2)


def test_an_interrupt_keeps_the_results_and_marks_them_partial(
    suite: pytest.Pytester,
) -> None:
    """Ctrl-C in the second item: the first is kept, the second is interrupted."""
    suite.makeconftest(
        """
        def pytest_runtest_call(item):
            if "accuracy" in item.name:
                raise KeyboardInterrupt
        """
    )
    result = suite.runpytest_subprocess("-k", "resnet50 and offline")
    found = newest(suite)

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["results: *(partial: interrupted)"])
    assert [record.outcome for record in found.records] == ["passed", "interrupted"]
    assert found.end is not None
    assert found.end["interrupted"]


def test_a_second_ctrl_c_does_not_hide_the_first(suite: pytest.Pytester) -> None:
    """It comes while pytest deals with the first one, whose exit status is then 0."""
    suite.makeconftest(
        """
        def pytest_runtest_call(item):
            if "accuracy" in item.name:
                raise KeyboardInterrupt

        def pytest_keyboard_interrupt():
            raise KeyboardInterrupt
        """
    )
    suite.runpytest_subprocess("-k", "resnet50 and offline")
    end = newest(suite).end

    assert end is not None
    assert (end["interrupted"], end["exitstatus"]) == (True, 2)


def test_items_that_never_ran_make_a_session_partial(suite: pytest.Pytester) -> None:
    """Whatever ended it between two items, and with whatever exit status."""
    suite.makeconftest(
        """
        import pytest

        def pytest_runtest_logfinish(nodeid):
            pytest.exit("enough", returncode=0)
        """
    )
    result = suite.runpytest_subprocess("-k", "resnet50 and offline")
    found = newest(suite)

    assert [record.outcome for record in found.records] == ["passed"]
    assert found.is_interrupted
    result.stdout.fnmatch_lines(["results: *(partial: interrupted)"])


FULL_DISK = """
import resource, signal
from pathlib import Path
import pytest

def pytest_runtest_logreport(report):
    if report.when == "call":
        file = Path("reports/latest/results.jsonl")
        limit = file.stat().st_size + 40
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    if ROOM:
        room = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_FSIZE, room)
"""


@pytest.mark.parametrize("room", [True, False], ids=["room later", "full"])
def test_a_full_disk_loses_no_item(suite: pytest.Pytester, room: bool) -> None:
    """All run and are in the table; the file has all of them, or the session says
    that it has not, and fails.
    """
    suite.makeconftest(f"ROOM = {room}\n{FULL_DISK}")
    # The limit holds for the output's file too, so the results' header is longer.
    chosen = f"resnet50 and (offline or singlestream) and not {'x' * 20_000}"
    result = suite.runpytest_subprocess("-k", chosen, "-p", "no:cacheprovider")
    path = suite.path / "reports" / "latest" / results.FILE
    found = results.read_results(path, allow_partial=True)

    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*mlperf: 4 results*4 VALID*"])
    assert result.ret == (pytest.ExitCode.OK if room else pytest.ExitCode.TESTS_FAILED)
    assert len(found.records) == (4 if room else 0)
    assert found.is_torn is not room
    if not room:
        result.stdout.fnmatch_lines(
            ["results: 5 lines could not be written to results.jsonl: File too large*"]
        )


def test_junit_carries_the_verdict_and_its_headline(suite: pytest.Pytester) -> None:
    """A dashboard finds outcome, value and unit as properties of the test case."""
    suite.runpytest("--junitxml=junit.xml", "-k", "bert-99- and offline")
    tree = ET.parse(suite.path / "junit.xml")  # noqa: S314 - our own file
    case = next(tree.iter("testcase"))
    found = {p.get("name"): p.get("value") for p in case.iter("property")}

    assert found["mlperf.outcome"] == "VALID"
    assert (found["mlperf.value"], found["mlperf.unit"]) == ("68.5", "samples/s")
    assert found["mlperf.labels"] == "embedded"


@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["alone", "xdist"])
def test_a_junit_file_on_a_full_disk_costs_no_table(
    suite: pytest.Pytester, workers: list[str]
) -> None:
    """The file is written last; the error ended the session before our summary."""
    chosen = ["-k", "bert-99- and offline and performance", *workers]
    result = suite.runpytest_subprocess("--junitxml=/dev/full", *chosen)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "Traceback" not in result.stderr.str()
    result.stdout.fnmatch_lines(
        [
            "*mlperf: 1 result*1 VALID*",
            "results: *",
            "_pytest.junitxml (--junitxml) could not write its file: *No space left*",
        ]
    )


def test_another_plugins_failure_at_the_end_is_not_ours(
    pytester: pytest.Pytester,
) -> None:
    """A session without mlperf items is as it is without this plugin."""
    pytester.makepyfile("def test_theirs(): ...")
    result = pytester.runpytest_subprocess("--junitxml=/dev/full")

    assert "No space left on device" in result.stderr.str()
    assert "Traceback" in result.stderr.str()


def test_a_failed_item_of_the_installed_suites_can_be_selected_again(
    pytester: pytest.Pytester,
) -> None:
    """The id that pytest prints, ``test_accuracy.py::…``, is no file of the user's.

    A clone's suites are put where a wheel has them.
    """
    pytester.makeconftest(
        f"import pytest_mlperf; pytest_mlperf.__path__.append({str(ROOT)!r})"
    )
    options = ("--mlperf-engine=null", "--mlperf-duration=0.2")
    first = pytester.runpytest_subprocess(
        "--pyargs", "pytest_mlperf.suites", *options, "-k", "resnet50 and offline"
    )
    (line,) = (x for x in first.outlines if x.startswith("again: "))
    command, _, rest = line.removeprefix("again: pytest ").partition(" and the same")
    again = pytester.runpytest_subprocess(*shlex.split(command), *options)
    failed = pytester.runpytest_subprocess(
        "--pyargs", "pytest_mlperf.suites", *options, "-k", "resnet50", "--lf"
    )

    first.assert_outcomes(passed=1, failed=1)
    assert "::test_accuracy[resnet50-offline-null]" in command
    again.assert_outcomes(failed=1)
    assert rest.endswith("--lf")
    failed.assert_outcomes(failed=1)


def test_a_reports_folder_that_cannot_be_made_is_a_usage_error(
    suite: pytest.Pytester,
) -> None:
    """Before anything runs, the user hears which folder and which option."""
    (suite.path / "file").touch()
    result = suite.runpytest("--mlperf-reports", "file", "-k", "resnet50")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: the reports folder*--mlperf-reports DIR"])


def test_a_mode_that_does_not_exist_is_named_with_the_legal_ones(
    pytester: pytest.Pytester,
) -> None:
    """An author's slip in the mark is explained where the function stands."""
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.mlperf(mode="speed")
        def test_performance(cell): ...
        """
    )
    result = pytester.runpytest()

    result.stdout.fnmatch_lines(["*mode='speed', but should be one of performance*"])


def test_a_mark_narrows_the_cells_of_its_function(pytester: pytest.Pytester) -> None:
    """A suite of one's own can name a benchmark, by alias too, and a scenario."""
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.mlperf(mode="accuracy", benchmark="resnet", scenario="offline")
        def test_mine(cell): ...
        """
    )
    result = pytester.runpytest("--collect-only", "-q")

    result.stdout.fnmatch_lines(["*::test_mine[[]resnet50-offline-onnxruntime[]]"])
    result.stdout.fnmatch_lines(["1 test collected*"])


def test_other_peoples_sessions_are_left_alone(pytester: pytest.Pytester) -> None:
    """Their ``cell`` fixture works; no header, no folder, no table."""
    pytester.makepyfile(
        """
        import pytest
        @pytest.fixture
        def cell(): return "theirs"
        @pytest.mark.parametrize("kind", ["server-1", "offline"])
        def test_theirs(cell, kind): assert cell == "theirs"
        """
    )
    result = pytester.runpytest("-v")

    result.assert_outcomes(passed=2)
    assert not any("mlperf:" in line for line in result.outlines)
    assert not (pytester.path / "reports").exists()


def test_measure_without_a_mode_says_what_to_write(pytester: pytest.Pytester) -> None:
    """The mark tells the fixture what to measure; a test without one has no mode."""
    pytester.makepyfile("def test_mine(measure): measure(None)")
    result = pytester.runpytest_subprocess()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*::test_mine: measuring needs * @pytest.mark.mlperf(mode='performance')"]
    )


def test_a_foreign_item_whose_id_holds_a_cells_is_left_alone(
    suite: pytest.Pytester,
) -> None:
    """It runs in the same session, and gets neither a row nor a line."""
    suite.makepyfile(
        test_theirs="""
        import pytest
        @pytest.mark.parametrize("name", ["resnet50-offline-onnxruntime"])
        def test_theirs(name): assert not name
        """
    )
    result = suite.runpytest("-k", "resnet50 and offline")

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*mlperf: 2 results on onnxruntime: 2 VALID*"])
    assert len(newest(suite).records) == 2


BROKEN = """
[pytest_mlperf.benchmarks]
broken = nowhere_to_be_found:BENCHMARK
"""


def install_broken(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a package on the path whose benchmark cannot be imported."""
    metadata = pytester.mkdir("theirs-1.dist-info")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\n")
    (metadata / "entry_points.txt").write_text(BROKEN)
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)


def test_a_benchmark_that_is_broken_is_one_line(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no traceback of this plugin for each of its suites."""
    install_broken(pytester, monkeypatch)
    result = pytester.runpytest_subprocess(str(ROOT / "suites"), "--collect-only")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["benchmark 'broken' cannot be imported from nowhere_to_be_found:BENCHMARK: *"]
    )
    result.stdout.no_fnmatch_line("*registry.py*")


@pytest.mark.parametrize(
    "argument", ["test_theirs.py::test_theirs[offline]", "--markers", "-n1"]
)
def test_other_peoples_sessions_survive_a_home_and_a_benchmark_that_are_broken(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    """Neither a missing home, a folder nobody may read, nor a package stops them."""
    pytester.makepyfile(
        test_theirs="""
        import pytest
        @pytest.mark.parametrize("place", ["offline"])
        def test_theirs(place): ...
        """
    )
    install_broken(pytester, monkeypatch)
    pytester.mkdir("reports").chmod(0)
    monkeypatch.setenv("HOME", "~nobody_of_this_name")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("MLPERF_SCRATCH_PATH", "~nobody_of_this_name/models")
    monkeypatch.setenv("SYSTEM_NAME", "  ")
    result = pytester.runpytest_subprocess(argument)

    assert result.ret == pytest.ExitCode.OK
    result.stderr.no_fnmatch_line("*mlperf*")


def test_the_plugin_does_not_import_heavy_packages(pytester: pytest.Pytester) -> None:
    """A session without mlperf items imports neither numpy nor LoadGen for us."""
    script = pytester.makepyfile(
        check="""
        import sys
        import pytest_mlperf.plugin.hooks
        heavy = {"numpy", "onnxruntime", "mlperf_loadgen", "scipy", "xdist"}
        print(sorted(heavy & set(sys.modules)))
        """
    )
    result = pytester.runpython(script)

    assert result.outlines == ["[]"]


def test_reports_of_one_second_do_not_share_a_folder(suite: pytest.Pytester) -> None:
    """Sessions in quick succession each have a folder; ``latest`` is the last."""
    for _ in range(3):
        suite.runpytest("-k", "bert-99- and offline")
    folders = [p for p in (suite.path / "reports").iterdir() if not p.is_symlink()]

    assert len(folders) == 3
    assert max(folders, key=lambda p: p.stat().st_mtime_ns) == (
        Path(suite.path / "reports" / "latest").resolve()
    )
