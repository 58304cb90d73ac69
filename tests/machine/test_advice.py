"""Advice on made-up kernel trees and a made-up NVML: found, ranked, with its cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_mlperf.commands.main import main
from pytest_mlperf.machine.advice import NOT_MEASURED
from pytest_mlperf.machine.advice import advise
from pytest_mlperf.machine.advice import format_advice
from pytest_mlperf.machine.advice import read_all_settings
from pytest_mlperf.machine.advice_costs import Cost
from pytest_mlperf.machine.gpu_checks import read_gpu_settings
from pytest_mlperf.machine.gpus import Gpu
from pytest_mlperf.machine.host import read_host
from pytest_mlperf.machine.host_checks import HostSetting
from tests.support.kernel_files import write_files

Tree = Mapping[str, str]
CPU, NODE = "sys/devices/system/cpu", "sys/devices/system/node"
EDAC = "sys/devices/system/edac/mc"
PCI = "sys/bus/pci/devices/0000:19:00.0"
GIB = 1 << 20
"""In kB, as meminfo has it."""
TWO_SOCKETS = {
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD EPYC 9654\nflags\t\t: fpu avx\n",
    "proc/meminfo": f"MemTotal: {256 * GIB} kB\nMemAvailable: {200 * GIB} kB\n",
    "proc/self/status": "Cpus_allowed_list: 0-7\n",
    f"{CPU}/online": "0-7\n",
    f"{NODE}/online": "0-1\n",
    **{f"{NODE}/node{n}/meminfo": f"Node {n} MemTotal: {128 * GIB} kB" for n in (0, 1)},
    **{f"{NODE}/node{n}/cpulist": f"{4 * n}-{4 * n + 3}" for n in (0, 1)},
    **{
        f"{CPU}/cpu{n}/topology/{name}": text
        for n in range(8)
        for name, text in (
            ("physical_package_id", str(n // 4)),
            ("package_cpus_list", "4-7" if n > 3 else "0-3"),
            ("core_cpus_list", f"{n - n % 2}-{n - n % 2 + 1}"),
        )
    },
}
"""Two EPYCs of two cores and four threads, a node each."""
HALF = "the quota of 0.5 CPUs allows no more of 8"
CHANNELS = {f"{EDAC}/mc0/max_location": "channel 3 slot 1"} | {
    f"{EDAC}/mc0/dimm{n}/{name}": text
    for n in range(4)
    for name, text in (("dimm_location", f"channel {n} slot 0"), ("size", "32768"))
}


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Tree], dict[str, HostSetting]]:
    def settings_of(tree: Tree) -> dict[str, HostSetting]:
        write_files(tmp_path, tree)
        found = read_all_settings(read_host(tmp_path), root=tmp_path)
        return {one.name: one for one in found}

    return settings_of


@pytest.mark.parametrize(
    ("name", "tree", "found", "advised"),
    [
        ("numa nodes", {}, "2 alike, 4 CPUs and 128 GiB each", ""),
        (
            "numa nodes", {f"{NODE}/node1/meminfo": f"Node 1 MemTotal: {64 * GIB} kB"},
            "uneven, node 0: 4 CPUs, 128 GiB; node 1: 4 CPUs, 64 GiB", "alike",
        ),
        ("nodes per socket", {}, "1", "4 (NPS4), or 2"),
        (
            "nodes per socket",
            {"proc/cpuinfo": "model name : Intel(R) Xeon(R) 8480C\nflags : avx"},
            "1", "2 or more (SNC on)",
        ),
        (
            "nodes per socket",
            {"proc/cpuinfo": "model name : AMD EPYC\nflags : avx hypervisor"},
            "1, as the hypervisor shows them", "",
        ),
        ("memory channels", CHANNELS, "4 of 4 channels in use", ""),
        (
            "memory channels", {**CHANNELS, f"{EDAC}/mc0/dimm3/size": "0"},
            "3 of 4 channels in use", "all 4",
        ),
        (
            "memory channels",
            {
                "sys/firmware/dmi/entries/17-0/raw": "\x11" * 12 + "\x00\x40",
                "sys/firmware/dmi/entries/17-1/raw": "\x11" * 12 + "\x00\x00",
            },
            "1 of 2 slots in use", "",
        ),
        (
            "threads", {"sys/fs/cgroup/cpu.max": "250000 100000"},
            "2 at once: the quota of 2.5 CPUs allows no more of 8", "",
        ),
        (
            "threads", {"sys/fs/cgroup/cpu.max": "50000 100000"},
            f"1 at once: {HALF}, and even that one is stopped in every period",
            "a whole CPU",
        ),
        (
            "cpuset", {"proc/self/status": "Cpus_allowed_list: 0-3\n"},
            "CPUs 0-3 of 0-7", "",
        ),
        (
            "cpuset", {"proc/self/status": "Cpus_allowed_list: 0-2\n"},
            "CPUs 0-2 of 0-7; the other thread of the cores of 2 is not ours",
            "whole cores",
        ),
        (
            "cpuset", {"proc/self/status": "Cpus_allowed_list: 0-5\n"},
            "CPUs 0-5 of 0-7; 4 on node 0, 2 on node 1", "one node",
        ),
        (
            "memory limit",
            {
                "proc/self/cgroup": "0::/box\n",
                "sys/fs/cgroup/box/memory.max": str(8 << 30),
                "sys/fs/cgroup/box/memory.current": str(15 << 29),
            },
            "8.0 of 256.0 GiB, 0.5 GiB left", "10% of it left",
        ),
        (
            "memory limit",
            {
                "proc/self/cgroup": "0::/box\n",
                "sys/fs/cgroup/box/memory.max": str(8 << 30),
                "sys/fs/cgroup/box/memory.current": str(1 << 30),
            },
            "8.0 of 256.0 GiB, 7.0 GiB left", "",
        ),
    ],
)  # fmt: skip
def test_a_machine_is_judged_by_its_files(
    read: Callable[[Tree], dict[str, HostSetting]],
    name: str,
    tree: Tree,
    found: str,
    advised: str,
) -> None:
    setting = read(TWO_SOCKETS | dict(tree))[name]

    assert (setting.found, setting.advised) == (found, advised)
    assert bool(setting.advised) == bool(setting.remedy)


def test_a_machine_that_limits_nothing_has_no_limits_in_its_list(
    read: Callable[[Tree], dict[str, HostSetting]],
) -> None:
    """And what cannot be read is said to be unknown, not good."""
    settings = read(TWO_SOCKETS)

    assert not {"threads", "cpuset", "memory limit", "cpu quota"} & set(settings)
    assert not settings["memory channels"].is_known
    found = advise([*settings.values()])
    assert [one.name for one in found.unknown] == ["memory channels"]
    assert "cannot be read here:" in format_advice(found)


def test_a_gpu_is_judged_by_nvml(library: str, tmp_path: Path) -> None:
    """Four findings of one card; the commands name its number."""
    gpus = [Gpu("Made-up G", 1, "", "GPU-a")]

    settings = {s.name: s for s in read_gpu_settings(gpus, tmp_path, library)}

    shown = {name: (one.found, one.advised) for name, one in settings.items()}
    assert shown == {
        "GPU 0 persistence": ("off", "on"),
        "GPU 0 ECC": ("off, on after the next reset", "on for datacenter submissions"),
        "GPU 0 PCIe": ("gen 4 x8", "gen 5 x16"),
        "GPU 0 clocks": (
            "locked, 61 °C, held back by thermal slowdown", "held back by nothing",
        ),
    }  # fmt: skip
    assert "nvidia-smi -i 0 -pm 1" in settings["GPU 0 persistence"].remedy


@pytest.mark.parametrize(
    ("width", "speed", "found", "advised"),
    [
        ("16", "16.0 GT/s PCIe", "gen 4 x16", ""),
        ("16", "2.5 GT/s PCIe", "gen 1 x16 while idle, gen 4 x16 at most", ""),
        ("4", "16.0 GT/s PCIe", "gen 4 x4", "gen 4 x16"),
    ],
)
def test_a_link_is_read_from_sysfs_without_nvml(
    tmp_path: Path, width: str, speed: str, found: str, advised: str
) -> None:
    """An idle link's generation is power saving; missing lanes are not."""
    (tmp_path / PCI).mkdir(parents=True)
    for name, text in {
        "current_link_width": width, "max_link_width": "16",
        "current_link_speed": speed, "max_link_speed": "16.0 GT/s PCIe",
    }.items():  # fmt: skip
        (tmp_path / PCI / name).write_text(f"{text}\n")

    (link,) = read_gpu_settings([Gpu("G", 1, "0000:19:00.0", "GPU-x")], tmp_path)

    assert (link.name, link.found, link.advised) == ("GPU 0 PCIe", found, advised)


