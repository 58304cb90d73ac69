"""results.jsonl: what is written is read back, and damage is named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.core.session_results import SET_UP
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting import junit
from pytest_mlperf.reporting import results

CELL = {
    "benchmark": "bert",
    "target": "99",
    "scenario": "server",
    "engine": "null",
    "round": "v4.1",
    "mode": "accuracy",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A results file of one header and two records, without a closing line."""
    writer = results.ResultsWriter(tmp_path / results.FILE)
    writer.open({"args": []})
    for name in ("one", "two"):
        writer.add(Record(name, "failed", CELL, reason="it broke"))
    return writer.path


def test_a_closed_file_reads_back_whole(tmp_path: Path, make_verdict: object) -> None:
    """Records with their verdicts are equal after the journey."""
    assert callable(make_verdict)
    record = Record("a::b", "passed", CELL, make_verdict(), seconds=1.5)
    writer = results.ResultsWriter(tmp_path / results.FILE)
    writer.open({"args": ["-q"]})
    writer.add(record)
    writer.close(exitstatus=0, interrupted=False, selected=1)
    found = results.read_results(writer.path)

    assert found.records == (record,)
    assert found.header["args"] == ["-q"]
    assert found.end is not None
    assert found.end["counts"] == {"passed": 1}


@pytest.mark.parametrize("tail", ['{"type": "verd', '{"type": "end"}'])
def test_a_killed_session_is_partial_with_what_there_is(path: Path, tail: str) -> None:
    """A last line without its line break was torn, also where it reads well."""
    with path.open("a") as stream:
        stream.write(tail)
    with pytest.raises(
        results.PartialResults, match=r"line 4 torn and no closing line.*2 records"
    ) as caught:
        results.read_results(path)

    assert [r.nodeid for r in caught.value.partial.records] == ["one", "two"]
    assert caught.value.partial == results.read_results(path, allow_partial=True)


@pytest.mark.parametrize("line", ["not json", '{"type": "verd', "\0\0\0", "\udcff", ""])
def test_a_torn_line_is_passed_over(path: Path, line: str) -> None:
    """What stands before and after it is read, and the file is partial."""
    end = '{"type": "end", "interrupted": false, "exitstatus": 0}'
    with path.open("a", errors="surrogateescape") as stream:
        stream.write(f"{line}\n{end}\n")
    with pytest.raises(results.PartialResults, match="line 4 torn; 2 records"):
        results.read_results(path)
    found = results.read_results(path, allow_partial=True)

    assert found.is_torn
    assert found.torn == (4,)
    assert [r.nodeid for r in found.records] == ["one", "two"]
    assert found.exit_status == 0


FULL = """
import resource, signal, sys
from pathlib import Path
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.reporting import results

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = results.ResultsWriter(Path(sys.argv[1]))
writer.open({"args": []})
writer.add(Record("one", "passed", {}))
size = writer.path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, resource.RLIM_INFINITY))
writer.add(Record("two", "passed", {}))
writer.add(Record("three", "passed", {}))
assert writer.path.stat().st_size == size
assert len(writer.pending) == 2
assert writer.problem == "File too large"
if sys.argv[2] == "room":
    room = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_FSIZE, room)
writer.close(exitstatus=0, interrupted=False, selected=3)
print(len(writer.pending))
"""


@pytest.mark.parametrize(("later", "pending"), [("room", 0), ("full", 3)])
def test_a_line_that_does_not_fit_is_taken_back_and_tried_again(
    tmp_path: Path, later: str, pending: int
) -> None:
    """The write stops in the middle of the line, as on a full disk; a real limit."""
    path = tmp_path / results.FILE
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path), later], capture_output=True, text=True
    )
    found = results.read_results(path, allow_partial=True)
    names = [record.nodeid for record in found.records]

    assert done.stderr == ""
    assert int(done.stdout) == pending
    assert names == (["one", "two", "three"] if later == "room" else ["one"])
    assert found.torn == ()
    assert found.is_torn is (later == "full")


