"""Downloads from a server that breaks off, lies about the length, sends other files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mlperf.api.sources import Source
from pytest_mlperf.commands.scratch.download import ATTEMPTS
from pytest_mlperf.commands.scratch.download import Download
from pytest_mlperf.commands.scratch.download import DownloadFailed
from tests.support.file_server import CONTENT
from tests.support.file_server import Requests
from tests.support.file_server import serve_file

SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def _server() -> Iterator[Requests]:
    with serve_file() as requests:
        yield requests


@pytest.fixture
def server(_server: Requests) -> Requests:
    """The server, with an empty log."""
    _server.seen.clear()
    return _server


def declare(server: Requests, *paths: str) -> Source:
    urls = tuple(server.url(path.replace(" ", "%20")) for path in paths)
    return Source(paths=("models/a.bin",), origin="a test", sha256=SHA256, urls=urls)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("good", [""]),
        ("busy", ["", ""]),
        ("breaks off", ["", "bytes=60000-", "bytes=120000-", "bytes=180000-"]),
    ],
)
def test_a_file_arrives_whole(
    tmp_path: Path, server: Requests, path: str, asked: list[str]
) -> None:
    """At once, after a refusal, and continued where the connection broke off."""
    target = tmp_path / "models/a.bin"
    source = declare(server, path)
    # The path of a URL has no blanks; the server unquotes nothing.
    source = replace(source, urls=(server.url(path).replace(" ", "%20"),))
    checked = Download(source, target, pause_s=0).run()

    assert checked == "sha256"
    assert target.read_bytes() == CONTENT
    assert [ranges for _, ranges in server.seen] == asked
    assert [p.name for p in target.parent.iterdir()] == ["a.bin"]


def test_a_download_is_continued_by_the_next_call(
    tmp_path: Path, server: Requests
) -> None:
    """The part that an interrupted session left is asked for no more."""
    target = tmp_path / "a.bin"
    target.with_name("a.bin.part").write_bytes(CONTENT[:1000])
    shown: list[tuple[int, int | None]] = []
    Download(declare(server, "good"), target, lambda *state: shown.append(state)).run()

    assert target.read_bytes() == CONTENT
    assert server.seen == [("good", "bytes=1000-")]
    assert shown[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("left", [b"another file", CONTENT + b"more"])
def test_what_is_left_of_another_file_is_thrown_away(
    tmp_path: Path, server: Requests, left: bytes
) -> None:
    """Its rest would make a file of two halves."""
    target = tmp_path / "a.bin"
    target.with_name("a.bin.part").write_bytes(left)
    Download(declare(server, "good"), target, pause_s=0).run()

    assert target.read_bytes() == CONTENT
    assert len(server.seen) == 2


def test_a_server_that_sends_all_of_it_again_is_understood(
    tmp_path: Path, server: Requests
) -> None:
    """It ignores that only the rest was asked for: the file begins anew."""
    target = tmp_path / "a.bin"
    Download(declare(server, "ignores range"), target, pause_s=0).run()

    assert target.read_bytes() == CONTENT
    assert server.seen[1] == ("ignores range", "bytes=100000-")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gone", "HTTP 404"),
        ("page", "a web page instead of the file"),
        ("wrong", f"its sha256 is .*, but should be {SHA256}"),
        ("shifted", "the server answered 'bytes 7-"),
    ],
)
def test_the_next_mirror_is_asked_when_one_has_another_file(
    tmp_path: Path, server: Requests, path: str, message: str
) -> None:
    """And without another mirror the message says what each did; nothing is left."""
    target = tmp_path / "a.bin"
    part = target.with_name("a.bin.part")
    if path == "shifted":
        part.write_bytes(CONTENT[:10])
    Download(declare(server, path, "good"), target, pause_s=0).run()
    assert target.read_bytes() == CONTENT

    target.unlink()
    if path == "shifted":
        return  # without a part it sends the file
    with pytest.raises(DownloadFailed, match=message) as caught:
        Download(declare(server, path), target, pause_s=0).run()
    assert "a test" in str(caught.value)
    assert not target.exists()
    assert not part.exists()


def test_a_server_that_lies_about_the_length_is_given_up(
    tmp_path: Path, server: Requests
) -> None:
    """It announces five bytes more than it has; what came is kept, never renamed."""
    target = tmp_path / "a.bin"
    with pytest.raises(DownloadFailed, match="5 bytes before the end"):
        Download(declare(server, "lies"), target, pause_s=0).run()

    assert not target.exists()
    assert target.with_name("a.bin.part").read_bytes() == CONTENT
    assert len(server.seen) == 3 + ATTEMPTS


def test_the_declared_size_is_checked_before_anything_is_received(
    tmp_path: Path, server: Requests
) -> None:
    """A mirror's other version is not downloaded for its hash."""
    target = tmp_path / "a.bin"
    source = replace(declare(server, "wrong size"), size=len(CONTENT), sha256="")
    with pytest.raises(DownloadFailed, match="256,004 bytes, but should have 256,000"):
        Download(source, target, pause_s=0).run()
    good = replace(declare(server, "good"), size=len(CONTENT), sha256="")

    assert Download(good, target, pause_s=0).run() == "size"


def test_md5_is_checked_where_that_is_all_there_is(
    tmp_path: Path, server: Requests
) -> None:
    """Some archives publish nothing else; without any hash the answer says so."""
    md5 = hashlib.md5(CONTENT).hexdigest()  # noqa: S324 - what the archive publishes
    source = replace(declare(server, "good"), sha256="", md5=md5)

    assert Download(source, tmp_path / "a").run() == "md5"
    assert Download(replace(source, md5=""), tmp_path / "b").run() == ""
    with pytest.raises(DownloadFailed, match="its md5 is"):
        Download(replace(source, md5="0" * 32), tmp_path / "c", pause_s=0).run()
