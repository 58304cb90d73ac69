"""A device has one session at a time: two real processes and the kernel's lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_mlperf.machine.lease import DeviceHeld
from pytest_mlperf.machine.lease import DeviceLock
from pytest_mlperf.machine.lease import LeaseError
from pytest_mlperf.machine.lease import lease
from pytest_mlperf.machine.lease import list_locks

HOLD = """
import sys, time
from pathlib import Path
from pytest_mlperf.machine.lease import DeviceLock, lease
folder, key, shared = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "shared"
with lease([DeviceLock(key, shared)], "reports/other", folder=folder):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other(
    folder: Path, key: str, how: str = "alone"
) -> Iterator[subprocess.Popen[str]]:
    """Run a second session that holds a device until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), key, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_second_session_is_told_who_holds_the_device(tmp_path: Path) -> None:
    """It fails at once, naming process, session folder and what to do."""
    with (
        other(tmp_path, "GPU-a") as process,
        pytest.raises(DeviceHeld) as caught,
        lease([DeviceLock("GPU-a")], "mine", folder=tmp_path),
    ):
        pass

    text = str(caught.value)
    assert f"device GPU-a is in use by another session (pid {process.pid}, " in text
    assert "session reports/other since" in text
    assert "CUDA_VISIBLE_DEVICES" in text


def test_another_device_is_free(tmp_path: Path) -> None:
    """Only the device that is held is held."""
    with (
        other(tmp_path, "GPU-a"),
        lease([DeviceLock("GPU-b")], "mine", folder=tmp_path) as keys,
    ):
        assert keys == ("GPU-b",)


def test_crash_gives_the_device_back(tmp_path: Path) -> None:
    """A session that is killed leaves no lock behind."""
    with other(tmp_path, "GPU-a") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with lease([DeviceLock("GPU-a")], "mine", folder=tmp_path) as keys:
            assert keys == ("GPU-a",)


def test_waiting_session_says_so_and_gets_its_turn(tmp_path: Path) -> None:
    """The message comes before the device does."""
    said: list[str] = []
    with other(tmp_path, "GPU-a") as process:
        heard = threading.Event()

        def say(text: str) -> None:
            said.append(text)
            heard.set()

        def free() -> None:
            heard.wait(60)
            process.kill()

        thread = threading.Thread(target=free)
        thread.start()
        with lease([DeviceLock("GPU-a")], "mine", wait_s=60, say=say, folder=tmp_path):
            pass
        thread.join()

    assert "s for device GPU-a: held by pid" in said[0]


def test_end_of_the_block_gives_the_device_back(tmp_path: Path) -> None:
    """A device can be leased again, also after an error inside the block."""
    with (
        pytest.raises(KeyError),
        lease([DeviceLock("GPU-a")], "mine", folder=tmp_path),
    ):
        raise KeyError
    with lease([DeviceLock("GPU-a")], "mine", folder=tmp_path) as keys:
        assert keys == ("GPU-a",)


def test_one_process_cannot_lease_a_device_twice(tmp_path: Path) -> None:
    """Two sessions in one process are two sessions; the holder is this very pid."""
    with (
        lease([DeviceLock("GPU-a")], "first", folder=tmp_path),
        pytest.raises(DeviceHeld, match=f"pid {os.getpid()}, session first"),
        lease([DeviceLock("GPU-a")], "second", folder=tmp_path),
    ):
        pass


def test_instances_of_one_gpu_go_together_but_not_with_the_whole(
    tmp_path: Path,
) -> None:
    """MIG instances are walled off from each other; the whole GPU is not."""
    first = list_locks("MIG-1", lambda _: "GPU-a")
    with other(tmp_path, "GPU-a", "shared"):
        with lease(first, "mine", folder=tmp_path) as keys:
            assert keys == ("GPU-a", "MIG-1")
        with (
            pytest.raises(DeviceHeld, match="GPU-a is in use"),
            lease(list_locks("GPU-a"), "mine", folder=tmp_path),
        ):
            pass


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("", []),
        ("GPU-a", [DeviceLock("GPU-a")]),
        (
            "MIG-GPU-ab-1/2/0",
            [DeviceLock("GPU-ab-1", True), DeviceLock("MIG-GPU-ab-1/2/0")],
        ),
        ("MIG-5", [DeviceLock("MIG-5")]),
    ],
)
def test_device_names_become_locks(visible: str, expected: list[DeviceLock]) -> None:
    """A CPU needs none; a MIG instance its own, and its GPU's where that is known."""
    assert expected == list_locks(visible)


def test_odd_names_stay_in_the_folder(tmp_path: Path) -> None:
    """A device's name cannot climb out of the folder of locks."""
    folder = tmp_path / "locks"
    with lease([DeviceLock("MIG-GPU-a/../../x")], "mine", folder=folder):
        assert [path.name for path in folder.iterdir()] == ["MIG-GPU-a_______x.lock"]


def test_lock_is_open_to_every_user(tmp_path: Path) -> None:
    """Folder and file can be used by whoever comes next, whatever the umask."""
    before = os.umask(0o077)
    try:
        with lease([DeviceLock("GPU-a")], "mine", folder=tmp_path / "locks"):
            pass
    finally:
        os.umask(before)

    assert (tmp_path / "locks").stat().st_mode & 0o7777 == 0o1777
    assert (tmp_path / "locks/GPU-a.lock").stat().st_mode & 0o777 == 0o666


def test_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    """In a folder that all may write, a link could point at somebody's file."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "locks"
    folder.mkdir()
    (folder / "GPU-a.lock").symlink_to(victim)
    with (
        pytest.raises(LeaseError, match=r"GPU-a\.lock cannot be used"),
        lease([DeviceLock("GPU-a")], "mine", folder=folder),
    ):
        pass

    assert victim.read_text() == "precious"


def test_holder_that_wrote_nonsense_is_still_a_holder(tmp_path: Path) -> None:
    """What the file says is for people; the lock is what counts."""
    with lease([DeviceLock("GPU-a")], "first", folder=tmp_path):
        (tmp_path / "GPU-a.lock").write_text("soup")
        with (
            pytest.raises(DeviceHeld, match="left no name"),
            lease([DeviceLock("GPU-a")], "second", folder=tmp_path),
        ):
            pass
