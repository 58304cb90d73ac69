"""Settings of the host that spoil a measurement: read and judged, never changed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.core.types import BOUNDED
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.machine.host import read_quota
from pytest_mlperf.machine.host import read_text

HUGE_PAGES = "sys/kernel/mm/transparent_hugepage/enabled"
_CPU = "sys/devices/system/cpu"


@dataclass(frozen=True, slots=True)
class HostSetting:
    """One setting as it is, and the advised value."""

    name: str
    found: str
    advised: str = ""
    """Empty when the setting is good or cannot be judged."""
    remedy: str = ""
    is_known: bool = True
    """False where ``found`` says why it cannot be read here."""

    def __str__(self) -> str:
        """Return the fact that goes into a verdict."""
        return f"{self.found} (advised: {self.advised})" if self.advised else self.found


def read_settings(
    cpus: Sequence[int], scenario: Scenario | None = None, root: Path = Path("/")
) -> tuple[HostSetting, ...]:
    """Return the readable host settings that matter to a run on these CPUs."""
    settings = (
        read_huge_pages(scenario, root),
        read_governors(cpus, root),
        read_numa_balancing(root),
        read_cpu_quota(root),
        read_address_space(root),
    )
    return tuple(setting for setting in settings if setting is not None)


def read_huge_pages(scenario: Scenario | None, root: Path) -> HostSetting | None:
    """Return the transparent huge page mode; Server runs are advised ``always``."""
    mode = parse_selected(read_text(root / HUGE_PAGES))
    if not mode:
        return None
    served = scenario in (None, *BOUNDED)
    if mode == "always" or not served:
        return HostSetting("huge pages", mode)
    remedy = f"as root: echo always > /{HUGE_PAGES}"
    return HostSetting("huge pages", mode, "always for Server", remedy)


def read_governors(cpus: Sequence[int], root: Path) -> HostSetting | None:
    """Return the CPUs' frequency governors; one that saves power costs latency."""
    texts = (_read_governor(root, cpu) for cpu in cpus)
    counts = Counter(text for text in texts if text)
    if not counts:
        return None
    found = ", ".join(
        name if len(counts) == 1 else f"{name} on {n} CPUs"
        for name, n in counts.most_common()
    )
    # intel_pstate and amd-pstate call their own adaptive mode "powersave".
    if set(counts) == {"performance"}:
        return HostSetting("cpu governor", found)
    remedy = "as root: cpupower frequency-set -g performance"
    return HostSetting("cpu governor", found, "performance", remedy)


def _read_governor(root: Path, cpu: int) -> str:
    return read_text(root / f"{_CPU}/cpu{cpu}/cpufreq/scaling_governor")


def read_numa_balancing(root: Path) -> HostSetting | None:
    """Return whether the kernel moves pages between nodes during a run."""
    text = read_text(root / "proc/sys/kernel/numa_balancing")
    nodes = read_text(root / "sys/devices/system/node/online")
    if not text.isdecimal() or "-" not in nodes:
        return None
    if text == "0":
        return HostSetting("numa balancing", "off")
    remedy = "as root: echo 0 > /proc/sys/kernel/numa_balancing"
    return HostSetting("numa balancing", "on", "off", remedy)


def read_cpu_quota(root: Path) -> HostSetting | None:
    """Return the container's CPU quota: who uses it up waits for the next period."""
    quota = read_quota(root)
    if quota is None:
        return None
    remedy = "give the container whole CPUs (--cpuset-cpus) instead of --cpus"
    return HostSetting("cpu quota", f"{quota:g} CPUs", "none", remedy)


def read_address_space(root: Path = Path("/")) -> HostSetting | None:
    """Return this process's limit of virtual memory, which its children inherit."""
    limits = read_text(root / "proc/self/limits")
    match = re.search(r"^Max address space +(\d{1,20}) ", limits, re.M)
    if not match:
        return None
    found = f"{int(match[1]) >> 20} MiB a process (ulimit -v)"
    remedy = "ulimit -v unlimited: memory that engines only reserve counts too"
    return HostSetting("address space", found, "unlimited", remedy)


def read_load(root: Path) -> HostSetting | None:
    """Return the load average; meaningful only before a session begins."""
    words = read_text(root / "proc/loadavg").split()
    cpus = len(re.findall(r"^processor\s*:", read_text(root / "proc/cpuinfo"), re.M))
    try:
        load = float(words[0])
    except (IndexError, ValueError):
        return None
    if not cpus or load <= 0.1 * cpus:
        return HostSetting("load before", f"{load:.2f}")
    remedy = "end what else runs on this machine"
    return HostSetting("load before", f"{load:.2f}", f"below {0.1 * cpus:.1f}", remedy)


def parse_selected(text: str) -> str:
    """Return the word in brackets of a kernel file: ``always [madvise] never``."""
    match = re.search(r"\[(\w+)\]", text)
    return match[1] if match else ""


def count_cpu_throttles(cpus: Sequence[int], root: Path = Path("/")) -> int | None:
    """Return how often these CPUs' cores were too hot since boot; None if unknown."""
    counts = [
        read_text(root / f"{_CPU}/cpu{cpu}/thermal_throttle/core_throttle_count")
        for cpu in cpus
    ]
    known = [int(text) for text in counts if text.isdecimal()]
    return sum(known) if known else None
