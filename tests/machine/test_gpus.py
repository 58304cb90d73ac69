"""GPUs through a nvidia-smi that the test writes, and the devices made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.machine.gpus import Gpu
from pytest_mlperf.machine.gpus import devices
from pytest_mlperf.machine.gpus import find_gpus
from pytest_mlperf.machine.gpus import split_cpus
from pytest_mlperf.machine.system import System
from pytest_mlperf.machine.system import detect

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


def machine(gpus: int) -> System:
    """Return this machine's system with made-up GPUs; CPU 0 is next to the first."""
    system = detect(root=Path("/nowhere"), rootdir=Path("/nowhere"), environ={})
    values = {name: getattr(system, name) for name in System.__dataclass_fields__}
    made = tuple(
        Gpu(f"G{n}", 1, f"0000:{n:02x}:00.0", f"GPU-{n}{n}", None, (n,))
        for n in range(gpus)
    )
    return System(**values | {"gpus": made, "cpus": (0, 1), "threads": 2})


def test_gpus_come_in_pci_order_with_their_cpus(tool: Tool, tmp_path: Path) -> None:
    """Rows become GPUs, sysfs tells the CPUs near each, and the name counts them."""
    tool(say(ROWS))
    near = tmp_path / "sys/bus/pci/devices/0000:41:00.0/local_cpulist"
    near.parent.mkdir(parents=True)
    near.write_text("4-5\n")
    system = detect(root=tmp_path, rootdir=tmp_path, environ={})

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


def test_machine_without_gpu_is_one_cpu_device() -> None:
    """All usable CPUs are one device, which shows CUDA nothing."""
    (device,) = devices(machine(0), {"CUDA_VISIBLE_DEVICES": "0"})

    assert (
        device.kind,
        device.cpus,
        device.threads,
        device.visible,
    ) == ("cpu", (0, 1), 2, "")


@pytest.mark.parametrize(
    ("setting", "visible"),
    [
        (None, ["GPU-00", "GPU-11", "GPU-22"]),
        ("2,0", ["GPU-22", "GPU-00"]),
        (" 1 , 1", ["GPU-11"]),
        ("GPU-11", ["GPU-11"]),
        ("GPU-2", ["GPU-22"]),
        ("1,7,0", ["GPU-11"]),
        ("0,-1,1", ["GPU-00"]),
        ("MIG-1234/1/0,MIG-5", ["MIG-1234/1/0", "MIG-5"]),
        ("GPU-", [""]),
        ("", [""]),
        ("NoDevFiles", [""]),
    ],
)
def test_cuda_visible_devices_has_cudas_meaning(
    setting: str | None, visible: list[str]
) -> None:
    """Indices, UUIDs, their beginnings and MIG names select; a bad entry ends it."""
    environ = {} if setting is None else {"CUDA_VISIBLE_DEVICES": setting}
    found = devices(machine(3), environ)

    assert visible == [device.visible for device in found]
    assert list(range(len(found))) == [device.index for device in found]


@pytest.mark.parametrize(
    ("setting", "visible"),
    [
        (None, ["GPU-00", "MIG-1", "MIG-2", "GPU-22"]),
        ("MIG-2,0", ["MIG-2", "GPU-00"]),
        ("1", ["MIG-1"]),
    ],
)
def test_a_gpu_that_is_cut_into_instances_is_so_many_devices(
    setting: str | None, visible: list[str]
) -> None:
    """Each with the CPUs near its GPU; by its number CUDA finds the first of them."""
    system = machine(3)
    whole, cut, last = system.gpus
    gpus = (whole, replace(cut, instances=("MIG-1", "MIG-2")), last)
    environ = {} if setting is None else {"CUDA_VISIBLE_DEVICES": setting}
    found = devices(replace(system, gpus=gpus), environ)

    assert visible == [device.visible for device in found]
    assert {d.cpus for d in found if d.visible.startswith("MIG")} == {(1,)}
    assert {"G1 MIG-1", "G1 MIG-2"} >= {d.name for d in found if "MIG" in d.name}


def test_gpu_gets_the_usable_cpus_next_to_it() -> None:
    """CPUs near the GPU that this process may use; all usable ones when none is."""
    found = devices(machine(3), {})

    assert [device.cpus for device in found] == [(0,), (1,), (0, 1)]
    assert [device.threads for device in found] == [1, 1, 2]


@given(cpus=st.lists(st.integers(0, 999), unique=True, min_size=1), data=st.data())
def test_split_gives_each_worker_its_own_cpus(
    cpus: list[int], data: st.DataObject
) -> None:
    """Parts are disjoint, cover all in order, and differ by at most one in size."""
    workers = data.draw(st.integers(1, len(cpus)))
    parts = split_cpus(cpus, workers)

    assert cpus == [cpu for part in parts for cpu in part]
    assert workers == len(parts)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("workers", [-1, 0, 3])
def test_split_refuses_workers_without_a_cpu(workers: int) -> None:
    """A worker with no CPU to run on is refused, with the numbers that would do."""
    with pytest.raises(ValueError, match="use from 1 to 2 workers"):
        split_cpus((0, 1), workers)
