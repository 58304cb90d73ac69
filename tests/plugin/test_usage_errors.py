"""What a user names exists, or the session says so; nothing measured is no success."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_mlperf.config.options import Options
from pytest_mlperf.plugin.mark_arguments import refuse_unknown_arguments
from pytest_mlperf.plugin.report import NOTHING_MEASURED
from tests.support.newest import newest

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
        (["--mlperf-precision", "int7"], "--mlperf-precision int7: none of*int8*"),
    ],
)
def test_what_no_item_can_have_ends_the_session_before_the_first(
    pytester: pytest.Pytester, arguments: list[str], words: str
) -> None:
    """No folder is made, nothing is run."""
    pytester.makepyfile(ITEM)
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
