"""What a container leaves a run: which CPUs, how many at once, how much memory.

The kernel's own files tell: cgroup v2's cpu.max, cpuset and memory.max, or v1's.
"""

from __future__ import annotations

from pathlib import Path

from pytest_mlperf.machine.host import Host
from pytest_mlperf.machine.host import parse_cpus
from pytest_mlperf.machine.host import read_available_memory
from pytest_mlperf.machine.host import read_memory_limit
from pytest_mlperf.machine.host import read_numa_nodes
from pytest_mlperf.machine.host import read_text
from pytest_mlperf.machine.host_checks import HostSetting
from pytest_mlperf.machine.numa import format_ids

TIGHT = 0.1
"""Share of a memory limit below which the kernel reclaims pages during a run."""
_CPU = "sys/devices/system/cpu"


def read_threads(host: Host) -> HostSetting | None:
    """Return how many threads a run has under a CPU quota; None without one."""
    if host.quota is None or host.threads >= len(host.cpus):
        return None
    allowed = f"the quota of {host.quota:g} CPUs allows no more of {len(host.cpus)}"
    found = f"{host.threads} at once: {allowed}"
    if host.quota >= 1:
        return HostSetting("threads", found)
    remedy = "give the container a whole CPU (--cpuset-cpus), and no --cpus"
    found += ", and even that one is stopped in every period"
    return HostSetting("threads", found, "a whole CPU", remedy)


def read_cpuset(host: Host, root: Path = Path("/")) -> HostSetting | None:
    """Return which of the machine's CPUs this process may use; None: all of them.

    Half a core shares its caches and units with somebody else; CPUs of several nodes
    have memory that is far from some of them.
    """
    online = parse_cpus(read_text(root / f"{_CPU}/online"))
    mine = set(host.cpus)
    if not online or mine >= set(online):
        return None
    found = f"CPUs {format_ids(sorted(mine))} of {format_ids(online)}"
    halves = sorted(cpu for cpu in mine if not _read_siblings(root, cpu) <= mine)
    if halves:
        found += f"; the other thread of the cores of {format_ids(halves)} is not ours"
        remedy = "give whole cores: --cpuset-cpus with both threads of each (lscpu -e)"
        return HostSetting("cpuset", found, "whole cores", remedy)
    nodes = {n: mine & set(cpus) for n, cpus in read_numa_nodes(root).items()}
    parts = {len(cpus) for cpus in nodes.values() if cpus}
    if len(parts) > 1:
        found += (
            f"; {', '.join(f'{len(c)} on node {n}' for n, c in nodes.items() if c)}"
        )
        remedy = "give CPUs of one node, or as many of each; --cpuset-mems alike"
        return HostSetting("cpuset", found, "one node", remedy)
    return HostSetting("cpuset", found)


def _read_siblings(root: Path, cpu: int) -> set[int]:
    topology = root / f"{_CPU}/cpu{cpu}/topology"
    names = ("core_cpus_list", "thread_siblings_list")
    return {c for name in names for c in parse_cpus(read_text(topology / name))}


def read_memory_room(host: Host, root: Path = Path("/")) -> HostSetting | None:
    """Return a cgroup's memory limit and what is left of it; None without a limit."""
    limit = read_memory_limit(root)
    if not limit or limit >= host.memory_bytes:
        return None
    left = read_available_memory(root)
    sizes = [f"{one / (1 << 30):.1f}" for one in (limit, host.memory_bytes, left)]
    found = "{} of {} GiB, {} GiB left".format(*sizes)
    if left >= TIGHT * limit:
        return HostSetting("memory limit", found)
    remedy = "raise memory.max (docker: --memory), or end what else is in the cgroup"
    return HostSetting("memory limit", found, f"{TIGHT:.0%} of it left", remedy)
