"""A log is bounded while processes print into it, and only its end is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mlperf.machine import log_file


def test_a_log_that_grows_is_cut_down_to_its_ends_and_goes_on(tmp_path: Path) -> None:
    """A writer that has the file open goes on behind what is kept."""
    log = tmp_path / "log"
    with log.open("ab") as writer:
        for number in range(300_000):
            writer.write(b"line %07d %s\n" % (number, b"x" * 60))
        writer.flush()
        log_file.bound_log(log)
        size = log.stat().st_size
        writer.write(b"last\n")
    text = log.read_text()

    assert size < 2 * log_file.KEPT_BYTES + 200
    assert text.startswith("line 0000000 ")
    assert "bytes left out here: the log was too large …]\nline " in text
    assert text.endswith(f"line 0299999 {'x' * 60}\nlast\n")
    assert log_file.read_last_lines(log)[-1] == "last"


def test_a_log_of_a_usual_size_stays_as_it_is(tmp_path: Path) -> None:
    """And one that is not there is no error."""
    log = tmp_path / "log"
    log.write_text("one\ntwo\n")
    log_file.bound_log(log)
    log_file.bound_log(tmp_path / "missing")

    assert log.read_text() == "one\ntwo\n"
    assert log_file.read_last_lines(log) == ["one", "two"]
    assert log_file.read_last_lines(log, begin=4) == ["two"]
    assert log_file.read_last_lines(tmp_path / "missing") == []


def test_only_the_end_is_read_and_long_lines_are_cut(tmp_path: Path) -> None:
    """A gigabyte without a line break (a file with a hole) costs nothing."""
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 30)
        file.write(b"x" * 100_000 + b" the end")
    lines = log_file.read_last_lines(log)

    assert len(lines) == 1
    assert len(lines[0]) < log_file.SHOWN_LINE + 40
    assert "characters]" in lines[0]


def test_half_of_a_key_at_the_place_where_reading_begins_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever in the key that is."""
    key = "key-0123456789-abcdefghijklmnopq"
    monkeypatch.setenv("SERVER_API_KEY", key)
    log = tmp_path / "log"
    for place in range(len(key)):
        tail = "\n" + "y" * (log_file.READ_BYTES - 1 - place)
        log.write_text(f"x {key}{tail}"[: -len("z")])
        shown = "\n".join(log_file.read_last_lines(log))
        assert "lmnopq" not in shown
