"""The machine that a run is made on: its hardware, its name and its system file.

Hardware never stops a run: what cannot be detected is left out with a note. An invalid
name or system file does stop it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_mlperf.config.option_types import suggest
from pytest_mlperf.core.residency.rules import DirectPath
from pytest_mlperf.machine.gpus import Gpu
from pytest_mlperf.machine.gpus import find_gpus
from pytest_mlperf.machine.host import Host
from pytest_mlperf.machine.host import read_host
from pytest_mlperf.machine.host import read_numa_nodes
from pytest_mlperf.machine.numa import OFF
from pytest_mlperf.machine.numa import NumaError
from pytest_mlperf.machine.numa import check_numa
from pytest_mlperf.machine.numa import format_numa
from pytest_mlperf.machine.numa import list_differences
from pytest_mlperf.machine.numa import parse_numa
from pytest_mlperf.machine.system_file import GIB
from pytest_mlperf.machine.system_file import Match
from pytest_mlperf.machine.system_file import ServerTables
from pytest_mlperf.machine.system_file import SystemFile
from pytest_mlperf.machine.system_file import SystemFileError
from pytest_mlperf.machine.system_file import TuningTables
from pytest_mlperf.machine.system_file import load_folders
from pytest_mlperf.machine.system_file import load_system_file
from pytest_mlperf.machine.topology import assign_cpus
from pytest_mlperf.machine.topology import detect_numa

UNREGISTERED = "UNREGISTERED"
"""How the name of a machine begins that no system file knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System(Host):
    """A host with its GPUs, name and file."""

    name: str
    """Also the name of folders in a submission: no blanks, no slashes."""
    gpus: tuple[Gpu, ...] = ()
    """All GPUs of the machine, whatever ``CUDA_VISIBLE_DEVICES`` says."""
    python: str = ""
    tuning: TuningTables = field(default_factory=TuningTables)
    server: ServerTables = field(default_factory=ServerTables)
    description: Mapping[str, str] = field(default_factory=dict)
    """Submission fields: those detected, overridden by the file's."""
    registered: bool = False
    """True when a system file applies."""
    numa_config: str = ""
    """Which CPUs serve which GPUs: from the file, else as detected; or ``off``."""
    numa_note: str = ""
    """Where the file's configuration differs from the detected one."""
    on_device: DirectPath = field(default_factory=DirectPath)
    """The file's evidence for data that start or end on a device."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the file asks to be set on the device during a run."""
    notes: tuple[str, ...] = ()
    """What could not be detected, and why; for people."""

    @property
    def summary(self) -> str:
        """One line for a header."""
        cores = f"{self.cores} core{'s' * (self.cores != 1)}"
        if self.threads != self.cores:
            cores += f" ({self.threads} threads)"
        if self.cores < self.physical_cores:
            cores += f" of {self.physical_cores}"
        parts = [self.cpu_model]
        parts += [f"{self.sockets} sockets"] * (self.sockets > 1)
        parts += [cores]
        if self.quota is not None:
            parts.append(f"a quota of {self.quota:g} CPUs")
        parts += [_format_gib(self.memory_bytes)] * bool(self.memory_bytes)
        parts += [f"{n} x {gpu}" for gpu, n in _count_models(self.gpus).items()] or [
            "no GPU"
        ]
        return f"{self.name}: {', '.join([*parts, self.os, f'Python {self.python}'])}"


def detect_system(
    name: str | None = None,
    root: Path = Path("/"),
    *,
    rootdir: Path | None = None,
    environ: Mapping[str, str] | None = None,
    numa_config: str | None = None,
) -> System:
    """Return this machine; never raises because of its hardware.

    ``name`` (else ``SYSTEM_NAME``) is a system's name or the path of a ``.toml`` file.
    ``root`` holds the /proc and /sys to read; ``rootdir`` (default: the current folder)
    has the user's ``systems`` folder. ``numa_config`` counts before the file's. Raises
    ``SystemFileError`` for a bad system file and ``ValueError`` for a name that cannot
    name a folder, and for a ``numa_config`` that is not this machine's.
    """
    environ = os.environ if environ is None else environ
    wanted = name or environ.get("SYSTEM_NAME", "").strip() or None
    host = read_host(root)
    gpus, notes = find_gpus(root)
    if wanted and wanted.endswith(".toml"):
        file: SystemFile | None = load_system_file(Path(wanted))
    else:
        files = load_folders(list_system_folders(rootdir or Path.cwd()))
        if wanted:
            file = next((f for f in files if wanted in f.names), None)
        else:
            file = next((f for f in files if f.match.fits(host, gpus)), None)
        if wanted and not file:
            known = sorted(f.name for f in files)
            near, there = suggest(wanted, known), ", ".join(known) or "none"
            notes += (f"no system file is named {wanted!r}.{near} There: {there}",)
    if wanted and file and file.match != Match() and not file.match.fits(host, gpus):
        # SYSTEM_NAME stands for an option that was not given.
        source = "--mlperf-system or SYSTEM_NAME"
        note = f"{file.path} is of another machine ([match]), but {source} names it"
        notes += (f"{note}: its description and its tuning are used",)
    full = file.name if file else wanted or make_unregistered_name(host.arch, gpus)
    _check_name(full)
    detected = _describe(full, host, gpus)
    gpus, numa, difference = _place_gpus(file, numa_config, gpus, root)
    notes += (difference,) * bool(difference)
    return System(
        **{one.name: getattr(host, one.name) for one in fields(Host)},
        name=full,
        gpus=gpus,
        python=".".join(map(str, sys.version_info[:3])),
        tuning=file.tuning if file else TuningTables(),
        server=file.server if file else ServerTables(),
        description=detected | dict(file.description) if file else detected,
        registered=file is not None,
        numa_config=numa,
        numa_note=difference,
        on_device=file.on_device if file else DirectPath(),
        settings=file.settings if file else {},
        notes=notes,
    )


