"""What a user names exists, or the session says so; nothing measured is no success."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from contextlib import closing
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.config.options import Given
from pytest_mlperf.config.options import Options
from pytest_mlperf.machine.ports import find_free_port
from pytest_mlperf.measure.cells import find_cells
from pytest_mlperf.measure.named import check_named
from pytest_mlperf.measure.named import find_unavailable
from pytest_mlperf.measure.session import MeasureSession
from pytest_mlperf.plugin.mark_arguments import refuse_unknown_arguments
from pytest_mlperf.plugin.report import NOT_ALL_MEASURED
from pytest_mlperf.plugin.report import NOTHING_MEASURED
from tests.support.newest import newest
from tests.support.source import ROOT

ITEM = """
import pytest
@pytest.mark.mlperf(mode="performance", benchmark="resnet50", scenario="offline")
def test_offline(cell, measure):
    measure()
"""
SKIPPED = """
import pytest
@pytest.mark.mlperf(mode="performance", benchmark="dlrm-v3", scenario="offline")
def test_offline(cell, measure):
    measure()
"""
ABSENT = """
class Card:
    precisions, batches, answers = ("fp32",), (1,), False
    def unavailable(self):
        return "no card is plugged in; plug one in"
    def build(self, request): ...
    def open(self, build, threads): ...
    def layouts(self, cpus): ...

CARD = Card()
"""


def test_a_mistyped_word_is_named_where_our_tests_packages_are_not_installed(
    tmp_path: Path,
) -> None:
    """A clone's tests/conftest.py is loaded for any word that is no path."""
    (tmp_path / "hypothesis.py").write_text("raise ImportError('not installed')")
    wrong = ["-p", "no:hypothesispytest", "--mlperf-treads", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *wrong], cwd=ROOT, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "unrecognized arguments: --mlperf-treads" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--mlperf-engin=torch"], "*--mlperf-engin: Did you mean '--mlperf-engine'?"),
        (["--mlpref-batch=4"], "*--mlpref-batch: Did you mean '--mlperf-batch'?"),
        (["--mlperf-nonsense"], "*--mlperf-nonsense: pytest --help lists all *"),
        (["--mlperf-duration=10m"], "*'10m', but should be a number above 0, in sec*"),
        (["--mlperf-fail-below=95"], "*'95', but should be a share above 0 and at *"),
        (
            [
                "--mlperf-submission=ACME", "--mlperf-division=open",
                "--mlperf-category=edge", "--mlperf-checker=nowhere",
            ],
            "ERROR: --mlperf-checker: *nowhere has no tools/submission/*; give a *",
        ),
    ],
)  # fmt: skip
def test_a_wrong_option_says_what_it_should_be(
    pytester: pytest.Pytester, arguments: list[str], text: str
) -> None:
    """Before anything runs: a submission takes hours."""
    pytester.makepyfile(ITEM)
    result = pytester.runpytest_subprocess(*arguments)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([text])
    assert not (pytester.path / "reports").exists()


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("mlperf(benchmrk='bert')", "has benchmrk=, *Did you mean 'benchmark'?"),
        ("mlperf(benchmark='brt')", "has benchmark='brt', *Did you mean 'bert'?"),
        ('mlperf(scenario="ofline")', "has scenario='ofline', *mean 'offline'?"),
    ],
)
def test_a_mark_that_selects_nothing_says_why(
    pytester: pytest.Pytester, expression: str, text: str
) -> None:
    """The items have that mark; what is wrong is in its brackets."""
    pytester.makepyfile(ITEM)
    result = pytester.runpytest("-m", expression)

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines([f"mlperf: nothing selected; -m: mlperf mark {text}"])


def test_an_engine_that_cannot_be_imported_is_a_usage_error(
    pytester: pytest.Pytester,
) -> None:
    """Pytest calls errors while collecting an interruption; so is Ctrl-C."""
    pytester.makepyfile(ITEM)
    result = pytester.runpytest("--mlperf-engine=nowhere:X")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*engine 'nowhere:X' cannot be imported*"])
    result.stdout.no_fnmatch_line("mlperf: nothing selected*")


@pytest.fixture
def options(pytester: pytest.Pytester) -> Options:
    here = pytester.path
    return Options.from_given({}, here=here, root=here, environ={})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"benchmrk": "resnet50"}, ["has benchmrk=", "Did you mean 'benchmark'?"]),
        ({"benchmark": "resnet5O"}, ["benchmark='resnet5O'", "Did you mean"]),
        ({"scenario": "ofline"}, ["scenario='ofline'", "Did you mean 'offline'?"]),
        ({"engine": "onnx"}, ["engine='onnx'", "onnxruntime"]),
        ({"target": 99}, ["target=99", "99, 99.9"]),
        ({"round": "v6.2"}, ["round='v6.2'", "v6.1"]),
        ({"audit": "TEST02"}, ["audit='TEST02'", "TEST01"]),
    ],
)
def test_an_argument_that_no_item_can_have_is_refused(
    options: Options, asked: dict[str, Any], words: list[str]
) -> None:
    """With the name that was meant."""
    with pytest.raises(pytest.UsageError) as caught:
        refuse_unknown_arguments(asked, "a.py::t", options, ["devices"], ["TEST01"])

    assert [word for word in ["a.py::t", *words] if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    "asked",
    [
        {"mode": "performance", "devices": "all"},
        {"benchmark": "resnet", "scenario": "server"},
        {"benchmark": "bert", "target": "99.9", "engine": "endpoint"},
        {"round": "v5.1", "audit": "TEST01"},
    ],
)
def test_arguments_that_items_have_are_not(
    options: Options, asked: dict[str, Any]
) -> None:
    """Aliases and providers that this session does not use among them."""
    refuse_unknown_arguments(asked, "a.py::t", options, ["devices"], ["TEST01"])


