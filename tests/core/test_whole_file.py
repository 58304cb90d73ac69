"""What a full disk leaves of a report, and a crash of a cached file."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_mlperf.core.whole_file import PART_BYTES
from pytest_mlperf.core.whole_file import PARTS
from pytest_mlperf.core.whole_file import is_whole
from pytest_mlperf.core.whole_file import note_content
from pytest_mlperf.core.whole_file import write_whole

ASK = (
    "import sys; from pathlib import Path; "
    "from pytest_mlperf.core.whole_file import is_whole; "
    "print(is_whole(Path(sys.argv[1])))"
)
MOST_BYTES, MUCH = 1000, "<html>" * 1000


@contextmanager
def limited_files() -> Iterator[None]:
    """Have the kernel refuse what is behind a file's first bytes, as a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("before", [None, "an earlier report\r\n"])
def test_half_a_report_is_not_left_for_a_whole_one(
    tmp_path: Path, before: str | None
) -> None:
    """Nor is an earlier one lost."""
    path = tmp_path / "report.html"
    if before:
        write_whole(path, before)
    with limited_files(), pytest.raises(OSError, match="File too large"):
        write_whole(path, MUCH)
    left = {file.name: file.read_bytes().decode() for file in tmp_path.iterdir()}
    write_whole(path, MUCH)

    assert left == ({"report.html": before} if before else {})
    assert path.read_text() == MUCH


def test_a_cached_file_with_other_bytes_is_not_whole(tmp_path: Path) -> None:
    """Its size is as noted, and in another session its time of change may be, too."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights " * 1000)
    note_content(path)
    state = path.stat()
    before = is_whole(path)
    path.write_bytes(b"weights " * 500 + bytes(4000))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(path)], capture_output=True, text=True,
        check=True,
    )  # fmt: skip

    assert before
    assert path.stat().st_size == state.st_size
    assert done.stdout == "False\n"


@pytest.mark.parametrize("place", [0, PARTS * PART_BYTES // 2, -1])
def test_a_large_file_is_looked_at_in_parts(tmp_path: Path, place: int) -> None:
    """Its beginning, its end and parts in between: one is never read as a whole."""
    path = tmp_path / "model.plan"
    size = 2 * PARTS * PART_BYTES
    path.touch()
    os.truncate(path, size)
    note_content(path)
    before = is_whole(path)
    with path.open("r+b") as file:
        file.seek(place % size)
        file.write(b"?" * (1 if place < 0 else 3 * PART_BYTES))

    assert before
    assert path.stat().st_size == size
    assert not is_whole(path)


def test_a_note_of_an_earlier_version_has_the_size_alone(tmp_path: Path) -> None:
    """What it was written beside is not made again for want of a digest."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights")
    path.with_name("model.onnx.size").write_text("7\n")
    before = is_whole(path)
    path.write_bytes(b"weight")

    assert before
    assert not is_whole(path)


def test_a_folder_is_whole_with_all_of_its_files(tmp_path: Path) -> None:
    """And with what lies beside it; a file that only moved changes nothing."""
    folder, weights = tmp_path / "model", tmp_path / "weights"
    folder.mkdir()
    (folder / "a").write_text("1")
    (folder / "b").write_text("2")
    weights.write_text("3")
    note_content(folder, weights)
    before = is_whole(folder, weights)
    (folder / "a").write_text("2")
    (folder / "b").write_text("1")
    swapped = is_whole(folder, weights)
    (folder / "a").write_text("1")
    (folder / "b").write_text("2")
    weights.write_text("4")

    assert before
    assert not swapped
    assert not is_whole(folder, weights)
