"""Clocks are locked when asked and reset whatever happens, by a program in
nvidia-smi's place that notes what it is told.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.config.option_types import HIGHEST_CLOCK
from pytest_mlperf.config.option_types import parse_clock
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.machine import clocks
from pytest_mlperf.machine import setting_guard
from pytest_mlperf.machine.clocks import choose_clock
from pytest_mlperf.machine.clocks import lock_clock
from pytest_mlperf.machine.system_file import SystemFileError
from pytest_mlperf.machine.system_file import load_system_file
from tests.support.doubles import await_true

UUID = "GPU-11111111-2222-3333-4444-555555555555"
SMI = """\
#!/bin/sh
echo "$@" >> "{log}"
case "$*" in
  *clocks.max.sm*) echo "{highest}" ;;
  *-lgc*) sleep {slow}; echo "{lock}"; exit {status} ;;
  *-rgc*) echo "{reset}"; exit {unset} ;;
esac
"""
Calls = Callable[[], list[str]]


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Calls]:
    """Puts a program on PATH; returns what it was asked since."""

    def put(**told: Any) -> Calls:
        log = tmp_path / "asked.txt"
        said = {
            "highest": "1980",
            "lock": "GPU clocks set",
            "reset": "All done.",
            "status": 0,
            "unset": 0,
            "slow": 0,
            **told,
        }
        program = tmp_path / "bin/nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        program.write_text(SMI.format(log=log, **said))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        return lambda: log.read_text().splitlines() if log.is_file() else []

    return put


def test_nothing_is_set_unless_asked(smi: Callable[..., Calls]) -> None:
    """No program is run, no guard is started, no fact is told."""
    asked = smi()
    with lock_clock(None, UUID) as facts:
        assert facts == {}

    assert asked() == []


def test_a_clock_is_locked_for_the_block_and_reset_after_it(
    smi: Callable[..., Calls],
) -> None:
    """The verdict says what was set, by whose word, and that it was reset."""
    asked = smi()
    with lock_clock("1590", UUID) as facts:
        inside = asked()

    assert inside == [f"-i {UUID} -lgc 1590,1590"]
    assert asked() == [*inside, f"-i {UUID} -rgc"]
    assert dict(facts) == {
        "clocks locked": "1590 MHz for this run (GPU clocks set), then reset"
    }


def test_max_is_the_highest_clock_that_the_gpu_names(
    smi: Callable[..., Calls],
) -> None:
    """It is asked for, not guessed."""
    asked = smi(highest="1980")
    with lock_clock(HIGHEST_CLOCK, UUID) as facts:
        pass

    assert f"-i {UUID} -lgc 1980,1980" in asked()
    assert facts["clocks locked"].startswith("1980 MHz")


def test_an_error_in_the_block_resets_too(smi: Callable[..., Calls]) -> None:
    """A run that fails leaves the device as it was."""
    asked = smi()
    with pytest.raises(KeyError), lock_clock("1590", UUID):
        raise KeyError

    assert asked()[-1] == f"-i {UUID} -rgc"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_crash_resets_too(
    smi: Callable[..., Calls], tmp_path: Path, number: signal.Signals
) -> None:
    """The guard outlives its owner, whatever ended that, and then does its work."""
    asked = smi()
    script = textwrap.dedent(f"""
        import os, time
        from pytest_mlperf.machine.clocks import lock_clock
        with lock_clock("1590", {UUID!r}):
            open({str(tmp_path / "inside")!r}, "w").close()
            time.sleep(600)
    """)
    owner = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    await_true((tmp_path / "inside").exists, "the lock")
    before = asked()
    os.killpg(owner.pid, number)
    owner.wait()
    await_true(lambda: len(asked()) > len(before), "the reset")

    assert before == [f"-i {UUID} -lgc 1590,1590"]
    assert asked()[1:] == [f"-i {UUID} -rgc"]


def test_a_lock_that_never_answers_is_reset_too(
    smi: Callable[..., Calls], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whether it came to be."""
    monkeypatch.setattr(setting_guard, "TIMEOUT_S", 0.5)
    asked = smi(slow=2)

    with (
        pytest.raises(RunRefused, match="timed out after"),
        lock_clock("1590", UUID),
    ):
        pass
    assert asked() == [f"-i {UUID} -lgc 1590,1590", f"-i {UUID} -rgc"]