INTERRUPTED = """
import signal, sys
from pathlib import Path
from pytest_mlperf.reporting.results import ResultsWriter
signal.signal(signal.SIGALRM, signal.default_int_handler)
for number in range(200):
    writer = ResultsWriter(Path(sys.argv[1]) / f"{number}.jsonl")
    try:
        signal.setitimer(signal.ITIMER_REAL, (number + 1) * 20e-6)
        writer.open({"args": ["--long"] * 200})
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        pass
"""


def test_a_file_that_is_interrupted_as_it_is_opened_is_whole_or_not_there(
    tmp_path: Path,
) -> None:
    """SIGTERM comes at any time: an empty file reads as somebody's damage."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)], capture_output=True
    )
    left = sorted(tmp_path.iterdir())
    found = [results.read_results(path, allow_partial=True) for path in left]

    assert done.stderr == b""
    assert {path.suffix for path in left} <= {".jsonl"}
    assert all(len(one.header["args"]) == 200 for one in found)


NO_ROOM = """
import resource, signal, sys
from pathlib import Path
from pytest_mlperf.reporting.results import ResultsWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))
ResultsWriter(Path(sys.argv[1])).open({"args": ["--long"] * 200})
"""


def test_a_header_that_does_not_fit_leaves_no_file(tmp_path: Path) -> None:
    """A folder with an empty file in it would stay behind."""
    path = tmp_path / results.FILE
    done = subprocess.run(
        [sys.executable, "-c", NO_ROOM, str(path)], capture_output=True, text=True
    )

    assert "File too large" in done.stderr
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("text", ["", '{"type": "verdict"}\n', '{"type": "hea'])
def test_a_file_without_header_is_no_results_file(path: Path, text: str) -> None:
    """Empty, cut at its start, or something else: named as such."""
    path.write_text(text)

    with pytest.raises(results.MissingHeader, match=r"results\.jsonl:1: no header"):
        results.read_results(path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[]", ":4: list, but should be object"),
        ('{"type": "note"}', ":4: line of type 'note'"),
        ('{"type": "verdict"}', ":4: no 'verdict' in a verdict line"),
    ],
)
def test_a_bad_line_is_named_by_its_number(path: Path, line: str, said: str) -> None:
    """The error says file and line, so that an editor can open it."""
    with path.open("a") as stream:
        stream.write(f"{line}\n")

    with pytest.raises(results.BadLine, match=said):
        results.read_results(path)


def test_nothing_may_follow_the_closing_line(path: Path) -> None:
    """Two sessions in one file are a mistake, not a longer session."""
    with path.open("a") as stream:
        stream.write('{"type": "end"}\n{"type": "end"}\n')

    with pytest.raises(results.BadLine, match="nothing after the closing line"):
        results.read_results(path)


def test_sessions_of_one_second_claim_a_folder_each(tmp_path: Path) -> None:
    """The stamp alone is not unique, and sessions look at the same time."""
    now = datetime(2026, 5, 4, 3, 2, 1)
    start = Barrier(8)

    def claim(_: int) -> str:
        start.wait()
        return results.claim_folder(tmp_path / "reports", now).name

    with ThreadPoolExecutor(8) as pool:
        found = sorted(pool.map(claim, range(8)))

    assert found == [
        "20260504-030201",
        *(f"20260504-030201-{number}" for number in range(2, 9)),
    ]


def test_latest_points_at_the_newest(tmp_path: Path) -> None:
    """Also where it pointed at another one."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        results.point_latest(tmp_path / name)

        assert (tmp_path / "latest").resolve() == tmp_path / name