def _place_gpus(
    file: SystemFile | None, asked: str | None, gpus: tuple[Gpu, ...], root: Path
) -> tuple[tuple[Gpu, ...], str, str]:
    """Return the GPUs with their CPUs, the configuration, and how it differs.

    Raises ``SystemFileError`` or ``ValueError`` for that of another machine.
    """
    detected = detect_numa(gpus, root)
    config = asked or (file.numa if file else "")
    if not config:
        return assign_cpus(gpus, detected), format_numa(detected), ""
    if config == OFF:
        return tuple(replace(gpu, cpus=()) for gpu in gpus), OFF, ""
    online = [cpu for cpus in read_numa_nodes(root).values() for cpu in cpus]
    try:
        nodes = check_numa(parse_numa(config), len(gpus), online)
    except NumaError as error:
        if asked or file is None:
            raise ValueError(f"--mlperf-numa-config: {error}") from None
        raise SystemFileError(file.path, "[numa]", str(error)) from None
    differing = list_differences(nodes, detected)
    note = ""
    if differing:
        source = "--mlperf-numa-config"
        if file and not asked:
            source = f"[numa] in {file.path}"
        note = f"NUMA: {'; '.join(differing)}; see {source}"
    return assign_cpus(gpus, nodes), format_numa(nodes), note


def list_system_folders(rootdir: Path) -> tuple[Path, ...]:
    """Return the folders with system files: the user's, then the shipped one."""
    here = Path(__file__).resolve().parents[1]
    shipped = here / "systems"  # in a wheel; a clone has it beside the package
    if not shipped.is_dir():
        shipped = here.parent / "systems"
    folders = (rootdir.resolve() / "systems", shipped)
    return tuple(folder for folder in dict.fromkeys(folders) if folder.is_dir())


def make_unregistered_name(arch: str, gpus: Sequence[Gpu]) -> str:
    """Return ``UNREGISTERED_<arch>_<gpu>x<n>``, or without the GPU part."""
    parts = [f"{gpu}x{count}" for gpu, count in _count_models(gpus).items()]
    return re.sub(r"[^A-Za-z0-9._+-]", "_", "_".join([UNREGISTERED, arch, *parts]))


def _check_name(name: str) -> None:
    # The official checker refuses blanks and leading dots in a submission's folders.
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]*", name):
        return
    raise ValueError(
        f"system name {name!r} cannot name a folder of a submission: it should have "
        "only letters, digits and . _ + - and begin with a letter, digit or _; change "
        "SYSTEM_NAME, --mlperf-system or the system file's name"
    )


def _count_models(gpus: Sequence[Gpu]) -> dict[str, int]:
    names = [gpu.name for gpu in gpus]
    return {name: names.count(name) for name in names}


def _format_gib(size: int) -> str:
    return f"{size / GIB:.0f} GiB" if size >= 10 * GIB else f"{size / GIB:.1f} GiB"


def _describe(name: str, host: Host, gpus: Sequence[Gpu]) -> dict[str, str]:
    """Return the submission fields that can be detected.

    Counts are strings: the official checker treats the number 0 as an empty field.
    """
    fields = {
        "system_name": name,
        "number_of_nodes": "1",
        "host_processor_model_name": host.cpu_model,
        "host_processors_per_node": str(host.sockets),
        "host_processor_core_count": str(max(1, host.physical_cores // host.sockets)),
        "accelerators_per_node": str(len(gpus)),
        "accelerator_model_name": ", ".join(_count_models(gpus)) or "N/A",
        "operating_system": host.os,
    }
    if host.memory_bytes:
        fields["host_memory_capacity"] = _format_gib(host.memory_bytes)
    if not gpus:
        fields["accelerator_memory_capacity"] = "N/A"
    elif all(gpu.memory_bytes for gpu in gpus):
        sizes = dict.fromkeys(_format_gib(gpu.memory_bytes) for gpu in gpus)
        fields["accelerator_memory_capacity"] = ", ".join(sizes)
    return fields
