"""GPUs through a nvidia-smi that the test writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_mlperf.machine.gpus import Gpu
from pytest_mlperf.machine.gpus import find_gpus
from pytest_mlperf.machine.system import detect_system

Tool = Callable[[str], None]

ROWS = """\
Made-up G 80GB, 81559, 00000000:41:00.0, GPU-bbbb, 9.0
Made-up G 80GB, 81559, 00000000:19:00.0, GPU-aaaa, 9.0
"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """Put an executable nvidia-smi with this shell code on an otherwise empty PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("SYSTEM_NAME", raising=False)

    def write(code: str) -> None:
        path = folder / "nvidia-smi"
        path.write_text(f"#!/bin/sh\n{code}\n")
        path.chmod(0o755)

    return write


def say(text: str) -> str:
    return f"/bin/cat <<'END'\n{text}END"


def test_gpus_come_in_pci_order_with_their_cpus(tool: Tool, tmp_path: Path) -> None:
    """Rows become GPUs, sysfs tells the CPUs near each, and the name counts them."""
    tool(say(ROWS))
    near = tmp_path / "sys/bus/pci/devices/0000:41:00.0/local_cpulist"
    near.parent.mkdir(parents=True)
    near.write_text("4-5\n")
    system = detect_system(root=tmp_path, rootdir=tmp_path, environ={})

    assert [gpu.uuid for gpu in system.gpus] == ["GPU-aaaa", "GPU-bbbb"]
    assert (
        Gpu("Made-up G 80GB", 81559 << 20, "0000:41:00.0", "GPU-bbbb", (9, 0), (4, 5))
        == system.gpus[1]
    )
    assert system.name == f"UNREGISTERED_{system.arch}_Made-up_G_80GBx2"
    assert "2 x Made-up G 80GB" in system.summary
    assert system.description["accelerator_memory_capacity"] == "80 GiB"
    assert system.notes == ()


def test_old_driver_without_compute_cap_is_asked_again(tool: Tool) -> None:
    """A driver that refuses the field is asked once more without it."""
    tool(
        'case "$1" in *compute_cap*) echo "Field compute_cap is not valid"; exit 2;; '
        'esac; echo "Old G, [N/A], 00000000:19:00.0, GPU-aaaa"'
    )
    gpus, notes = find_gpus(Path("/nowhere"))

    assert (Gpu("Old G", 0, "0000:19:00.0", "GPU-aaaa"),) == gpus
    assert notes == ()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param("echo no driver here; exit 9", "status 9 (no driver", id="status"),
        pytest.param("echo soup; echo a,b,c,d,e", "no GPU in the line", id="garbage"),
        pytest.param("printf '\\377\\376'", "no GPU in the line", id="bytes"),
        pytest.param("exec /bin/sleep 60", "no answer within", id="hangs"),
        pytest.param("kill -SEGV $$", "exit status -11 (no output)", id="crash"),
    ],
)
def test_broken_tool_is_a_note_and_no_gpu(tool: Tool, code: str, said: str) -> None:
    """Whatever nvidia-smi does wrong, the machine counts as one without a GPU."""
    tool(code)
    # Short only where it has to pass: a busy machine may start a shell slowly.
    timeout_s = 0.3 if "sleep" in code else 60
    gpus, notes = find_gpus(Path("/nowhere"), timeout_s)

    assert gpus == ()
    assert said in notes[0]


def test_one_lost_gpu_does_not_hide_the_others(tool: Tool) -> None:
    """A line without a GPU is left out with a note; the rest count."""
    tool(say("Unable to determine the device handle for GPU1\n" + ROWS))
    gpus, notes = find_gpus(Path("/nowhere"))

    assert len(gpus) == 2
    assert "device handle" in notes[0]


def test_tool_that_cannot_start_is_a_note(tool: Tool, tmp_path: Path) -> None:
    """An nvidia-smi of another architecture or without interpreter does not raise."""
    tool("")
    (tmp_path / "bin/nvidia-smi").write_text("#!/no/such/interpreter\n")
    gpus, notes = find_gpus(Path("/nowhere"))

    assert gpus == ()
    assert "cannot be run" in notes[0]


def test_driver_without_tools_is_a_note(tool: Tool, tmp_path: Path) -> None:
    """A loaded driver that no tool can ask is said, with what to install."""
    del tool
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    gpus, notes = find_gpus(tmp_path)

    assert gpus == ()
    assert "install nvidia-ml-py" in notes[0]