def test_a_folder_in_the_place_of_latest_is_moved_aside(tmp_path: Path) -> None:
    """A CI's store of artifacts follows links, so that an earlier job's comes back as a
    folder; whoever reads latest means the session that has just ended.
    """
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / results.FILE).write_text("an earlier job's")
    new = tmp_path / "20300101-000000"
    new.mkdir()
    results.point_latest(new)
    aside = tmp_path / "latest-before-20300101-000000"

    assert (tmp_path / "latest").resolve() == new
    assert (aside / results.FILE).read_text() == "an earlier job's"
    assert {path.name for path in tmp_path.iterdir()} == {
        "latest",
        new.name,
        aside.name,
    }


def test_an_item_that_failed_beside_its_rules_is_not_valid(
    make_verdict: Callable[[], Verdict],
) -> None:
    """A VALID verdict of an item that then broke shows as ERROR with the cause."""
    record = Record("a", "error", CELL, make_verdict(), reason="teardown broke\nmore")
    shown = record.verdict_to_show()

    assert shown is not None
    assert shown.outcome == "ERROR"
    assert shown.checks[-1].found == "error: teardown broke"


def test_a_users_own_assertion_is_a_rule_like_others(
    make_verdict: Callable[[], Verdict],
) -> None:
    """A VALID run that is too slow for its test did not go wrong: it is INVALID."""
    reason = "assert 1200 < 1000\n + where"
    shown = Record("a", "failed", CELL, make_verdict(), reason).verdict_to_show()

    assert shown is not None
    assert shown.outcome == "INVALID"
    assert (shown.checks[-1].name, shown.checks[-1].found) == (
        "test",
        "assert 1200 < 1000",
    )


def test_an_item_without_verdict_shows_as_error_of_its_cell() -> None:
    """The table has a row for it with the cell's names."""
    shown = Record("a", "failed", CELL, reason="the runner died").verdict_to_show()

    assert shown is not None
    assert (
        shown.benchmark,
        shown.scenario,
        shown.engine,
    ) == ("bert-99", "Server", "null")
    assert shown.outcome == "ERROR"


@pytest.mark.parametrize("outcome", ["skipped", "interrupted", SET_UP])
def test_an_item_that_was_not_measured_has_no_row(outcome: str) -> None:
    """What did not run to its end is no result."""
    assert Record("a", outcome, CELL).verdict_to_show() is None


def test_a_bare_engine_that_was_timed_has_no_row() -> None:
    """No rule judges it; one that failed is an error like any other."""
    bare = {**CELL, "mode": "bare"}
    failed = Record("a", "failed", bare, reason="it broke").verdict_to_show()

    assert Record("a", "passed", bare).verdict_to_show() is None
    assert failed is not None
    assert failed.outcome == "ERROR"


@given(st.text(), st.dictionaries(st.text(), st.text()), st.floats(0, 1e6))
def test_any_record_survives_its_line(
    reason: str, cell: dict[str, str], seconds: float
) -> None:
    """Whatever text a failure has, the line gives it back."""
    record = Record("n", "failed", cell, reason=reason, seconds=round(seconds, 3))

    assert record == Record.from_line(record.to_line())


def test_what_a_newer_version_wrote_is_read(
    make_verdict: Callable[[], Verdict],
) -> None:
    """A field that is added keeps the schema's version: readers ignore it."""
    verdict = make_verdict()
    data = json.loads(verdict.to_json())
    data |= {"colour": "red", "run": {**data["run"], "moon": "full"}}

    assert Verdict.from_json(json.dumps(data)) == verdict
    with pytest.raises(ValueError, match="not a verdict"):
        Verdict.from_json("[]")


def test_junit_properties_are_text_that_reads_back(
    make_verdict: Callable[[], Verdict],
) -> None:
    """Every value is a string, and the first is the verdict whole."""
    verdict = make_verdict()
    found = dict(junit.list_properties(verdict))

    assert all(isinstance(value, str) for value in found.values())
    assert verdict == Verdict.from_json(found[junit.KEY])
    assert found["mlperf.rules"] == "1/1"
