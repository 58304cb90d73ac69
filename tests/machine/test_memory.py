"""How much memory a run may take: the kernel's word, and the cgroups' limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mlperf.machine import memory


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


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
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    """Caches count as available; a container's limit counts before the machine's."""
    root = machine(tmp_path, {"proc/meminfo": MEMINFO, **files})

    assert expected == memory.available(root)


def test_this_machine_has_memory_to_run_in() -> None:
    """The real files of this machine can be read."""
    assert memory.available() > 10_000_000
