"""The ``machine`` command, and a session that finds its GPU leased."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_mlperf.commands.machine import describe_machine
from pytest_mlperf.commands.main import main
from pytest_mlperf.machine.lease import FOLDER
from pytest_mlperf.machine.lease import DeviceLock
from pytest_mlperf.machine.lease import lease
from pytest_mlperf.machine.system import System
from pytest_mlperf.machine.system import detect_system
from pytest_mlperf.machine.system_file import SystemFileError
from tests.support.kernel_files import write_files

CLONE = Path(__file__).parents[2]
SMI = """\
#!/bin/sh
echo 'Made-up G, 81559, 00000000:19:00.0, GPU-aaaa, 9.0'
echo 'Made-up G, 81559, 00000000:41:00.0, GPU-bbbb, 9.0'
"""


def machine(folder: Path, numa: str = "", **files: str) -> System:
    """Detect a made-up machine of two nodes; GPU 0 is on node 1."""
    tree: Mapping[str, str] = {
        "sys/devices/system/node/online": "0-1\n",
        "sys/devices/system/node/node0/cpulist": "0-3\n",
        "sys/devices/system/node/node1/cpulist": "4-7\n",
        "sys/devices/system/cpu/online": "0-7\n",
        "sys/bus/pci/devices/0000:19:00.0/numa_node": "1\n",
        "sys/bus/pci/devices/0000:41:00.0/numa_node": "0\n",
        "proc/self/status": "Cpus_allowed_list: 0-7\n",
        **files,
    }
    write_files(folder / "root", tree)
    tool = folder / "bin/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(SMI)
    tool.chmod(0o755)
    (folder / "systems").mkdir()
    text = f'[numa]\nconfig = "{numa}"\n' if numa else ""
    (folder / "systems/lab.toml").write_text(text)
    return detect_system("lab", folder / "root", rootdir=folder, environ={})


@pytest.fixture(autouse=True)
def _path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("numa", "cpus", "config", "note"),
    [
        ("", [(4, 5, 6, 7), (0, 1, 2, 3)], "1:0-3&0:4-7", ""),
        ("1:0-3&0:4-7", [(4, 5, 6, 7), (0, 1, 2, 3)], "1:0-3&0:4-7", ""),
        ("off", [(), ()], "off", ""),
        (
            "0:0-3&1:4-7",
            [(0, 1, 2, 3), (4, 5, 6, 7)],
            "0:0-3&1:4-7",
            "NUMA: GPU 0: configured CPUs 0-3, detected 4-7; GPU 1: ",
        ),
    ],
)
def test_configuration_wins_and_its_difference_is_told(
    tmp_path: Path, numa: str, cpus: list[tuple[int, ...]], config: str, note: str
) -> None:
    """GPUs get the CPUs that the file says; header and verdict say what differs."""
    system = machine(tmp_path, numa)

    assert cpus == [gpu.cpus for gpu in system.gpus]
    assert config == system.numa_config
    assert system.numa_note.startswith(note)
    assert bool(note) == any(one == system.numa_note for one in system.notes)


def test_another_machines_configuration_stops_with_its_file(tmp_path: Path) -> None:
    """A copied configuration names CPUs or GPUs that are not there."""
    with pytest.raises(SystemFileError, match=r"lab\.toml: \[numa\]: .*found GPU 2"):
        machine(tmp_path, "2,0:0-3&1:4-7")


def test_the_option_counts_before_the_file(tmp_path: Path) -> None:
    """--mlperf-numa-config is checked against the machine as the file's [numa] is."""
    assert machine(tmp_path, "off").numa_config == "off"

    def detect(config: str) -> System:
        root = tmp_path / "root"
        return detect_system(
            "lab", root, rootdir=tmp_path, environ={}, numa_config=config
        )

    found = detect("0:0-3&1:4-7")

    assert [gpu.cpus for gpu in found.gpus] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert found.numa_note.endswith("; see --mlperf-numa-config")
    with pytest.raises(ValueError, match=r"^--mlperf-numa-config: .*found GPU 2"):
        detect("2,0:0-3&1:4-7")


