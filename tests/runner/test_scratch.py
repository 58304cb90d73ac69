"""Folders of killed sessions are swept at the next start; all others stay."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pytest_mlperf.runner import scratch
from pytest_mlperf.runner.scratch import ScratchFolder

OWNER = """
import time
from pytest_mlperf.runner.scratch import ScratchFolder
print(ScratchFolder().path, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that TMPDIR names."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_killed_sessions_folder_goes_and_a_living_ones_stays() -> None:
    """Whoever starts next sweeps; the lock is the kernel's."""
    command = [sys.executable, "-c", OWNER]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as living,
    ):
        assert killed.stdout is not None
        assert living.stdout is not None
        left, held = (Path(p.stdout.readline().strip()) for p in (killed, living))  # type: ignore[union-attr]
        (left / "large").write_bytes(bytes(9))
        killed.kill()
        killed.wait()
        mine = ScratchFolder()
        found = (left.exists(), held.exists(), mine.path.exists())
        living.kill()
    mine.remove()

    assert found == (False, True, True)
    assert not mine.path.exists()


def test_what_is_not_certainly_ours_stays(temporary: Path) -> None:
    """Links, files, folders without a lock file, and other people's names."""
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / scratch.OWNER).touch()
    (temporary / f"{scratch.PREFIX}link").symlink_to(elsewhere)
    (temporary / f"{scratch.PREFIX}file").touch()
    (temporary / f"{scratch.PREFIX}unlocked").mkdir()
    linked = temporary / f"{scratch.PREFIX}linked-lock"
    linked.mkdir()
    (linked / scratch.OWNER).symlink_to(elsewhere / scratch.OWNER)
    before = sorted(temporary.rglob("*"))
    ScratchFolder().remove()

    assert sorted(temporary.rglob("*")) == before
