"""The host as Linux describes it under /proc and /sys.

Nothing here raises: what cannot be read becomes a plain default, because a benchmark
must start on a machine that hides its hardware (containers, sandboxes, odd kernels).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from pathlib import PurePosixPath

from pytest_mlperf.machine.arm_parts import name_processors

_MOST_CPUS = 1 << 16
_CPUINFO_HEAD = 1 << 14
"""Bytes that hold the first CPU's record: on a large machine the whole file is slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Processors, memory and operating system of one machine."""

    arch: str
    """``x86_64``, ``aarch64``."""
    cpu_model: str
    sockets: int
    physical_cores: int
    """Cores of the whole machine, also those this process may not use."""
    cpus: tuple[int, ...]
    """Logical CPUs this process may run on. Threads of a core are adjacent, and so are
    the cores of a NUMA node: cutting the tuple into runs keeps them together."""
    cores: int
    """Physical cores among ``cpus``, at most the cgroup's CPU quota."""
    threads: int
    """Threads that run at once: ``len(cpus)``, at most the cgroup's quota."""
    memory_bytes: int
    """Installed memory; 0 where unknown."""
    numa: tuple[tuple[int, ...], ...]
    """The CPUs of each NUMA node that has CPUs."""
    os: str
    kernel: str
    board: str = ""
    """The board's name, where firmware has a device tree (Jetson); else empty."""
    quota: float | None = None
    """CPUs' worth of time that the cgroups allow; None: all of it."""


def read_text(path: Path, limit: int = -1) -> str:
    """Return the file's text without surrounding blanks, empty when unreadable."""
    try:
        with path.open("rb") as file:
            return file.read(limit).decode("utf-8", "replace").strip("\0 \t\n")
    except OSError:
        return ""


def parse_cpus(text: str) -> tuple[int, ...]:
    """Return the CPUs of a kernel list such as ``0-3,8``; skips malformed parts."""
    cpus: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,6})(?:-([0-9]{1,6}))?\s*", part)
        if match:
            first, last = int(match[1]), int(match[2] or match[1])
            if last < _MOST_CPUS:
                cpus.update(range(first, last + 1))
    return tuple(sorted(cpus))


def read_host(root: Path) -> Host:
    """Describe the host whose /proc, /sys and /etc lie under ``root``."""
    cpuinfo = root / "proc/cpuinfo"
    arch = read_text(root / "proc/sys/kernel/arch") or os.uname().machine
    online = parse_cpus(read_text(root / "sys/devices/system/cpu/online"))
    if not online:
        found = re.findall(r"^processor\s*:\s*(\d{1,6})$", read_text(cpuinfo), re.M)
        online = tuple(sorted(map(int, found))) or tuple(range(os.cpu_count() or 1))
    allowed = _read_affinity(root)
    usable = tuple(cpu for cpu in online if cpu in allowed) if allowed else online
    usable = usable or tuple(sorted(allowed))
    siblings = _cores(root, online)
    nodes = tuple(filter(None, read_numa_nodes(root).values())) or (online,)
    cpus, cores = _arrange(usable, siblings, nodes)
    quota = read_quota(root)
    bound = len(cpus) if quota is None else max(1, math.floor(quota))
    return Host(
        arch=arch,
        cpu_model=_cpu_model(cpuinfo, arch),
        sockets=_sockets(root, online),
        physical_cores=len(siblings),
        cpus=cpus,
        cores=min(cores, bound),
        threads=min(len(cpus), bound),
        memory_bytes=_memory(read_text(root / "proc/meminfo")),
        numa=nodes,
        os=_os_name(read_text(root / "etc/os-release")),
        kernel=read_text(root / "proc/sys/kernel/osrelease") or os.uname().release,
        board=read_text(root / "proc/device-tree/model", 200),
        quota=quota,
    )


def _read_affinity(root: Path) -> frozenset[int]:
    # Sandboxed kernels omit the list from /proc/self/status but answer the call.
    if root == Path("/") and hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    status = read_text(root / "proc/self/status")
    match = re.search(r"^Cpus_allowed_list:\s*(.+)$", status, re.M)
    return frozenset(parse_cpus(match[1]) if match else ())


def _arrange(
    usable: tuple[int, ...],
    siblings: tuple[tuple[int, ...], ...],
    nodes: tuple[tuple[int, ...], ...],
) -> tuple[tuple[int, ...], int]:
    """Return the usable CPUs node by node and core by core, and their core count."""
    node_of = {cpu: index for index, node in enumerate(nodes) for cpu in node}
    usable_set = set(usable)
    mine = [tuple(c for c in core if c in usable_set) for core in siblings]
    known = {cpu for core in mine for cpu in core}
    mine = [core for core in mine if core]
    mine += [(cpu,) for cpu in usable if cpu not in known]
    mine.sort(key=lambda core: (node_of.get(core[0], len(nodes)), core[0]))
    return tuple(cpu for core in mine for cpu in core), len(mine)


