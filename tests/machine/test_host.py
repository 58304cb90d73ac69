"""What the host is found to be, on made-up /proc and /sys trees."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.machine.devices import find_devices
from pytest_mlperf.machine.host import parse_cpus
from pytest_mlperf.machine.host import read_available_memory
from pytest_mlperf.machine.host import read_host
from pytest_mlperf.machine.system import detect_system
from tests.support.kernel_files import Grow

X86 = "processor\t: 0\nmodel name\t: Made-up  X 9000\n\nprocessor\t: 1\n"
ARM = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n"
CPU = "sys/devices/system/cpu"
NODE = "sys/devices/system/node"


def two_sockets() -> dict[str, str]:
    """Describe 2 sockets x 2 cores x 2 threads, siblings 4 apart, a node a socket."""
    tree = {
        "proc/cpuinfo": X86,
        "proc/meminfo": "MemTotal:       67108864 kB\nMemFree: 1 kB\n",
        "proc/sys/kernel/arch": "x86_64\n",
        "proc/sys/kernel/osrelease": "6.9.0-made-up\n",
        "proc/self/status": "Name:\tx\nCpus_allowed_list:\t0-7\n",
        "etc/os-release": 'ID=x\nPRETTY_NAME="Made-up Linux 1"\n',
        f"{CPU}/online": "0-7\n",
        f"{NODE}/online": "0-1\n",
        f"{NODE}/node0/cpulist": "0-1,4-5\n",
        f"{NODE}/node1/cpulist": "2-3,6-7\n",
    }
    for cpu in range(8):
        topology = f"{CPU}/cpu{cpu}/topology"
        socket = cpu % 4 // 2
        tree[f"{topology}/physical_package_id"] = f"{socket}\n"
        tree[f"{topology}/thread_siblings_list"] = f"{cpu % 4},{cpu % 4 + 4}\n"
        tree[f"{topology}/core_siblings_list"] = ["0-1,4-5\n", "2-3,6-7\n"][socket]
    return tree


@pytest.fixture(autouse=True)
def _no_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("SYSTEM_NAME", raising=False)


def test_two_sockets_are_read_whole(grow: Grow) -> None:
    """Sockets, cores, threads, nodes, memory and names come from the kernel's files."""
    system = detect_system(root=grow(two_sockets()), rootdir=Path("/nowhere"))

    assert (system.arch, system.cpu_model) == ("x86_64", "Made-up X 9000")
    assert (system.sockets, system.physical_cores) == (2, 4)
    assert (system.cores, system.threads) == (4, 8)
    assert system.numa == ((0, 1, 4, 5), (2, 3, 6, 7))
    assert system.memory_bytes == 64 << 30
    assert (system.os, system.kernel) == ("Made-up Linux 1", "6.9.0-made-up")
    assert system.description["host_processor_core_count"] == "2"
    assert (
        f"UNREGISTERED_x86_64: Made-up X 9000, 2 sockets, 4 cores (8 threads), 64 GiB, "
        f"no GPU, Made-up Linux 1, Python {system.python}" == system.summary
    )


def test_siblings_and_nodes_stay_together(grow: Grow) -> None:
    """The order of CPUs lets a cut in halves give each worker whole cores of a node."""
    assert read_host(grow(two_sockets())).cpus == (0, 4, 1, 5, 2, 6, 3, 7)


def test_affinity_limits_what_is_usable_not_what_is_there(grow: Grow) -> None:
    """An affinity mask of one and a half cores leaves 2 usable cores of 4."""
    status = {"proc/self/status": "Cpus_allowed_list:\t1,5-6\n"}
    host = read_host(grow(two_sockets() | status))

    assert host.cpus == (1, 5, 6)
    assert (host.cores, host.threads, host.physical_cores) == (2, 3, 4)


