"""``pytest-mlperf machine``: what this machine is, and what would spoil a run on it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.core.residency.rules import Claim
from pytest_mlperf.core.residency.rules import Probe
from pytest_mlperf.core.residency.rules import Residency
from pytest_mlperf.core.residency.rules import format_proof
from pytest_mlperf.machine import host_checks
from pytest_mlperf.machine.devices import find_devices
from pytest_mlperf.machine.numa import OFF
from pytest_mlperf.machine.numa import format_numa
from pytest_mlperf.machine.system import System
from pytest_mlperf.machine.system import detect_system
from pytest_mlperf.machine.system_file import SystemFileError
from pytest_mlperf.machine.topology import detect_numa

HELP = "what this machine is, and what would spoil a run on it"
GOOD, ADVISED, IMPOSSIBLE = 0, 1, 2
"""Exit codes: nothing to do, something to do, the machine cannot be described."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--system", metavar="NAME", help="system to take it for")
    parser.add_argument(
        "--bandwidth",
        action="store_true",
        help="copy between pinned memory and the first GPU, and say how fast",
    )
    parser.add_argument(
        "--proof",
        metavar="BENCHMARK",
        help="compute whether this benchmark may start from the device at --rate",
    )
    parser.add_argument(
        "--rate", type=float, metavar="X", help="measured samples/s of one device"
    )
    parser.add_argument(
        "--type-bytes",
        type=float,
        default=1.0,
        metavar="N",
        help="of one element as it is copied: int8 1 (default), fp16 2, int32 4",
    )
    parser.add_argument(
        "--end", action="store_true", help="with --proof: results stay there too"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the machine and return the exit code."""
    try:
        system = detect_system(arguments.system)
    except (SystemFileError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return IMPOSSIBLE
    lines, is_advised = describe_machine(system)
    probe: Probe | None = None
    if arguments.bandwidth:
        from pytest_mlperf.machine import pinned_copy

        try:
            probe = pinned_copy.measure_bandwidth()
        except RequirementMissing as missing:
            sys.stderr.write(f"{missing}\n")
            return IMPOSSIBLE
        ways = (probe.in_per_s, probe.out_per_s, probe.both_per_s)
        speeds = "in {:.2f}, out {:.2f}, both ways {:.2f}".format(
            *(way / 1e9 for way in ways)
        )
        lines.append(f"pinned memory, GB/s: {speeds}; {probe.device}")
    sys.stdout.write("\n".join(lines) + "\n")
    if not arguments.proof:
        return ADVISED if is_advised else GOOD
    if not arguments.rate or arguments.rate < 0:
        sys.stderr.write("--proof needs --rate X, the measured samples/s of a device\n")
        return IMPOSSIBLE
    residency = Residency(start=True, end=arguments.end)
    claim = Claim(residency, system.name, system.on_device, arguments.type_bytes, probe)
    decision = claim.decide(arguments.proof, arguments.rate)
    sys.stdout.write(f"\n{format_proof(decision)}")
    return GOOD if decision.granted else ADVISED


def describe_machine(system: System, root: Path = Path("/")) -> tuple[list[str], bool]:
    """Return the lines of a machine, and whether one of them advises something."""
    kind = "registered" if system.registered else "not registered, which is fine"
    lines = [system.summary, f"name: {system.name} ({kind})"]
    lines += [f"note: {note}" for note in system.notes]
    for device in find_devices(system, os.environ):
        shown = f" [{device.visible}]" if device.visible else ""
        lines.append(f"device {device.index}: {device.name}{shown}")
    lines.append(f"NUMA: {_describe_numa(system, root)}")
    settings = [*host_checks.read_settings(system.cpus, None, root)]
    if load := host_checks.read_load(root):
        settings.append(load)
    for setting in settings:
        remedy = f": {setting.remedy}" if setting.remedy else ""
        lines.append(f"{setting.name}: {setting}{remedy}")
    return lines, bool(system.numa_note) or any(one.advised for one in settings)


def _describe_numa(system: System, root: Path) -> str:
    detected = format_numa(detect_numa(system.gpus, root))
    if system.numa_note:
        return f"configured {system.numa_config}, detected {detected}"
    if system.numa_config == OFF:
        return "off, by the system file"
    if len(system.numa) < 2:
        return "one node: nothing to bind to"
    return system.numa_config or "no GPU to place"