def test_a_misspelt_mark_is_an_error_of_the_session(pytester: pytest.Pytester) -> None:
    """It was a skipped item, and green."""
    pytester.makepyfile(ITEM.replace("benchmark=", "benchmrk="))
    result = pytester.runpytest_subprocess()

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*mlperf mark has benchmrk=*"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mlperf-scratch", "nowhere"], "nowhere: no such folder, but*"),
        (["--mlperf-threads", "9999"], "--mlperf-threads 9999: this machine gives*"),
        (
            ["--mlperf-precision", "int7"],
            "--mlperf-precision int7: no precision of onnx*int8*",
        ),
        (
            ["--mlperf-engine", "absent:CARD"],
            "--mlperf-engine absent:CARD: no card is plugged in; plug one in",
        ),
        (
            ["--mlperf-engine-options", "provder=cuda"],
            "--mlperf-engine-options provder=cuda: no engine*Did you mean 'provider'?",
        ),
        (["--mlperf-provider", "nosuch"], "*has no execution provider 'nosuch'; here*"),
    ],
)
def test_what_no_item_can_have_ends_the_session_before_the_first(
    pytester: pytest.Pytester, arguments: list[str], words: str
) -> None:
    """No folder is made, nothing is run."""
    pytester.makepyfile(ITEM)
    pytester.makepyfile(absent=ABSENT)
    result = pytester.runpytest_subprocess(*arguments)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{words}"])
    assert not (pytester.path / "reports").exists()


def test_nothing_measured_has_an_exit_status_of_its_own(
    pytester: pytest.Pytester,
) -> None:
    """In the results too. A session with other tests is judged by those."""
    pytester.makepyfile(test_a=SKIPPED)
    alone = pytester.runpytest_subprocess()
    end = newest(pytester).end
    pytester.makepyfile(test_b="def test_b(): pass")
    beside = pytester.runpytest_subprocess()

    assert alone.ret == NOTHING_MEASURED
    assert end is not None
    assert end["exitstatus"] == NOTHING_MEASURED
    assert beside.ret == pytest.ExitCode.OK


def test_a_word_that_no_item_has_is_named(pytester: pytest.Pytester) -> None:
    """Not the combinations that no round has, which have nothing to do with it."""
    pytester.makepyfile(ITEM)
    result = pytester.runpytest_subprocess("-k", "offline and nosuch")

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(
        ["mlperf: nothing selected; no item is named 'nosuch'.*--collect-only -q *"]
    )
    assert "no round has" not in str(result.stdout)


LLM = """
import pytest
@pytest.mark.mlperf(mode="performance", benchmark="llama3.1-8b", scenario="offline")
def test_offline(cell, measure):
    measure()
"""


def test_an_endpoint_that_nobody_listens_at_ends_the_session(
    pytester: pytest.Pytester,
) -> None:
    """Whatever else is missing; of other benchmarks' items nobody asks it."""
    url = f"http://127.0.0.1:{find_free_port()}"
    pytester.makepyfile(LLM)
    result = pytester.runpytest_subprocess("--mlperf-endpoint", url)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {url}/health: nobody answers*start the*"])
    assert not (pytester.path / "reports").exists()


def test_a_precision_that_the_embedded_server_has_not_is_refused(
    tmp_path: Path,
) -> None:
    """An attached server's precision is its own affair: there it is only a name."""
    given = {"precision": Given("int7", "--mlperf-precision", is_typed=True)}
    chosen = Options.from_given(given, here=tmp_path, root=tmp_path, environ={})
    session = MeasureSession.start(chosen, folder=tmp_path)
    cells = [c for c in find_cells(chosen) if c.benchmark == "llama3.1-8b"]
    with pytest.raises(
        ValueError, match="int7: no precision of endpoint; it should be"
    ):
        check_named(session, cells, names_engine=False)

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        attached = replace(chosen, endpoint=(url,), precision="fp4")
        elsewhere = replace(session, options=attached)
        threading.Thread(target=answer_once, args=(server,), daemon=True).start()
        check_named(elsewhere, cells, names_engine=False)


def answer_once(server: socket.socket) -> None:
    connected, _ = server.accept()
    with connected:
        connected.recv(1 << 16)
        connected.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


