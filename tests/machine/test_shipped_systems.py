"""The shipped system files: every machine of two public lists, each recognised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mlperf.machine.gpus import Gpu
from pytest_mlperf.machine.host import Host
from pytest_mlperf.machine.host import read_host
from pytest_mlperf.machine.system import _check_name
from pytest_mlperf.machine.system import detect_system
from pytest_mlperf.machine.system_file import SystemFile
from pytest_mlperf.machine.system_file import load_folders

FOLDER = Path(__file__).parents[2] / "systems"
FILES = {file.name: file for file in load_folders([FOLDER])}

VIRTUALCLIENT = (
    "A100-SXM-80GBx8",
    "A100-SXM-80GBx4",
    "A100-PCIex8",
    "A2x2",
    "A30x8",
    "A100-SXM-80GBx1",
    "A100-PCIex1",
    "A30x1",
    "A2x1",
    "Orin",
    "Xavier NX",
    "DGX-A100_A100-SXM4-40GBx8",
)
"""Supported systems of VirtualClient's MLPerf document, and that of its metrics."""
NVIDIA = (
    "B200-SXM-180GBx8",
    "GB200-NVL72_GB200-186GB_aarch64x4",
    "GB200-NVL72_GB200-186GB_aarch64x72",
    "GB300-NVL72_GB300-288GB_aarch64x72",
)
"""Supported systems of NVIDIA's v5.1 README."""
EPYC, GRACE = "AMD EPYC 7742 64-Core Processor", "Arm Neoverse-V2"
XEON = "Intel(R) Xeon(R) Platinum 8480C"


def host(arch: str, cpu: str, board: str = "") -> Host:
    made = read_host(Path("/nowhere"))
    return replace(made, arch=arch, cpu_model=cpu, board=board, memory_bytes=1 << 39)


def fitting(machine: Host, gpu: str, count: int) -> list[str]:
    gpus = tuple(Gpu(gpu, 0, "", f"GPU-{n}") for n in range(count))
    return [name for name, file in FILES.items() if file.match.fits(machine, gpus)]


@pytest.mark.parametrize("name", [*VIRTUALCLIENT, *NVIDIA])
def test_every_listed_machine_has_a_file_of_its_name(name: str) -> None:
    """A name as its document spells it selects exactly one file."""
    assert len([file for file in FILES.values() if name in file.names]) == 1


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_every_file_names_a_folder_and_says_what_it_is(file: SystemFile) -> None:
    """The file is read without error, its name fits a submission, its model is told."""
    _check_name(file.name)
    if file.name != "example":
        assert {"system_type", "accelerator_model_name"} <= set(file.description)


@pytest.mark.parametrize(
    ("machine", "gpu", "count", "name"),
    [
        (host("x86_64", EPYC), "NVIDIA A100-SXM4-80GB", 8, "A100-SXM-80GBx8"),
        (host("x86_64", EPYC), "NVIDIA A100-SXM4-80GB", 4, "A100-SXM-80GBx4"),
        (host("x86_64", EPYC), "A100-SXM4-80GB", 1, "A100-SXM-80GBx1"),
        (host("x86_64", EPYC), "NVIDIA A100 80GB PCIe", 8, "A100-PCIex8"),
        (host("x86_64", EPYC), "NVIDIA A30", 1, "A30x1"),
        (host("x86_64", "AMD EPYC 7232P 8-Core Processor"), "NVIDIA A2", 2, "A2x2"),
        (
            host("x86_64", EPYC),
            "NVIDIA A100-SXM4-40GB",
            8,
            "DGX-A100_A100-SXM4-40GBx8",
        ),
        (host("x86_64", "any"), "Tesla T4", 8, "T4x8"),
        (host("x86_64", XEON), "NVIDIA H100 80GB HBM3", 8, "DGX-H100_H100-SXM-80GBx8"),
        (host("x86_64", "any"), "NVIDIA H100 PCIe", 1, "H100-PCIe-80GBx1"),
        (host("x86_64", XEON), "NVIDIA H200", 8, "H200-SXM-141GBx8"),
        (
            host("aarch64", GRACE),
            "NVIDIA GH200 480GB",
            1,
            "GH200-GraceHopper-Superchip_GH200-96GB_aarch64x1",
        ),
        (
            host("aarch64", GRACE),
            "NVIDIA GH200 144G HBM3e",
            2,
            "GH200-GraceHopper-Superchip_GH200-144GB_aarch64x2",
        ),
        (host("x86_64", "any"), "NVIDIA B200", 8, "B200-SXM-180GBx8"),
        (
            host("aarch64", GRACE),
            "NVIDIA GB200",
            4,
            "GB200-NVL72_GB200-186GB_aarch64x4",
        ),
        (
            host("aarch64", GRACE),
            "NVIDIA GB300",
            4,
            "GB300-NVL72_GB300-288GB_aarch64x4",
        ),
        (
            host("aarch64", "A78AE", "NVIDIA Jetson AGX Orin Developer Kit"),
            "",
            0,
            "Orin",
        ),
        (host("aarch64", "Carmel", "NVIDIA Jetson Xavier NX"), "", 0, "Xavier_NX"),
    ],
)
def test_a_machine_is_recognised_as_one_system(
    machine: Host, gpu: str, count: int, name: str
) -> None:
    """GPU's name and count, CPU and architecture lead to one file alone."""
    assert fitting(machine, gpu, count) == [name]


@pytest.mark.parametrize(
    ("machine", "gpu", "count"),
    [
        (host("x86_64", "AMD EPYC 9654"), "NVIDIA A100-SXM4-80GB", 8),
        (host("x86_64", EPYC), "NVIDIA A100-SXM4-80GB", 3),
        (host("x86_64", XEON), "NVIDIA H200 NVL", 8),
        (host("x86_64", EPYC), "NVIDIA A20", 8),
        (host("x86_64", "any"), "NVIDIA GeForce RTX 4090", 1),
        (host("aarch64", "any", "Raspberry Pi 5"), "", 0),
        (host("x86_64", "any"), "", 0),
    ],
)
def test_another_machine_fits_no_file(machine: Host, gpu: str, count: int) -> None:
    """The same GPUs beside another CPU are another system, and so is another count."""
    assert fitting(machine, gpu, count) == []


def test_name_with_a_blank_selects_the_folders_name(tmp_path: Path) -> None:
    """``Xavier NX`` is asked for as documents write it, and registered for folders."""
    system = detect_system("Xavier NX", root=tmp_path, rootdir=tmp_path, environ={})

    assert (system.name, system.registered) == ("Xavier_NX", True)
    assert system.description["system_name"] == "Xavier NX"


def test_only_the_station_starts_from_device_as_shipped() -> None:
    """The enable list has the one system that the tuning guide names; no end on it."""
    enabled = [n for n, f in FILES.items() if f.on_device.start_from_device]
    ending = [n for n, f in FILES.items() if f.on_device.end_on_device]

    assert (enabled, ending) == (["A100-SXM-80GBx4"], [])
