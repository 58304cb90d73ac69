"""Log folders are read without trust: whole and plain, or a named error."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.logs.log import LogError
from tests.support import logs

DETAIL = "mlperf_log_detail.txt"
SUMMARY = "mlperf_log_summary.txt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A passing SingleStream run."""
    return logs.performance(tmp_path / "run", "SingleStream")


def test_values_come_with_the_line_they_stood_on(folder: Path) -> None:
    """A check can point at what it judged."""
    log = Log.read(folder)
    number = int(log.where("result_validity").split(":")[1])
    line = (folder / DETAIL).read_text().splitlines()[number - 1]

    assert log.get("result_validity") == "VALID"
    assert '"result_validity"' in line
    assert log.where("nowhere") == DETAIL
    assert log.get("nowhere", 7) == 7


def test_a_list_is_kept_as_its_length(folder: Path) -> None:
    """Hundreds of thousands of sample indices do not stay in memory."""
    assert Log.read(folder).integer("loaded_qsl_set") == 1024


@pytest.mark.parametrize(
    ("key", "is_flagged"),
    [("generic_message", True), ("error_invalid_config", False)],
)
def test_an_error_is_told_by_its_flag_or_by_its_key(
    folder: Path, key: str, is_flagged: bool
) -> None:
    """Either alone is enough."""
    path = folder / DETAIL
    lines = path.read_text().splitlines(keepends=True)
    lines.insert(4, logs.line(key, "it broke", error=is_flagged))
    path.write_text("".join(lines))
    log = Log.read(folder)

    assert [error.text for error in log.errors] == ["it broke"]
    assert log.error_count == 1


def test_errors_and_warnings_are_kept_with_their_lines(tmp_path: Path) -> None:
    """Both are found by flag, not by their place in the file."""
    folder = logs.performance(
        tmp_path, "SingleStream", errors=["it broke"], warnings=["it creaked"]
    )
    log = Log.read(folder)

    assert [e.text for e in log.errors] == ["it broke"]
    assert [e.text for e in log.warnings] == ["it creaked"]
    assert log.errors[0].where == f"{DETAIL}:5"
    assert log.error_count == 1


def test_the_summary_is_read_by_its_labels(folder: Path) -> None:
    """``Result is`` is what the official tools look for."""
    log = Log.read(folder)

    assert log.summary["Result is"] == "VALID"
    assert log.summary["Scenario"] == "SingleStream"


def emptied(data: bytes) -> bytes:
    return data[:0]


def append(text: str) -> Callable[[bytes], bytes]:
    return lambda data: data + text.encode()


TWICE = logs.line("effective_scenario", "Server")
HUGE = "9" * 5000
DEEP = "[" * 100_000
AGAIN = logs.line("loadgen_version", "6.0.17 @ d6147c7eb7")


