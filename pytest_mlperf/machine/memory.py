"""How much memory a run may still take on this machine."""

from __future__ import annotations

import re
from pathlib import Path
from pathlib import PurePosixPath

from pytest_mlperf.machine.host import read_text


def available(root: Path = Path("/")) -> int:
    """Return the bytes that can be had without swapping or meeting a cgroup's limit.

    Caches count as available, as the kernel counts them.
    """
    meminfo = read_text(root / "proc/meminfo")
    match = re.search(r"^MemAvailable:\s*(\d{1,15}) kB$", meminfo, re.M)
    free = [int(match[1]) * 1024] if match else []
    for line in read_text(root / "proc/self/cgroup").splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers:
            free += _left(root / "sys/fs/cgroup", path, "memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            free += _left(root / "sys/fs/cgroup/memory", path, *names)
    return max(0, min(free, default=0))


def _left(mount: Path, path: str, limit: str, usage: str) -> list[int]:
    """Return what each cgroup from the mount down to ``path`` leaves free."""
    below = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
    left = []
    for depth in range(len(below) + 1):
        folder = mount.joinpath(*below[:depth])
        words = [read_text(folder / name).strip() for name in (limit, usage)]
        if all(word.isdecimal() for word in words):  # "max" is no limit
            left.append(int(words[0]) - int(words[1]))
    return left