def _cores(root: Path, online: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    if _topology(root, online[0], "core_cpus_list", "thread_siblings_list"):
        return _groups(root, online, "core_cpus_list", "thread_siblings_list")
    cores: dict[tuple[str, str, int], list[int]] = {}
    for record in _records(read_text(root / "proc/cpuinfo")):
        cpu = record.get("processor", "")
        if cpu.isdecimal() and len(cpu) < 7:
            core = record.get("core id")
            key = (record.get("physical id", ""), core or "", -1 if core else int(cpu))
            cores.setdefault(key, []).append(int(cpu))
    found = {cpu for core in cores.values() for cpu in core}
    whole = found == set(online)
    return tuple(map(tuple, cores.values())) if whole else tuple((c,) for c in online)


def _sockets(root: Path, online: tuple[int, ...]) -> int:
    package = _topology(root, online[0], "physical_package_id")
    if package.isdecimal():
        names = ("package_cpus_list", "core_siblings_list")
        return len(_groups(root, online, *names))
    if package:  # -1: the firmware reports nothing, and the sibling lists are useless
        return 1
    records = _records(read_text(root / "proc/cpuinfo"))
    return len({r["physical id"] for r in records if "physical id" in r}) or 1


def _groups(
    root: Path, cpus: Iterable[int], *names: str
) -> tuple[tuple[int, ...], ...]:
    """Partition CPUs by a sibling list, reading one file per group, not per CPU."""
    left = set(cpus)
    groups = []
    for cpu in sorted(left):
        if cpu in left:
            listed = {cpu, *parse_cpus(_topology(root, cpu, *names))} & left
            left -= listed
            groups.append(tuple(sorted(listed)))
    return tuple(groups)


def _topology(root: Path, cpu: int, *names: str) -> str:
    folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    return next((text for name in names if (text := read_text(folder / name))), "")


def _records(cpuinfo: str) -> list[dict[str, str]]:
    records = []
    for block in re.split(r"\n\s*\n", cpuinfo):
        pairs = (line.partition(":") for line in block.splitlines())
        records.append({key.strip(): value.strip() for key, _, value in pairs})
    return records


def _cpu_model(path: Path, arch: str) -> str:
    cpuinfo = read_text(path, _CPUINFO_HEAD)
    for key in ("model name", "Model Name", "cpu model", "cpu", "uarch"):
        match = re.search(rf"^{key}[ \t]*:[ \t]*(\S.*)$", cpuinfo, re.M)
        if match:
            return " ".join(match[1].split())
    # ARM: the cores may be of several kinds.
    return name_processors(read_text(path)) or f"{arch} processor"


def _memory(meminfo: str) -> int:
    match = re.search(r"^MemTotal:\s*(\d{1,15}) kB$", meminfo, re.M)
    return int(match[1]) * 1024 if match else 0


def _os_name(release: str) -> str:
    match = re.search(r"^PRETTY_NAME=[\"']?([^\"'\n]+)", release, re.M)
    return match[1] if match else os.uname().sysname


def read_quota(root: Path = Path("/")) -> float | None:
    """Return the tightest CPU quota of this process's cgroups, in CPUs, or None.

    A thread beyond the quota is throttled, and throttling shows in the tail latency
    that is measured.
    """
    quotas = []
    for folder in list_cpu_cgroups(root):
        words = read_text(folder / "cpu.max").split()
        if not words:
            words = read_text(folder / "cpu.cfs_quota_us").split()
            words += read_text(folder / "cpu.cfs_period_us").split()
        # "max" and -1 mean no limit; neither is decimal.
        if len(words) == 2 and all(w.isdecimal() and len(w) < 16 for w in words):
            quota, period = map(int, words)
            if quota and period:
                quotas.append(quota / period)
    return min(quotas, default=None)


def list_cpu_cgroups(root: Path) -> list[Path]:
    """Return the folders of this process's cgroups that may govern CPUs."""
    mounts = [("", "/"), ("unified", "/"), ("cpu", "/"), ("cpu,cpuacct", "/")]
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            mounts += [("", path), ("unified", path)]
        elif "cpu" in controllers.split(","):
            mounts += [(controllers, path), ("cpu", path)]
    return [
        folder
        for mount, path in dict.fromkeys(mounts)
        for folder in _list_cgroups(root / "sys/fs/cgroup" / mount, path)
    ]


def read_available_memory(root: Path = Path("/")) -> int:
    """Return the bytes available without swapping or reaching a cgroup's limit.

    Caches count as available, as in the kernel's own figure.
    """
    meminfo = read_text(root / "proc/meminfo")
    match = re.search(r"^MemAvailable:\s*(\d{1,15}) kB$", meminfo, re.M)
    free = [int(match[1]) * 1024] if match else []
    free += [limit - used for limit, used in _read_memory_limits(root)]
    return max(0, min(free, default=0))


def read_memory_limit(root: Path = Path("/")) -> int:
    """Return the bytes of memory that processes here may have: the machine's, or a
    cgroup's limit.
    """
    total = _memory(read_text(root / "proc/meminfo"))
    return min([total, *(limit for limit, _ in _read_memory_limits(root))])


def _read_memory_limits(root: Path) -> list[tuple[int, int]]:
    """Return limit and use of each cgroup that has a limit, in bytes."""
    limits = []
    for line in read_text(root / "proc/self/cgroup").splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers:
            mount, names = "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            mount = "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        for folder in _list_cgroups(root / mount, path):
            words = [read_text(folder / name) for name in names]
            if all(word.isdecimal() for word in words):  # "max" is no limit
                limits.append((int(words[0]), int(words[1])))
    return limits


def _list_cgroups(mount: Path, path: str) -> list[Path]:
    """Return the folders of all cgroups from the mount down to ``path``."""
    below = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
    return [mount.joinpath(*below[:depth]) for depth in range(len(below) + 1)]


def read_numa_nodes(root: Path = Path("/")) -> dict[int, tuple[int, ...]]:
    """Return node -> CPUs; nodes that only have memory have an empty tuple."""
    folder = root / "sys/devices/system/node"
    return {
        node: parse_cpus(read_text(folder / f"node{node}/cpulist"))
        for node in parse_cpus(read_text(folder / "online"))
    }
