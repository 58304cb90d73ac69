"""What a disk that is full leaves of a report."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_mlperf.core.whole_file import write_whole

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