def test_measured_losses_lead_and_noise_comes_last() -> None:
    """Between them stands what is not measured, by what it does to a run."""
    names = ["GPU 1 ECC", "huge pages", "memory limit", "cpu quota", "load before"]
    settings = [HostSetting(name, "bad", "good", "do it") for name in names]
    costs = {"huge pages": 0.2, "load before": 0.5, "cpu quota": 0.01}

    def measure(share: float) -> Callable[[], Cost]:
        return lambda: Cost(share, f"{share:.0%}")

    found = advise(settings, {name: measure(s) for name, s in costs.items()})

    assert [(one.rank, one.name, one.cost) for one in found.advice] == [
        (1, "load before", "50%"),
        (2, "huge pages", "20%"),
        (3, "memory limit", NOT_MEASURED),
        (4, "GPU 1 ECC", NOT_MEASURED),
        (5, "cpu quota", "1%"),
    ]
    text = "\n".join(format_advice(found))
    assert "2. huge pages: bad\n   should be: good\n   to change: do it\n" in text
    assert format_advice(advise([HostSetting("ECC", "on")]))[0] == "nothing to change"


def test_command_prints_the_list_as_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the machine at hand: ranks from 1, and 1 as exit code where there are any."""
    monkeypatch.delenv("SYSTEM_NAME", raising=False)
    code = main(["machine", "--advise", "--json"])
    record = json.loads(capsys.readouterr().out)

    ranks = [one["rank"] for one in record["advice"]]
    assert ranks == [*range(1, len(ranks) + 1)]
    assert code == bool(ranks)
    assert all(one["remedy"] and one["cost"] for one in record["advice"])
    assert "memory channels" in {
        **record["good"], **record["unknown"],
        **{one["name"]: one for one in record["advice"]},
    }  # fmt: skip
    assert main(["machine", "--json"]) == 2
    assert "give both" in capsys.readouterr().err