@pytest.mark.parametrize(
    ("files", "threads"),
    [
        pytest.param({"sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2, id="rounded"),
        pytest.param({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1, id="below-one"),
        pytest.param({"sys/fs/cgroup/cpu.max": "max 100000\n"}, 8, id="unlimited"),
        pytest.param({"sys/fs/cgroup/cpu.max": "soup\n"}, 8, id="garbage"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            },
            3,
            id="from-a-parent",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/x\n0::/\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            2,
            id="version-1",
        ),
        pytest.param(
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
            id="version-1-unlimited",
        ),
    ],
)
def test_quota_limits_threads_but_not_cpus(
    grow: Grow, files: dict[str, str], threads: int
) -> None:
    """A container's CPU quota bounds threads; its threads may run on any CPU."""
    host = read_host(grow(two_sockets() | files))

    assert threads == host.threads
    assert min(threads, 4) == host.cores
    assert len(host.cpus) == 8


def test_a_quota_is_in_the_header(grow: Grow) -> None:
    """Half a CPU is another machine than the one core that is left of it."""
    tree = two_sockets() | {"sys/fs/cgroup/cpu.max": "50000 100000\n"}
    system = detect_system(root=grow(tree), rootdir=Path("/nowhere"))

    assert system.quota == 0.5
    assert "1 core of 4, a quota of 0.5 CPUs, 64 GiB" in system.summary


@pytest.mark.parametrize(
    ("cores", "model"),
    [
        ([(0x41, 0xD0B)] * 4, "Arm Cortex-A76"),  # Raspberry Pi 5
        (
            [(0x41, 0xD87)] * 2 + [(0x41, 0xD85)] * 2,  # DGX Spark
            "Arm Cortex-A725, Arm Cortex-X925",
        ),
        ([(0xC0, 0xAC3)], "Ampere-1"),
        ([(0x70, 0x663)], "Phytium FTC663"),
        ([(0x48, 0xD01)], "HiSilicon Kunpeng-920"),
        ([(0x41, 0xFFF)], "Arm, part 0xfff"),
    ],
)
def test_arm_cores_have_the_names_of_lscpu(
    grow: Grow, cores: list[tuple[int, int]], model: str
) -> None:
    """Each kind once: a processor may have fast cores and thrifty ones."""
    records = [
        f"processor\t: {n}\nCPU implementer\t: {maker:#04x}\nCPU part\t: {part:#05x}\n"
        for n, (maker, part) in enumerate(cores)
    ]
    tree = {"proc/cpuinfo": "\n".join(records), "proc/sys/kernel/arch": "aarch64"}

    assert read_host(grow(tree)).cpu_model == model


def test_arm_part_number_names_the_processor(grow: Grow) -> None:
    """On aarch64 cpuinfo has no model name, and -1 as package means one socket."""
    tree = {
        "proc/cpuinfo": ARM,
        "proc/sys/kernel/arch": "aarch64",
        f"{CPU}/online": "0-3",
        "proc/self/status": "Cpus_allowed_list: 0-3",
    }
    for cpu in range(4):
        tree[f"{CPU}/cpu{cpu}/topology/physical_package_id"] = "-1"
        tree[f"{CPU}/cpu{cpu}/topology/core_siblings_list"] = str(cpu)
    system = detect_system(root=grow(tree), rootdir=Path("/nowhere"))

    assert system.cpu_model == "Arm Neoverse-V2"
    assert (system.sockets, system.cores, system.threads) == (1, 4, 4)
    assert system.name == "UNREGISTERED_aarch64"


@pytest.mark.parametrize(
    ("cpuinfo", "model"),
    [
        ("CPU implementer : 0x99\nCPU part : 0x001\n", "implementer 0x99, part 0x001"),
        ("processor : 0\n", "processor"),
        ("model name :\n", "processor"),
    ],
)
def test_unnamed_processor_still_gets_a_text(
    grow: Grow, cpuinfo: str, model: str
) -> None:
    """A missing or empty model name becomes a plain text, never an empty field."""
    assert model in read_host(grow({"proc/cpuinfo": cpuinfo})).cpu_model


def test_cpuinfo_stands_in_for_topology(grow: Grow) -> None:
    """Without /sys, cores and sockets come from cpuinfo's ids."""
    ids = [(0, 0, 0), (1, 0, 0), (2, 1, 0), (3, 1, 0)]
    blocks = [f"processor : {n}\nphysical id : {p}\ncore id : {c}\n" for n, p, c in ids]
    host = read_host(grow({"proc/cpuinfo": "\n".join(blocks)}))

    assert (host.sockets, host.physical_cores, host.threads) == (2, 2, 4)


def test_empty_and_unreadable_trees_still_give_a_system(
    grow: Grow, tmp_path: Path
) -> None:
    """No files at all, or folders where files should be, leave defaults."""
    folders = {f"{name}/child": "" for name in two_sockets()}
    for root in (tmp_path / "nothing", grow(folders)):
        system = detect_system(root=root, rootdir=tmp_path)

        assert system.memory_bytes == 0
        assert (
            1 <= system.cores <= system.threads == len(find_devices(system, {})[0].cpus)
        )


@given(data=st.data())
def test_no_content_makes_detection_raise(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any bytes in any file give a system with at least one core."""
    root = tmp_path_factory.mktemp("root")
    nasty = st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"9-1", b"0-99999999999", b"-1", b"\xff", b"0 0", b"1 0"]),
    )
    for name, text in two_sockets().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.draw(nasty | st.just(text.encode())))
    host = read_host(root)

    assert 1 <= host.cores <= host.threads <= len(host.cpus) == len(set(host.cpus))
    assert host.sockets >= 1
    assert host.cpu_model


@given(st.frozensets(st.integers(0, 500)))
def test_cpu_lists_read_back_what_was_written(cpus: frozenset[int]) -> None:
    """A kernel list of single CPUs gives the same CPUs, in order."""
    assert tuple(sorted(cpus)) == parse_cpus(",".join(map(str, cpus)))


MEMINFO = "MemTotal: 8000 kB\nMemFree: 10 kB\nMemAvailable:    4000 kB\n"
V2 = "0::/box/inner\n"
V1 = "4:memory:/box\n1:cpu,cpuacct:/other\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 4000 * 1024),
        # The tightest limit on the way down counts, less what is used there.
        (
            {
                "proc/self/cgroup": V2,
                "sys/fs/cgroup/box/memory.max": "1000000",
                "sys/fs/cgroup/box/memory.current": "400000",
                "sys/fs/cgroup/box/inner/memory.max": "max",
                "sys/fs/cgroup/box/inner/memory.current": "1",
            },
            600_000,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "500",
                "sys/fs/cgroup/memory/box/memory.usage_in_bytes": "900",
            },
            0,
        ),
    ],
)
def test_available_is_the_least_of_machine_and_cgroups(
    grow: Grow, files: dict[str, str], expected: int
) -> None:
    """Caches count as available; a container's limit counts before the machine's."""
    root = grow({"proc/meminfo": MEMINFO, **files})

    assert read_available_memory(root) == expected


def test_this_machine_has_memory_to_run_in() -> None:
    """The real files of this machine can be read."""
    assert read_available_memory() > 10_000_000
