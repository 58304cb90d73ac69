"""Live progress: the line, the terminal it is drawn on, the workers' mailbox."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.plugin.progress_display import ProgressDisplay
from pytest_mlperf.reporting.progress import PLAIN_S
from pytest_mlperf.reporting.progress import Mailbox
from pytest_mlperf.reporting.progress import Progress
from pytest_mlperf.reporting.progress import ProgressLine
from pytest_mlperf.reporting.progress import condense_progress
from pytest_mlperf.reporting.progress import describe_progress
from pytest_mlperf.reporting.progress import format_clock

RUNNING = Progress(
    "bert-99-server",
    "performance",
    "run",
    issued=4120,
    completed=4112,
    rate=68.5,
    elapsed_s=34.0,
    expected_s=60.0,
)


def test_the_line_says_where_the_run_is() -> None:
    """Item, phase, time, samples, rate and time left, in that order."""
    assert describe_progress(RUNNING, "[3/8]", 200) == (
        "[3/8] bert-99-server performance  run 34/60 s  issued 4,120"
        "  completed 4,112  68.5/s  0:26 left"
    )


def test_a_narrow_line_loses_counts_and_then_the_end_of_the_name() -> None:
    """The rate and what is left come before the item's whole name."""
    assert (
        describe_progress(RUNNING, "[3/8]", 71)
    ) == "[3/8] bert-99-server performance  run 34/60 s  68.5/s  0:26 left"
    assert (
        describe_progress(RUNNING, "[3/8]", 55)
    ) == "[3/8] bert-99-server ..  run 34/60 s  68.5/s  0:26 left"


def test_eighty_columns_hold_rate_percentile_and_what_is_left_of_all() -> None:
    """The name gives way; a session's time stands behind the run's."""
    full = replace(RUNNING, latency="p99 12.3 of 15 ms", session_left_s=750.0)
    name, rest = describe_progress(full, "[3/8]", 79).split("  ", 1)

    assert name == "[3/8] bert-99-s.."
    assert rest == "run 34/60 s  68.5/s  p99 12.3 of 15 ms  0:26 left, all 12:30"


