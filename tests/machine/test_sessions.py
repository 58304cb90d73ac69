"""Who measures on this machine: seen from other processes, gone with the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pytest_mlperf.machine.sessions import announce
from pytest_mlperf.machine.sessions import list_others

OTHER = """
import sys, time
from pathlib import Path
from pytest_mlperf.machine.sessions import announce
with announce(sys.argv[2], Path(sys.argv[1])):
    print("there", flush=True)
    time.sleep(600)
"""


def test_another_process_is_seen_until_it_ends(tmp_path: Path) -> None:
    """Killed, it leaves a file that nobody holds: the next look removes it."""
    command = [sys.executable, "-c", OTHER, str(tmp_path), "reports/x"]
    with (
        announce("reports/mine", tmp_path),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other,
    ):
        assert other.stdout is not None
        other.stdout.readline()
        seen = list_others("reports/mine", tmp_path)
        same = list_others("reports/x", tmp_path)
        other.kill()
        other.wait()
        after = list_others("reports/mine", tmp_path)
        files = len(list(tmp_path.iterdir()))

    assert [(one.pid, one.session) for one in seen] == [(other.pid, "reports/x")]
    assert [one.session for one in same] == ["reports/mine"]
    assert after == []
    assert files == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_hides_and_hinders_nobody(tmp_path: Path) -> None:
    """A run is worth more than the word about it."""
    (tmp_path / "file").touch()
    with announce("reports/mine", tmp_path / "file" / "folder"):
        found = list_others("reports/x", tmp_path / "file" / "folder")

    assert found == []


def test_strange_files_are_no_sessions(tmp_path: Path) -> None:
    """Anybody may write there."""
    (tmp_path / "a.session").symlink_to(tmp_path)
    (tmp_path / "b.session").mkdir()
    (tmp_path / "c.txt").write_text("{}")

    assert list_others("reports/x", tmp_path) == []
