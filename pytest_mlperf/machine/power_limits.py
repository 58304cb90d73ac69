"""Limits of a machine's power during a run (MaxQ), and what was there restored.

They are asked for in a system file's ``[settings]``. GPUs by ``nvidia-smi``, CPUs by
``cpupower``; both take root.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.machine.setting_guard import hold_setting
from pytest_mlperf.machine.setting_guard import run_program

SYS = Path("/sys")
INSTEAD = "remove the setting from the system file's [settings]"


@dataclass(frozen=True, slots=True)
class PowerLimits:
    """What a system file asks for; None leaves a setting alone."""

    gpu_w: float | None = None
    """Watts of each GPU."""
    governor: str | None = None
    """Frequency governor of the CPUs: ``powersave``."""
    cpu_mhz: int | None = None
    """Highest frequency of the CPUs."""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> PowerLimits:
        """Return those of a system file's ``[settings]``."""
        return cls(
            settings.get("power_limit_w"),
            settings.get("cpu_governor"),
            settings.get("cpu_max_mhz"),
        )


@contextmanager
def limit_power(
    limits: PowerLimits,
    visible: Sequence[str],
    cpus: Sequence[int],
    root: Path = SYS,
) -> Iterator[Mapping[str, str]]:
    """Apply limits while the block runs; the verdict's facts are complete after it.

    ``visible``: the GPUs' UUIDs. Raises ``RunRefused`` where a limit cannot be applied;
    those before it are restored then.
    """
    facts: dict[str, str] = {}
    each: list[Mapping[str, str]] = []
    with ExitStack() as stack:
        if limits.gpu_w is not None:
            if not visible:
                raise RunRefused(
                    "power_limit_w in the system file: there is no GPU to limit; "
                    "remove it from [settings]"
                )
            for uuid in visible:
                held = limit_gpu(uuid, limits.gpu_w)
                each.append(stack.enter_context(held))
        if limits.governor is not None or limits.cpu_mhz is not None:
            each.append(stack.enter_context(limit_cpus(limits, cpus, root)))
        yield facts
    for own in each:  # whether all were restored is known only now
        facts |= own


@contextmanager
def limit_gpu(uuid: str, watts: float) -> Iterator[Mapping[str, str]]:
    """Limit a GPU's power while the block runs."""
    smi = ["nvidia-smi", "-i", uuid]
    query = [*smi, "--query-gpu=power.limit", "--format=csv,noheader,nounits"]
    before = run_program(query, f"the power limit of {uuid}", INSTEAD)
    try:
        float(before)
    except ValueError:
        raise RunRefused(
            f"{' '.join(query)}: found {before!r}, but it should be watts; this GPU's "
            "limit cannot be restored, so it is not changed: remove power_limit_w"
        ) from None

    def limit() -> str:
        purpose = f"limiting {uuid} to {watts:g} W"
        run_program([*smi, "-pl", f"{watts:g}"], purpose, INSTEAD)
        return f"{watts:g} W for this run, {before} W before"

    restore = [*smi, "-pl", before]
    with hold_setting(f"power limit of {uuid}", limit, restore, "restored") as facts:
        yield facts


@contextmanager
def limit_cpus(
    limits: PowerLimits, cpus: Sequence[int], root: Path = SYS
) -> Iterator[Mapping[str, str]]:
    """Set the CPUs' governor and highest frequency while the block runs."""
    before = {
        name: read_shared(cpus, name, root)
        for name in ("scaling_governor", "scaling_max_freq")
    }
    words = ["cpupower", "-c", ",".join(map(str, cpus)), "frequency-set"]
    change, restore = list(words), list(words)
    told, was = [], []
    if limits.governor is not None:
        change += ["-g", limits.governor]
        restore += ["-g", before["scaling_governor"]]
        told.append(f"governor {limits.governor}")
        was.append(before["scaling_governor"])
    if limits.cpu_mhz is not None:
        change += ["-u", f"{limits.cpu_mhz}MHz"]
        restore += ["-u", f"{before['scaling_max_freq']}kHz"]
        told.append(f"at most {limits.cpu_mhz} MHz")
        was.append(f"{int(before['scaling_max_freq']) // 1000} MHz")

    def limit() -> str:
        text = " and ".join(told)
        run_program(change, f"setting the CPUs to {text}", INSTEAD)
        return f"{text} for this run, {' and '.join(was)} before"

    with hold_setting("CPU frequency", limit, restore, "restored") as facts:
        yield facts


def read_shared(cpus: Sequence[int], name: str, root: Path) -> str:
    """Return the value that all CPUs have; ``RunRefused`` where there is no one."""
    found = set()
    for cpu in cpus:
        path = root / f"devices/system/cpu/cpu{cpu}/cpufreq/{name}"
        try:
            found.add(path.read_text().strip())
        except OSError as error:
            raise RunRefused(
                f"cpu_governor and cpu_max_mhz in the system file: {path} cannot be "
                f"read ({error.strerror}), so this machine's frequencies cannot be set "
                "(a virtual machine has none); remove them from [settings]"
            ) from None
    if len(found) != 1:
        raise RunRefused(
            f"{name} of the run's CPUs is {', '.join(sorted(found))}, and only one "
            "value for all of them can be restored; set them alike first"
        )
    return found.pop()