@pytest.mark.parametrize(
    ("name", "damage", "found"),
    [
        (DETAIL, emptied, "an empty file"),
        (DETAIL, lambda data: data[:-20], "a whole JSON record"),
        (DETAIL, lambda data: data[: data.index(b"result_")], "whole JSON record"),
        (
            DETAIL,
            lambda data: b"".join(data.splitlines(keepends=True)[:-1]),
            "without num_errors",
        ),
        (
            DETAIL,
            lambda data: b"".join(data.splitlines(keepends=True)[:12]),
            "a run that did not start",
        ),
        (DETAIL, lambda data: b"\xef\xbb\xbf" + data, "byte-order mark"),
        (DETAIL, lambda data: data.decode().encode("utf-16"), "byte-order mark"),
        (DETAIL, lambda data: data.replace(b"VALID", b"VAL\xffD"), "not UTF-8"),
        (DETAIL, lambda data: data.replace(b"VALID", b"VA\0ID"), "a NUL byte"),
        (DETAIL, append("noise from another program\n"), "begins ':::MLLOG"),
        (DETAIL, append(":::MLLOG {'key': 1}\n"), "a whole JSON record"),
        (DETAIL, append(":::MLLOG [1, 2]\n"), "key, value and metadata"),
        (DETAIL, append(':::MLLOG {"key": "a"}\n'), "a record without 'value'"),
        (DETAIL, append(f":::MLLOG {DEEP}\n"), "a whole JSON record"),
        (DETAIL, append(f":::MLLOG {HUGE}\n"), "a whole JSON record"),
        (DETAIL, append(':::MLLOG {"key": 1, "key": 2}\n'), "twice in one record"),
        (DETAIL, append(TWICE), "one line a key"),
        (DETAIL, append(AGAIN), "a second run"),
        (DETAIL, lambda data: data.replace(b": 0,", b": NaN,"), "NaN is no number"),
        (SUMMARY, emptied, "an empty file"),
        (SUMMARY, lambda data: data[:-30], "without its count of errors"),
        (SUMMARY, lambda data: data.replace(b"Result", b"Ruslet"), "no 'Result is'"),
        (SUMMARY, lambda data: data + data, "a second summary"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(
    folder: Path, name: str, damage: Callable[[bytes], bytes], found: str
) -> None:
    """Nothing damaged is read as a result; the message says what to do."""
    path = folder / name
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(LogError, match=found) as caught:
        Log.read(folder)
    assert caught.value.where.startswith(name)
    assert str(path) in str(caught.value)
    assert "repeat the run" in str(caught.value)


@pytest.mark.parametrize("name", [DETAIL, SUMMARY])
def test_a_missing_file_is_an_error_that_names_it(folder: Path, name: str) -> None:
    """A folder without LoadGen's files proves nothing."""
    (folder / name).unlink()

    with pytest.raises(LogError, match="no such file or directory"):
        Log.read(folder)


@pytest.mark.parametrize(
    "harmless",
    [
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data + b"\n\n  \n",
        lambda data: data.rstrip(b"\n"),
        lambda data: b"".join(sorted(data.splitlines(keepends=True))),
    ],
    ids=["crlf", "blank tail", "no last newline", "reordered"],
)
def test_what_an_editor_or_a_transfer_does_is_harmless(
    folder: Path, harmless: Callable[[bytes], bytes]
) -> None:
    """Line ends, blank lines and order change no value."""
    before = Log.read(folder).values
    path = folder / DETAIL
    path.write_bytes(harmless(path.read_bytes()))

    assert Log.read(folder).values == before


def test_unknown_keys_and_foreign_names_are_kept(tmp_path: Path) -> None:
    """A newer LoadGen may say more, and a SUT may be called anything."""
    change = {"result_of_tomorrow": 1, "sut_name": "Größe ✓ : 測試"}
    log = Log.read(logs.performance(tmp_path, "Server", change=change))

    assert log.get("result_of_tomorrow") == 1
    assert log.summary["SUT name"] == log.get("sut_name")


def test_an_old_log_may_end_without_a_count_of_errors(tmp_path: Path) -> None:
    """LoadGen before 5.0.16 did not write num_errors."""
    change = {
        "loadgen_version": "4.1 @ 379ee5345a",
        "loadgen_git_commit_date": "2024-07-24T23:02:58-04:00",
    }
    later = [
        "num_errors",
        "requested_accuracy_sample_count_override",
        "effective_accuracy_sample_count",
    ]
    folder = logs.performance(tmp_path, "Offline", change=change, drop=later)

    assert Log.read(folder).get("num_errors") is None


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("1", "integer"),
        (True, "integer"),
        (1.0, "integer"),
        (2**64, "integer"),
        ("1", "number"),
        (10**400, "number"),
        (1, "flag"),
        (1, "text"),
        (None, "text"),
    ],
)
def test_a_value_of_another_type_is_an_error(
    tmp_path: Path, value: object, read: str
) -> None:
    """A text is no number, and a truth value no count."""
    log = Log.read(logs.performance(tmp_path, "Server", change={"probe": value}))

    with pytest.raises(LogError, match="found probe = "):
        getattr(log, read)("probe")
    with pytest.raises(LogError, match="found no absent"):
        getattr(log, read)("absent")


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_mutation_crashes_the_reader(data: st.DataObject, folder: Path) -> None:
    """Bytes cut, doubled or replaced are read as they are or refused by name."""
    path = folder / data.draw(st.sampled_from([DETAIL, SUMMARY]))
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 300, len(whole))))
    middle = data.draw(st.binary(max_size=40) | st.just(whole[start:end] * 2))
    path.write_bytes(whole[:start] + middle + whole[end:])
    try:
        place = Log.read(folder).where("loadgen_version")
    except LogError as error:
        place = error.where
    finally:
        path.write_bytes(whole)

    assert place.startswith("mlperf_log_")


