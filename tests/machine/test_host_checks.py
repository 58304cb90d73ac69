"""Host settings on a made-up kernel tree: found and advised on."""

from __future__ import annotations

import pytest

from pytest_mlperf.core.types import Scenario
from pytest_mlperf.machine.host_checks import HUGE_PAGES
from pytest_mlperf.machine.host_checks import count_cpu_throttles
from pytest_mlperf.machine.host_checks import read_load
from pytest_mlperf.machine.host_checks import read_settings
from tests.support.kernel_files import Grow

CPU = "sys/devices/system/cpu"


@pytest.mark.parametrize(
    ("mode", "scenario", "fact"),
    [
        ("[always] madvise never", Scenario.SERVER, "always"),
        (
            "always [madvise] never",
            Scenario.SERVER,
            "madvise (advised: always for Server)",
        ),
        ("always madvise [never]", None, "never (advised: always for Server)"),
        ("always [madvise] never", Scenario.OFFLINE, "madvise"),
    ],
)
def test_server_is_advised_huge_pages(
    grow: Grow, mode: str, scenario: Scenario | None, fact: str
) -> None:
    """Only Server (and the machine as a whole) is held to ``always``."""
    (found,) = read_settings((0,), scenario, grow({HUGE_PAGES: f"{mode}\n"}))

    assert (found.name, str(found)) == ("huge pages", fact)
    assert bool(found.advised) == ("echo always > /sys/kernel" in found.remedy)


@pytest.mark.parametrize(
    ("modes", "fact"),
    [
        (["performance", "performance"], "performance"),
        (["powersave", "powersave"], "powersave (advised: performance)"),
        (
            ["performance", "schedutil"],
            "performance on 1 CPUs, schedutil on 1 CPUs (advised: performance)",
        ),
    ],
)
def test_governor_of_the_runs_cpus_is_told(
    grow: Grow, modes: list[str], fact: str
) -> None:
    """CPUs of other runs do not matter; a mixture is counted."""
    tree = {f"{CPU}/cpu{n}/cpufreq/scaling_governor": m for n, m in enumerate(modes)}
    tree[f"{CPU}/cpu7/cpufreq/scaling_governor"] = "ondemand"
    (found,) = read_settings((0, 1, 2), None, grow(tree))

    assert (found.name, str(found)) == ("cpu governor", fact)


@pytest.mark.parametrize(
    ("limit", "fact"),
    [
        ("512000000", ["488 MiB a process (ulimit -v) (advised: unlimited)"]),
        ("unlimited", []),
    ],
)
def test_a_limit_on_the_address_space_is_found(
    grow: Grow, limit: str, fact: list[str]
) -> None:
    """A scheduler sets one for a job that asked for little memory."""
    text = (
        f"Limit    Soft Limit\nMax address space         {limit}   unlimited  bytes\n"
    )

    assert fact == [
        str(one) for one in read_settings((), None, grow({"proc/self/limits": text}))
    ]


def test_page_migration_matters_with_two_nodes(grow: Grow) -> None:
    """With one node there is nothing to migrate to."""
    tree = {"proc/sys/kernel/numa_balancing": "1\n"}
    assert read_settings((0,), None, grow(tree)) == ()
    (found,) = read_settings(
        (0,), None, grow(tree | {"sys/devices/system/node/online": "0-1"})
    )

    assert str(found) == "on (advised: off)"


@pytest.mark.parametrize(
    ("load", "fact"), [("0.10", "0.10"), ("2.50", "2.50 (advised: below 0.2)")]
)
def test_busy_machine_is_told_before_a_run(grow: Grow, load: str, fact: str) -> None:
    """The load average is compared with the machine's CPUs."""
    cpuinfo = "processor\t: 0\n\nprocessor\t: 1\n"
    tree = {"proc/loadavg": f"{load} 0.5 0.5 1/99 7\n", "proc/cpuinfo": cpuinfo}

    assert fact == str(read_load(grow(tree)))


@pytest.mark.parametrize("text", ["", "soup", "always madvise never"])
def test_kernel_that_says_nothing_gives_no_finding(grow: Grow, text: str) -> None:
    """What cannot be read is neither good nor bad."""
    root = grow({HUGE_PAGES: text, "proc/loadavg": text})

    assert read_settings((0,), None, root) == ()
    assert read_load(root) is None


def test_hot_cores_are_counted(grow: Grow) -> None:
    """Counts of the run's CPUs are added; a machine without counters has none."""
    tree = {
        f"{CPU}/cpu{n}/thermal_throttle/core_throttle_count": str(n) for n in (1, 2, 4)
    }
    root = grow(tree)

    assert count_cpu_throttles((0, 1, 2), root) == 3
    assert count_cpu_throttles((9,), root) is None