def test_a_lost_run_is_announced_once_and_the_session_time_grows_with_the_past(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three items of 60 s; the first took twice that."""
    now, told = [0.0], list[str]()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    display = ProgressDisplay(announce=told.append, least_s=[60.0, 60.0, 60.0])
    display.begin_item(3)
    first = display.estimate_left_s(RUNNING)
    now[0] = 120.0
    display.begin_item(3)
    second = display.estimate_left_s(RUNNING)
    for _ in range(2):
        display.show(replace(RUNNING, loss="4 queries or more are late"))
    display.begin_item(3)

    assert (first, second) == (26.0 + 120.0, 26.0 + 2 * 60.0)
    assert display.estimate_left_s(RUNNING) is None
    why = "cannot become VALID any more: 4 queries or more are late"
    assert told[1:] == [f"mlperf: bert-99-server performance {why}"]


def test_a_second_run_is_announced_once_and_called_so_on_the_line() -> None:
    """With its own length, which the header did not promise either."""
    told = list[str]()
    display = ProgressDisplay(announce=told.append, promised_s=60.0)
    display.begin_item(1)
    second = replace(RUNNING, again="target_qps 20 to 10", expected_s=120.0, total=1200)
    for _ in range(2):
        display.show(replace(RUNNING, expected_s=60.0))
        display.show(second)

    item = "mlperf: bert-99-server performance"
    assert told == [
        f"{item} runs once more: target_qps 20 to 10",
        f"{item}, second run, takes 2:00 or so: 1,200 samples at 10 a second",
    ]
    shown = describe_progress(second, "[1/1]", 120)
    assert shown.startswith("[1/1] bert-99-server performance, 2nd run  run ")


def test_time_left_follows_from_what_is_still_to_do() -> None:
    """An accuracy run knows its samples; a slow run has more to do than its time."""
    counted = Progress("c", "accuracy", "run", completed=60, total=100, rate=4.0)
    late = replace(counted, elapsed_s=29.0, expected_s=13.0)

    assert counted.left_s == late.left_s == 10.0
    assert None is Progress("c", "accuracy", "build").left_s


def test_time_left_follows_from_work_where_long_samples_come_first() -> None:
    """After a tenth of the samples and a fifth of the work, four fifths are left."""
    sorted_run = Progress(
        "c", "performance", "run", completed=10, total=100, rate=1.0, work_share=0.2
    )

    assert sorted_run.left_s == pytest.approx(40.0)


def test_a_run_beyond_its_expected_time_is_not_said_to_be_over() -> None:
    """Without a count nobody knows what is left; it is not nothing."""
    late = replace(RUNNING, elapsed_s=75.0)

    assert late.left_s is None
    assert "left" not in describe_progress(late, "[3/8]", 200)


def test_a_log_gets_a_line_a_minute_with_the_expected_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a terminal nothing is said in the first minute, and then it is."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    line = ProgressLine(stream, live=False, period_s=PLAIN_S, _last=now[0])
    for _ in range(121):
        line.report(RUNNING)
        now[0] += 1.0

    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert all(re.search(r"0:26 left  ends at \d\d:\d\d$", one) for one in lines)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (26.4, "0:26"), (600, "10:00"), (3723, "1:02:03")],
)
def test_a_clock_has_hours_only_when_there_are_any(seconds: float, text: str) -> None:
    """Seconds are two digits, hours appear above 59:59."""
    assert text == format_clock(seconds)


PROGRESS = st.builds(
    Progress,
    cell=st.sampled_from(["bert-99.9-singlestream-onnxruntime", "resnet50-offline-x"]),
    mode=st.sampled_from(["performance", "accuracy"]),
    phase=st.sampled_from(["build", "run"]),
    issued=st.integers(0, 10**9),
    completed=st.integers(0, 10**9),
    total=st.none() | st.integers(1, 10**9),
    rate=st.floats(0, 1e7),
    elapsed_s=st.floats(0, 1e5),
    expected_s=st.none() | st.floats(0, 1e5),
)


@given(st.lists(PROGRESS, min_size=1, max_size=8), st.integers(20, 200))
def test_no_line_is_wider_than_asked(running: list[Progress], width: int) -> None:
    """One worker or eight, the terminal never wraps."""
    workers = [(f"gw{i}", progress) for i, progress in enumerate(running)]

    assert width >= len(describe_progress(running[0], "[10/20]", width))
    assert width >= len(condense_progress(workers, "[10/20]", width))


@given(PROGRESS)
def test_a_heartbeat_survives_the_mailbox(progress: Progress) -> None:
    """What a worker puts, the controller reads."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        mailbox = Mailbox(Path(folder))
        mailbox.put("gw0", progress)

        assert mailbox.read() == [("gw0", progress)]

        mailbox.clear("gw0")

        assert mailbox.read() == []


def test_a_mailbox_passes_over_what_it_cannot_read(tmp_path: Path) -> None:
    """Half a heartbeat, or a folder that is gone, is no reason to stop a session."""
    (tmp_path / "gw1.json").write_text('{"cell": ')

    assert Mailbox(tmp_path).read() == []
    Mailbox(tmp_path / "gone").put("gw0", RUNNING)
    assert Mailbox(tmp_path / "gone").read() == []


def test_erasing_puts_the_cursor_back_into_pytests_line() -> None:
    """Drawn below a line that pytest has begun, the line leaves no trace."""
    stream = io.StringIO()
    line = ProgressLine(stream, live=True, column=lambda: 7)
    line.report(RUNNING)
    drawn = stream.getvalue()
    line.erase()

    assert drawn.startswith("\n\r\x1b[2Kbert-99-server")
    assert stream.getvalue().removeprefix(drawn) == "\r\x1b[2K\x1b[A\x1b[7C"


def test_without_a_terminal_there_is_one_line_at_a_time() -> None:
    """Two heartbeats in quick succession print one plain line."""
    stream = io.StringIO()
    line = ProgressLine(stream, live=False)
    line.report(RUNNING)
    line.report(RUNNING)

    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_a_session_without_terminal_is_quiet_unless_told(
    suite: pytest.Pytester,
) -> None:
    """``auto`` prints no progress into a pipe; ``on`` does, on stderr."""
    quiet = suite.runpytest_subprocess("-k", "resnet50 and offline")
    told = suite.runpytest_subprocess(
        "--mlperf-progress=on", "-k", "resnet50 and offline"
    )

    assert "issued 10" not in quiet.stdout.str() + quiet.stderr.str()
    told.stderr.fnmatch_lines(["[[]1/2[]] resnet50-offline* issued 10 *completed 8*"])


class Gone(io.StringIO):
    """A stream whose terminal went away."""

    def write(self, text: str, /) -> int:
        raise OSError(5, f"Input/output error at {text!r}")

    def close(self) -> None:
        super().close()  # as a file does: closed, whatever became of its last words
        raise OSError(5, "Input/output error")


def test_a_terminal_that_went_away_ends_no_run() -> None:
    """Drawing, pausing and closing go on without it."""
    line = ProgressLine(Gone(), live=True)
    line.report(RUNNING)
    with line.paused():
        pass

    line.close()


def test_a_display_that_fails_ends_no_run() -> None:
    """Whatever the line meets, the heartbeat's sender hears nothing of it."""

    def fail() -> int:
        raise ValueError("no column")

    line = ProgressLine(io.StringIO(), live=True, column=fail)
    ProgressDisplay(line=line).show(RUNNING)

    assert not line._shown


NOTING = """
from pathlib import Path
from pytest_mlperf.reporting.progress import Mailbox

read, found = Mailbox.read, []

def read_and_note(self):
    for _, progress in found:  # by the look before: it has been shown by now
        Path(f"shown-{progress.mode}").touch()
    found[:] = read(self)
    return list(found)

Mailbox.read = read_and_note
"""
"""Of the controller: notes which heartbeats of workers it has shown."""
AWAITING = """
import time
from pathlib import Path

def await_shown(mode):
    shown, ends = Path(f"shown-{mode}"), time.monotonic() + 60
    shown.unlink(missing_ok=True)
    while not shown.exists():
        assert time.monotonic() < ends, f"nobody shows {mode}"
        time.sleep(0.01)
"""
TELLING = """
import pytest
from pytest_mlperf.plugin.session import State
from pytest_mlperf.reporting.progress import Progress

@pytest.mark.mlperf(mode="bare", benchmark="resnet50", scenario="offline")
def test_performance(cell, request):
    print("captured")
    for mode, expected_s in [("accuracy", 66.0)] + [("performance", 951.0)] * 2:
        beat = Progress(cell.id, mode, "run", expected_s=expected_s)
        State.of(request.config).display.show(beat)
        AWAIT
"""


@pytest.mark.parametrize("workers", [[], ["-n1"]])
def test_a_run_that_takes_longer_than_promised_is_announced_once(
    pytester: pytest.Pytester, workers: list[str]
) -> None:
    """Terminal or not, whatever is captured, and from a worker too; what takes about
    as long as promised is not.
    """
    source = TELLING.replace("AWAIT", "await_shown(mode)" if workers else "")
    pytester.makeconftest(NOTING)
    pytester.makepyfile(test_suite=AWAITING + source)
    told = pytester.runpytest_subprocess("--fast", *workers)
    found = [line for line in told.outlines if " takes " in line]

    told.assert_outcomes(passed=1)
    text = "mlperf: resnet50-offline-onnxruntime performance takes 15:51 or so"
    assert found == [text]
    assert "captured" not in told.outlines


def on_terminal(folder: Path, *args: str) -> str:
    """Return what a session writes to a terminal of 80 columns."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args],
        cwd=folder,
        stdin=child,
        stdout=child,
        stderr=child,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(child)
    parts = []
    # Linux answers EIO when the last writer has closed its end.
    try:
        while part := os.read(parent, 65536):
            parts.append(part)
    except OSError:
        pass
    os.close(parent)
    assert process.wait() == 0
    return b"".join(parts).decode()


def test_without_a_reporter_there_is_no_line(suite: pytest.Pytester) -> None:
    """Nobody writes the lines that it would have to make room for."""
    written = on_terminal(suite.path, "-p", "no:terminal", "-k", "resnet50 and offline")

    assert written == ""


@pytest.mark.parametrize("how", [(), ("-n1",)], ids=["alone", "xdist"])
def test_on_a_terminal_progress_is_live_and_gone_at_the_end(
    suite: pytest.Pytester, how: tuple[str, ...]
) -> None:
    """The line is drawn while items run and erased before the table."""
    if how:
        text = suite.path / "test_suite.py"
        source = text.read_text()
        source = source.replace("slow = cell", "await_shown(mode)\n    slow = cell")
        text.write_text(AWAITING + source)
        suite.makeconftest(NOTING)
    written = on_terminal(suite.path, *how, "-k", "resnet50 and offline")
    before, table = written.split(" mlperf: 2 results", 1)

    assert re.search(r"\x1b\[2K\[\d/2\] .*resnet50-offline", before)
    assert "\x1b[2K" not in table