def test_machine_is_described_with_what_to_do(tmp_path: Path) -> None:
    """Name, devices, NUMA with both strings, and each setting with its remedy."""
    pages = "sys/kernel/mm/transparent_hugepage/enabled"
    system = machine(tmp_path, "0:0-3&1:4-7", **{pages: "always [madvise] never"})
    lines, amiss = describe_machine(system, tmp_path / "root")

    assert amiss
    assert "name: lab (registered)" in lines
    assert "NUMA: configured 0:0-3&1:4-7, detected 1:0-3&0:4-7" in lines
    assert (
        "huge pages: madvise (advised: always for Server): as root: "
        f"echo always > /{pages}"
    ) in lines


def test_machine_with_nothing_amiss_says_so(tmp_path: Path) -> None:
    """Detected placement and no advice: nothing to do."""
    lines, amiss = describe_machine(machine(tmp_path), tmp_path / "root")

    assert not amiss
    assert "NUMA: 1:0-3&0:4-7" in lines


def test_command_prints_the_proof_and_its_refusal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine on no enable list gets the reckoning nevertheless."""
    monkeypatch.delenv("SYSTEM_NAME", raising=False)
    code = main(["machine", "--proof", "bert", "--rate", "7717", "--type-bytes", "4"])
    out = capsys.readouterr().out

    assert code == 1
    assert "0.035560 GB/s  rules: 7,717/s x 4,608 bytes" in out
    assert "start_from_device is not enabled for" in out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("BERT-99", ["in           3,076  guide:", "PCIe 3.0 x16 15.75 5,120,286 -"]),
        ("RNNT", ["in         480,000  guide:", "PCIe 3.0 x16 15.75 32,812 -"]),
        ("SSDResNet34", ["4,320,000 guide: (3 x 1200 x 1200)", "63.00 14,583 -"]),
        ("ssd-mobilenet", ["270,000 guide: (3 x 300 x 300)", "63.00 233,333 -"]),
        ("SDXL", ["308  vendor:", "out 3,145,728 vendor:", "63.00 204,545,455 20,027"]),
        ("3D-UNET", ["out 32,944,795 guide:", "63.00 1,912 1,912"]),
        ("yolo", ["no source has a formula for it", "63.00 - -"]),
    ],
)
def test_what_a_sample_takes_is_told_without_a_rate(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    words: list[str],
) -> None:
    """In any usual spelling, with the most samples a second that each link carries."""
    monkeypatch.delenv("SYSTEM_NAME", raising=False)
    code = main(["machine", "--proof", name, "--end", "--link", "1800"])
    out = " ".join(capsys.readouterr().out.split())

    assert code == 0
    assert [w for w in words if " ".join(w.split()) not in out] == []
    assert "--link 1800 1800.00" in out


def test_command_refuses_in_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate or a link that nothing has, and names that name nothing."""
    monkeypatch.delenv("SYSTEM_NAME", raising=False)

    for wrong in (["--rate", "-1"], ["--link", "0"], ["--type-bytes", "0"]):
        with pytest.raises(SystemExit, match="2"):
            main(["machine", "--proof", "bert", *wrong])
        assert "should" in capsys.readouterr().err
    assert main(["machine", "--proof", "berd"]) == 2
    assert "'berd', but should be one of 3d-unet, bert," in capsys.readouterr().err
    assert main(["machine", "--system", "a b"]) == 2
    assert "cannot name a folder" in capsys.readouterr().err


def test_session_fails_in_words_when_its_gpu_is_leased(tmp_path: Path) -> None:
    """The item says who measures on the GPU; no run was started."""
    device = f"GPU-{uuid.uuid4()}"
    machine(tmp_path)
    (tmp_path / "bin/nvidia-smi").write_text(SMI.replace("GPU-aaaa", device))
    command = [sys.executable, "-m", "pytest", str(CLONE / "suites"), "--fast"]
    command += ["-k", "bert and offline and performance", "--mlperf-engine", "null"]
    command += ["-p", "no:cacheprovider", "--mlperf-reports", str(tmp_path / "reports")]
    try:
        with lease([DeviceLock(device)], "the other session"):
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                cwd=CLONE,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": device},
                check=False,
            )
    finally:
        (FOLDER / f"{device}.lock").unlink()

    assert done.returncode == 1, done.stdout + done.stderr
    told = f"device {device} is in use by another session (pid {os.getpid()}, session"
    assert f"{told} the other session since" in done.stdout
    assert not list((tmp_path / "reports").rglob("mlperf_log_*"))