MIB = 1 << 20
WARNING = logs.line("warning", "y" * 300, warning=True).encode()
RECORD = logs.line("extra", "x" * 200).encode()
NUMBERS = str(list(range(1_500_000))).encode()
WIDE = "\U0001f600".encode() + b"x" * (15 * MIB)
OPEN = b':::MLLOG {"key": "a", "value": ['
HOSTILE: dict[str, Callable[[], list[bytes]]] = {
    "many warnings": lambda: [WARNING] * 150_000,
    "many keys": lambda: [RECORD.replace(b"extra", b"k%d" % i) for i in range(150_000)],
    "many wide texts": lambda: [RECORD.replace(b"x" * 200, WIDE)] * 4,
    "an endless line": lambda: [b":::MLLOG " + b"x" * MIB] + [b"x" * MIB] * 63,
    "a line of lists": lambda: [OPEN + b"[]," * (5 * MIB)],
    "a line of texts": lambda: [OPEN + b'"ab",' * (3 * MIB)],
    "a line of numbers": lambda: [RECORD.replace(b'"' + b"x" * 200 + b'"', NUMBERS)],
}
PEAK = r"""
import re, sys
from pathlib import Path
from pytest_mlperf.core.logs.log import Log, LogError
try:
    Log.read(Path(sys.argv[1]))
    said = "read"
except LogError as error:
    said = error.found[:60]
# Not getrusage: its peak is that of the parent, where that was larger.
peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
print(int(peak[1]) // 1024, said)
"""


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_very_large_log_is_read_in_bounded_memory(folder: Path, kind: str) -> None:
    """Sixty megabytes of anything take less than two hundred."""
    path = folder / DETAIL
    whole = path.read_bytes()
    with path.open("wb") as file:
        file.write(whole)
        file.writelines(HOSTILE[kind]())
    del whole
    command = [sys.executable, "-c", PEAK, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, _, said = done.stdout.partition(" ")

    assert int(peak) < 200, said


@pytest.mark.parametrize("name", [DETAIL, SUMMARY])
@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "nowhere", "device"])
def test_what_is_no_file_is_an_error_and_no_wait(
    folder: Path, name: str, kind: str
) -> None:
    """A named pipe would wait for ever, and a device never end."""
    path = folder / name
    path.unlink()
    make: dict[str, Callable[[], None]] = {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "loop": lambda: path.symlink_to(name),
        "nowhere": lambda: path.symlink_to("nowhere"),
        "device": lambda: path.symlink_to("/dev/zero"),
    }
    make[kind]()

    with pytest.raises(LogError) as caught:
        Log.read(folder)
    assert caught.value.where == name


@pytest.mark.parametrize(
    "scenario", ["SingleStream", "MultiStream", "Server", "Offline"]
)
def test_no_line_of_a_detail_log_can_be_left_out(tmp_path: Path, scenario: str) -> None:
    """No check can be skipped by deleting what it reads."""
    folder = logs.performance(tmp_path, scenario)
    path = folder / DETAIL
    whole = path.read_bytes().splitlines(keepends=True)
    read = []
    for i, line in enumerate(whole):
        path.write_bytes(b"".join(whole[:i] + whole[i + 1 :]))
        with suppress(LogError):
            Log.read(folder)
            read.append(line)

    assert read == []


@pytest.mark.parametrize(
    ("name", "before", "after", "readable"),
    [
        (DETAIL, b'"sut_name", "value": "PySUT"', b'"sut_name", "value": "S\0"', True),
        (DETAIL, b'"qsl_name", "value": "PyQSL"', b'"qsl_name", "value": "Q\0"', True),
        (SUMMARY, b"SUT name : PySUT", b"SUT name : S\0", True),
        (DETAIL, b'"sut_name", "value": "PySUT"', b'"sut_name", "value": "\0S"', False),
        (DETAIL, b'"sut_name", "value": "Py', b'"sut_name", "value": "\0\0', False),
    ],
)
def test_a_name_in_c_may_bring_its_zero(
    folder: Path, name: str, before: bytes, after: bytes, readable: bool
) -> None:
    """32 official logs of v1.1 have one at the end of SUT's and QSL's names."""
    path = folder / name
    text = path.read_bytes()
    assert before in text
    path.write_bytes(text.replace(before, after, 1))

    if readable:
        Log.read(folder)
    else:
        with pytest.raises(LogError, match="a NUL byte"):
            Log.read(folder)