def test_without_permission_nothing_is_changed_and_the_remedy_is_root(
    smi: Callable[..., Calls],
) -> None:
    """As the driver words it; a reset would be a change as well."""
    said = (
        "The current user does not have permission to change clocks for GPU "
        "00000000:19:00.0. Terminating early due to previous errors."
    )
    asked = smi(lock=said, status=4)
    with pytest.raises(RunRefused) as refused, lock_clock("1590", UUID):
        pass

    assert "ended with status 4 (The current user does not" in str(refused.value)
    assert "; run as root, or lock it yourself before" in str(refused.value)
    assert f"sudo nvidia-smi -i {UUID} -lgc 1590,1590" in str(refused.value)
    assert asked() == [f"-i {UUID} -lgc 1590,1590"]


@pytest.mark.parametrize(
    ("told", "clock", "said"),
    [
        (
            {"lock": "Setting locked GPU clocks is not supported for GPU 0"},
            "1590",
            "not supported for GPU 0.*nvidia-smi -q -d SUPPORTED_CLOCKS lists clocks",
        ),
        ({"highest": "[N/A]"}, HIGHEST_CLOCK, r"found '\[N/A\]', but it should be MHz"),
    ],
)
def test_a_device_that_cannot_is_refused(
    smi: Callable[..., Calls], told: dict[str, str], clock: str, said: str
) -> None:
    """Also where nvidia-smi says so with status 0, which it does."""
    smi(**told)
    with pytest.raises(RunRefused, match=said), lock_clock(clock, UUID):
        pass


def test_a_reset_that_fails_is_told_with_the_command(
    smi: Callable[..., Calls],
) -> None:
    """It is tried again before that is said."""
    asked = smi(reset="GPU is lost", unset=15)
    with lock_clock("1590", UUID) as facts:
        pass

    assert sum("-rgc" in line for line in asked()) == 3
    assert (
        f"NOT RESET: GPU is lost; run nvidia-smi -i {UUID} -rgc as root"
        in (facts["clocks locked"])
    )


def test_without_nvidia_smi_or_gpu_the_option_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunRefused, match=r"nvidia-smi, which should be on PATH"):
        lock_clock("1590", UUID).__enter__()
    with pytest.raises(RunRefused, match="there is no GPU to lock the clock of"):
        lock_clock("1590", "").__enter__()
    with pytest.raises(RunRefused, match="MIG-1 is a part of the GPU it is on, whose"):
        lock_clock("1590", "MIG-1").__enter__()


def test_clocks_that_somebody_set_are_left_alone(
    smi: Callable[..., Calls], library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they were set to cannot be read, so it could not be put back."""
    asked = smi()
    look = partial(clocks._refuse_if_set, library=library)
    monkeypatch.setattr(clocks, "_refuse_if_set", look)
    with pytest.raises(RunRefused, match="the clocks of GPU-a already"):
        lock_clock("1590", "GPU-a").__enter__()
    none = asked()
    with lock_clock("1590", UUID):  # which that library does not know
        pass

    assert none == []
    assert len(asked()) == 2


@pytest.mark.parametrize(("text", "clock"), [("max", HIGHEST_CLOCK), (" 1590", "1590")])
def test_the_option_is_max_or_megahertz(text: str, clock: str) -> None:
    """Nothing else is a clock."""
    assert parse_clock(text) == clock
    with pytest.raises(ValueError, match="max, or MHz from 100 to 10000"):
        parse_clock(f"{text}MHz")


@pytest.mark.parametrize(
    ("option", "setting", "clock"),
    [
        (None, None, None),
        (None, False, None),
        (None, True, HIGHEST_CLOCK),
        (None, 1410, "1410"),
        ("1590", 1410, "1590"),
        (HIGHEST_CLOCK, None, HIGHEST_CLOCK),
    ],
)
def test_the_option_wins_over_the_system_file(
    option: str | None, setting: bool | int | None, clock: str | None
) -> None:
    """Without either, and in a rehearsal, no clock is set."""
    assert choose_clock(option, setting) == clock
    assert choose_clock(option, setting, rehearsal=True) is None


def test_the_system_files_key_is_checked(tmp_path: Path) -> None:
    """A value that is no clock stops with its file and what is legal."""
    path = tmp_path / "lab.toml"
    path.write_text("[settings]\nlock_clocks = 1590\n")
    good = load_system_file(path).settings
    path.write_text('[settings]\nlock_clocks = "max"\n')
    with pytest.raises(SystemFileError, match=r"it should be true .the highest clock"):
        load_system_file(path)

    assert dict(good) == {"lock_clocks": 1590}


def test_no_shipped_system_asks_for_a_setting() -> None:
    """What ships changes nothing on anybody's machine."""
    folder = Path(__file__).parents[2] / "systems"
    asking = [p.name for p in folder.glob("*.toml") if load_system_file(p).settings]

    assert asking == []