ENGINES = """
import os
from tests.support.doubles import ECHO, Double

class Heavy(Double):
    checks_in_own_process = True
    def unavailable(self):
        print("a framework greets")
        assert "PYTEST_CURRENT_TEST" not in os.environ or os.getppid() == {pid}
        return self.absent

class Dying(Heavy):
    def unavailable(self):
        os.write(2, b"no driver\\n")
        os._exit(5)

PRESENT = Heavy(ECHO.call)
ABSENT = Heavy(ECHO.call, absent="no card; buy one")
BROKEN = Dying(ECHO.call)
"""


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("PRESENT", ""),
        ("ABSENT", "--mlperf-engine heavy:ABSENT: no card; buy one"),
        ("BROKEN", "--mlperf-engine heavy:BROKEN: asking*ended with 5: no driver"),
    ],
)
def test_an_engine_with_a_framework_is_asked_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    """Whatever it prints there, and however that process ends."""
    (tmp_path / "heavy.py").write_text(ENGINES.replace("{pid}", str(os.getpid())))
    monkeypatch.syspath_prepend(tmp_path)
    spec = f"heavy:{name}"
    given = {"engine": Given(spec, "--mlperf-engine", is_typed=True)}
    chosen = Options.from_given(given, here=tmp_path, root=tmp_path, environ={})
    session = MeasureSession.start(chosen, folder=tmp_path)
    cells = [cell for cell in find_cells(chosen) if cell.engine == name.lower()]

    found = find_unavailable(session, cells, names_engine=True)
    assert fnmatch(found, why)
    assert find_unavailable(session, cells, names_engine=False) == ""


def test_all_that_is_selected_can_be_required(pytester: pytest.Pytester) -> None:
    """An item that was skipped fails the session then, and is named."""
    item = ITEM.replace("measure()", "measure(cell)")
    pytester.makepyfile(test_a=item, test_b=SKIPPED)
    quick = ["--mlperf-engine=null", "--mlperf-duration=0.2"]
    free = pytester.runpytest_subprocess(*quick)
    bound = pytester.runpytest_subprocess(*quick, "--mlperf-require")
    end = newest(pytester).end

    assert free.ret == pytest.ExitCode.OK
    assert bound.ret == NOT_ALL_MEASURED
    assert end is not None
    assert end["exitstatus"] == NOT_ALL_MEASURED
    bound.stdout.fnmatch_lines(
        ["mlperf: --mlperf-require: 1 of 2 items were not*test_b.py::test_offline*"]
    )
    alone = pytester.runpytest_subprocess(*quick, "--mlperf-require", "test_a.py")
    assert alone.ret == pytest.ExitCode.OK


RERUN = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    "Runs an item again as pytest-rerunfailures does."
    place = {"nodeid": item.nodeid, "location": item.location}
    item.ihook.pytest_runtest_logstart(**place)
    for attempt in range(2):
        for report in runtestprotocol(item, nextitem=nextitem, log=False):
            if report.failed and not attempt:
                report.outcome = "rerun"
            item.ihook.pytest_runtest_logreport(report=report)
        item._initrequest()
    item.ihook.pytest_runtest_logfinish(**place)
    return True
"""


def test_an_item_that_is_measured_in_its_second_attempt_is_measured(
    pytester: pytest.Pytester,
) -> None:
    """CIs run again what a flaky machine failed; the first attempt stays on record."""
    flaky = "attempts.append(0)\n    assert attempts[1:]\n    measure(cell)"
    head = "import pytest\nattempts = []"
    text = ITEM.replace("measure()", flaky).replace("import pytest", head)
    pytester.makepyfile(text)
    pytester.makeconftest(RERUN)
    quick = ["--mlperf-engine=null", "--mlperf-duration=0.2", "--mlperf-require"]
    result = pytester.runpytest_subprocess(*quick)

    assert result.ret == pytest.ExitCode.OK
    assert [one.outcome for one in newest(pytester).records] == ["failed", "passed"]


@pytest.mark.parametrize(
    ("again", "is_measured"),
    [("measure(cell)", True), ("pytest.fail('no device')", False), ("pass", False)],
)
def test_a_second_attempt_has_no_property_of_the_first(
    pytester: pytest.Pytester, again: str, is_measured: bool
) -> None:
    """A VALID one had the outcome and the cause of both in junit's file, and one that
    measured nothing took over the first one's verdict.
    """
    flaky = (
        "attempts.append(0)\n    if attempts[1:]:\n        "
        f"{again}\n        return\n    measure(cell)\n    assert attempts[1:]"
    )
    head = "import pytest\nattempts = []"
    text = ITEM.replace("measure()", flaky).replace("import pytest", head)
    pytester.makepyfile(text)
    pytester.makeconftest(RERUN)
    quick = ["--mlperf-engine=null", "--mlperf-duration=0.2", "--junitxml=junit.xml"]
    pytester.runpytest_subprocess(*quick)
    cases = ET.parse(pytester.path / "junit.xml").iter("testcase")  # noqa: S314
    names = [[one.get("name") for one in case.iter("property")] for case in cases]
    first, second = newest(pytester).records

    assert [len(each) for each in names] == [len({*each}) for each in names]
    assert first.verdict is not None
    assert (second.verdict is not None) is is_measured
    assert second.outcome == ("passed" if is_measured else "failed")
