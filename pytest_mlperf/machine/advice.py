"""What to change on a machine before it measures: a ranked list with costs."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlperf.machine import container_checks
from pytest_mlperf.machine import gpu_checks
from pytest_mlperf.machine import host_checks
from pytest_mlperf.machine import memory_checks
from pytest_mlperf.machine.advice_costs import Cost
from pytest_mlperf.machine.gpus import Gpu
from pytest_mlperf.machine.host import Host
from pytest_mlperf.machine.host_checks import HostSetting

NOT_MEASURED = "not measured"
NOTABLE = 0.05
"""A measured loss of at least this share comes before all that is not measured."""
RANKS = (
    "clocks", "load before", "cpu quota", "threads", "memory limit", "PCIe", "cpuset",
    "memory channels", "cpu governor", "huge pages", "numa nodes", "numa balancing",
    "nodes per socket", "persistence", "ECC",
)  # fmt: skip
"""Without a measured cost: what makes a run INVALID or unsteady before what makes it
slower, and that before what only a submission asks for."""
Measurements = Mapping[str, Callable[[], Cost | None]]


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to change."""

    rank: int
    """From 1, the most urgent."""
    name: str
    found: str
    advised: str
    remedy: str
    cost: str
    cost_share: float | None = None
    """Of speed, 0 to 1; None where it is not measured."""


@dataclass(frozen=True, slots=True)
class Advised:
    """All that was looked at."""

    advice: tuple[Advice, ...]
    good: tuple[HostSetting, ...] = ()
    unknown: tuple[HostSetting, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """Return the JSON object that ``machine --advise --json`` prints."""
        return {
            "advice": [asdict(one) for one in self.advice],
            "good": {one.name: one.found for one in self.good},
            "unknown": {one.name: one.found for one in self.unknown},
        }


def read_all_settings(
    host: Host, gpus: Sequence[Gpu] = (), root: Path = Path("/")
) -> list[HostSetting]:
    """Return every setting that can be judged, good ones too."""
    found = [
        *host_checks.read_settings(host.cpus, None, root),
        host_checks.read_load(root),
        container_checks.read_threads(host),
        container_checks.read_cpuset(host, root),
        container_checks.read_memory_room(host, root),
        memory_checks.read_node_symmetry(root),
        memory_checks.read_nodes_per_socket(host, root),
        memory_checks.read_memory_channels(root),
        *gpu_checks.read_gpu_settings(gpus, root),
    ]
    return [one for one in found if one is not None]


def advise(
    settings: Sequence[HostSetting], measurements: Measurements | None = None
) -> Advised:
    """Return what to change, most urgent first.

    ``measurements``: of the machine at hand; only what needs a change is measured.
    """
    todo = [one for one in settings if one.advised]
    costs: dict[str, Cost | None] = {}
    for one in todo:
        measure = (measurements or {}).get(one.name)
        costs[one.name] = measure() if measure else None
    todo.sort(key=lambda one: _rank(one.name, costs[one.name]))
    advice = []
    for number, one in enumerate(todo, 1):
        cost = costs[one.name]
        text, share = (cost.text, cost.share) if cost else (NOT_MEASURED, None)
        advice.append(
            Advice(number, one.name, one.found, one.advised, one.remedy, text, share)
        )
    good = [one for one in settings if not one.advised and one.is_known]
    unknown = [one for one in settings if not one.is_known]
    return Advised(tuple(advice), tuple(good), tuple(unknown))


def _rank(name: str, cost: Cost | None) -> tuple[int, float]:
    """Return a key: a notable loss, what is not measured, a small loss."""
    if cost is None:
        kind = next((n for n, one in enumerate(RANKS) if name.endswith(one)), 99)
        return 1, kind
    return (0 if cost.share >= NOTABLE else 2), -cost.share


def format_advice(found: Advised) -> list[str]:
    """Return the lines of a list for people."""
    lines = []
    for one in found.advice:
        lines += [
            f"{one.rank}. {one.name}: {one.found}",
            f"   should be: {one.advised}",
            f"   to change: {one.remedy}",
            f"   cost:      {one.cost}",
        ]
    if not found.advice:
        lines.append("nothing to change")
    if found.good:
        lines.append("good, or nothing to choose:")
        lines += [f"   {one.name}: {one.found}" for one in found.good]
    if found.unknown:
        lines.append("cannot be read here:")
        lines += [f"   {one.name}: {one.found}" for one in found.unknown]
    return lines
