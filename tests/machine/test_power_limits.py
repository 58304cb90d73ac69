"""Power limits are applied when asked and restored whatever happens, by programs in
nvidia-smi's and cpupower's place that note what they are told.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.machine.power_limits import PowerLimits
from pytest_mlperf.machine.power_limits import limit_power
from pytest_mlperf.machine.system_file import SystemFileError
from pytest_mlperf.machine.system_file import load_system_file
from tests.support.doubles import await_true

UUID = "GPU-11111111-2222-3333-4444-555555555555"
PROGRAM = """\
#!/bin/sh
echo "$(basename $0) $*" >> "{log}"
case "$*" in
  *power.limit*) echo "{before}" ;;
  *-pl*|*frequency-set*) echo "{said}"; exit {status} ;;
esac
"""
FIXED = (
    "Changing power management limit is not supported for GPU: 00000000:01:00.0.\n"
    "Treating as warning and moving on.\nAll done."
)
"""What nvidia-smi says of a GPU whose limit is its firmware's, with status 0."""
Calls = Callable[[], list[str]]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Calls]:
    """Puts both programs on PATH; returns what they were asked since."""

    def put(before: str = "700.00", said: str = "done", status: int = 0) -> Calls:
        log = tmp_path / "asked.txt"
        text = PROGRAM.format(log=log, before=before, said=said, status=status)
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name in ("nvidia-smi", "cpupower"):
            (folder / name).write_text(text, "utf-8")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return lambda: log.read_text("utf-8").splitlines() if log.exists() else []

    return put


def make_sys(root: Path, *governors: str) -> Path:
    """Write the cpufreq files of some CPUs."""
    for cpu, governor in enumerate(governors):
        folder = root / f"devices/system/cpu/cpu{cpu}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{governor}\n", "utf-8")
        (folder / "scaling_max_freq").write_text("3500000\n", "utf-8")
    return root


def test_all_limits_are_applied_and_restored(
    programs: Callable[..., Calls], tmp_path: Path
) -> None:
    """In the reverse order, to what was there before; the facts say both."""
    asked = programs()
    root = make_sys(tmp_path / "sys", "performance", "performance")
    limits = PowerLimits(450, "powersave", 2000)
    with limit_power(limits, [UUID], [0, 1], root) as facts:
        during = asked()

    assert during[1:] == [
        f"nvidia-smi -i {UUID} -pl 450",
        "cpupower -c 0,1 frequency-set -g powersave -u 2000MHz",
    ]
    assert asked()[3:] == [
        "cpupower -c 0,1 frequency-set -g performance -u 3500000kHz",
        f"nvidia-smi -i {UUID} -pl 700.00",
    ]
    assert facts == {
        f"power limit of {UUID}": "450 W for this run, 700.00 W before, then restored",
        "CPU frequency": "governor powersave and at most 2000 MHz for this run, "
        "performance and 3500 MHz before, then restored",
    }


def test_an_error_in_the_block_restores_them(programs: Callable[..., Calls]) -> None:
    asked = programs()
    with pytest.raises(RuntimeError), limit_power(PowerLimits(450), [UUID], []):
        raise RuntimeError

    assert asked()[-1] == f"nvidia-smi -i {UUID} -pl 700.00"


def test_a_killed_session_restores_them(programs: Callable[..., Calls]) -> None:
    """SIGKILL, which no handler of this process sees."""
    asked = programs()
    code = (
        "import time\n"
        "from pytest_mlperf.machine.power_limits import PowerLimits, limit_power\n"
        f"with limit_power(PowerLimits(450), ['{UUID}'], []):\n"
        "    time.sleep(60)\n"
    )
    session = subprocess.Popen([sys.executable, "-c", code])
    await_true(lambda: any("-pl 450" in line for line in asked()), "a limit")
    session.send_signal(signal.SIGKILL)
    session.wait()
    await_true(lambda: asked()[-1].endswith("-pl 700.00"), "the limit before")


@pytest.mark.parametrize(
    ("limits", "told", "words"),
    [
        (PowerLimits(450), {"status": 1, "said": "no permission"}, "run as root"),
        (PowerLimits(450), {"said": FIXED}, "not supported for GPU"),
        (PowerLimits(450), {"before": "[N/A]"}, "cannot be restored"),
        (PowerLimits(None, "powersave"), {}, "performance, powersave, and only one"),
    ],
)
def test_what_cannot_be_limited_is_refused_unchanged(
    programs: Callable[..., Calls],
    tmp_path: Path,
    limits: PowerLimits,
    told: dict[str, str | int],
    words: str,
) -> None:
    """Without a permission, or where what is there could not be restored."""
    asked = programs(**told)
    root = make_sys(tmp_path / "sys", "performance", "powersave")
    with (
        pytest.raises(RunRefused, match=words),
        limit_power(limits, [UUID], [0, 1], root),
    ):
        pytest.fail("nothing runs")

    assert not any("-pl 700" in line for line in asked())


def test_a_machine_without_gpu_or_frequencies_says_so(tmp_path: Path) -> None:
    """Virtual machines have no cpufreq."""
    with pytest.raises(RunRefused, match="no GPU to limit"):
        limit_power(PowerLimits(450), [], []).__enter__()
    with pytest.raises(RunRefused, match="a virtual machine has none"):
        limit_power(PowerLimits(None, "x"), [], [0], tmp_path).__enter__()


def test_a_system_file_asks_for_limits(tmp_path: Path) -> None:
    """And a value that is none is an error of the file."""
    path = tmp_path / "maxq.toml"
    path.write_text("[settings]\npower_limit_w = 450\ncpu_governor = 'powersave'\n")
    good = PowerLimits.of(load_system_file(path).settings)
    path.write_text("[settings]\npower_limit_w = 0\n")
    with pytest.raises(SystemFileError, match="a number above 0"):
        load_system_file(path)

    assert good == PowerLimits(450, "powersave", None)
