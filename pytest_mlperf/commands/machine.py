"""``pytest-mlperf machine``: what this machine is, and what would spoil a run on it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from pytest_mlperf.api import registry
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.commands.shared.arguments import parse_number
from pytest_mlperf.config.option_types import resolve_benchmark
from pytest_mlperf.core.residency.bandwidth import LINKS
from pytest_mlperf.core.residency.bandwidth import format_links
from pytest_mlperf.core.residency.rules import Claim
from pytest_mlperf.core.residency.rules import Probe
from pytest_mlperf.core.residency.rules import Residency
from pytest_mlperf.core.residency.rules import format_needs
from pytest_mlperf.core.residency.rules import format_proof
from pytest_mlperf.machine import host_checks
from pytest_mlperf.machine.advice import advise
from pytest_mlperf.machine.advice import format_advice
from pytest_mlperf.machine.advice import read_all_settings
from pytest_mlperf.machine.advice_costs import list_measurements
from pytest_mlperf.machine.devices import find_devices
from pytest_mlperf.machine.host import read_host
from pytest_mlperf.machine.instruction_sets import describe_instruction_sets
from pytest_mlperf.machine.instruction_sets import read_instruction_sets
from pytest_mlperf.machine.numa import OFF
from pytest_mlperf.machine.numa import format_numa
from pytest_mlperf.machine.software import Software
from pytest_mlperf.machine.system import System
from pytest_mlperf.machine.system import detect_system
from pytest_mlperf.machine.system_file import SystemFileError
from pytest_mlperf.machine.topology import detect_numa

HELP = "what this machine is, and what would spoil a run on it"
GOOD, ADVISED, IMPOSSIBLE = 0, 1, 2
"""Exit codes: nothing to do, something to do, the machine cannot be described."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--system", metavar="NAME",
        help="name of a system file to describe this machine by (default: SYSTEM_NAME, "
        "else what is detected)",
    )  # fmt: skip
    parser.add_argument(
        "--advise",
        action="store_true",
        help="what to change before measuring, most urgent first, and what it costs "
        "where a second of work shows it",
    )
    parser.add_argument(
        "--json", action="store_true", help="with --advise: print one JSON object"
    )
    parser.add_argument(
        "--bandwidth",
        action="store_true",
        help="copy between pinned memory and the first GPU, and say how fast",
    )
    parser.add_argument(
        "--proof",
        metavar="BENCHMARK",
        help="compute whether this benchmark may start from the device at --rate; "
        "without it, what a sample takes and how many a second each link carries",
    )
    parser.add_argument(
        "--link",
        metavar="GB/S",
        type=parse_number,
        action="append",
        default=[],
        help="with --proof: another link of the table, 10^9 bytes a second each way; "
        "repeat it for more",
    )
    parser.add_argument(
        "--rate",
        type=parse_number,
        metavar="X",
        help="with --proof: measured samples/s of one device",
    )
    parser.add_argument(
        "--type-bytes",
        type=parse_number,
        default=1.0,
        metavar="N",
        help="with --proof: bytes of one element as it is copied: int8 1 (default), "
        "fp16 2, int32 4",
    )
    parser.add_argument(
        "--end", action="store_true", help="with --proof: results stay there too"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the machine and return the exit code."""
    if arguments.json and not arguments.advise:
        sys.stderr.write("--json has a form of --advise alone; give both\n")
        return IMPOSSIBLE
    benchmark = ""
    if not arguments.proof and (arguments.rate or arguments.link or arguments.end):
        sys.stderr.write("--rate, --link and --end are of --proof BENCHMARK; add it\n")
        return IMPOSSIBLE
    if arguments.proof:
        try:
            benchmark = find_benchmark(arguments.proof)
        except ValueError as error:
            sys.stderr.write(f"--proof: {arguments.proof!r}, but should be {error}\n")
            return IMPOSSIBLE
    try:
        system = detect_system(arguments.system)
    except (SystemFileError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return IMPOSSIBLE
    if arguments.advise:
        return print_advice(system, as_json=arguments.json)
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
    if not benchmark:
        return ADVISED if is_advised else GOOD
    return print_proof(arguments, benchmark, system, probe)


def print_advice(system: System, *, as_json: bool = False) -> int:
    """Print what to change, ranked, and return the exit code."""
    host = read_host(Path("/"))
    settings = read_all_settings(host, system.gpus)
    found = advise(settings, list_measurements(host))
    if as_json:
        lines = [json.dumps(found.to_record(), indent=1)]
    else:
        lines = [system.summary, "", *format_advice(found)]
    sys.stdout.write("\n".join(lines) + "\n")
    return ADVISED if found.advice else GOOD


def find_benchmark(name: str) -> str:
    """Return the benchmark of any usual spelling: ``BERT-99``, ``SSDResNet34``.

    The text of a ``ValueError`` completes "but should be …".
    """
    from pytest_mlperf.core.rounds import names

    installed = registry.benchmark_names()
    found = names.resolve_benchmark(name)
    return found[0] if found else resolve_benchmark(name, installed)


def print_proof(
    arguments: argparse.Namespace, benchmark: str, system: System, probe: Probe | None
) -> int:
    """Print what samples take and, at a rate, the proof; return the exit code."""
    residency = Residency(start=True, end=arguments.end)
    claim = Claim(residency, system.name, system.on_device, arguments.type_bytes, probe)
    try:
        links = dict(LINKS)
        for speed in arguments.link:
            links[f"--link {speed:g}"] = speed * 1e9
        table = format_links(benchmark, arguments.type_bytes, links)
        decision = claim.decide(benchmark, arguments.rate or 1.0)
    except ValueError as error:
        sys.stderr.write(f"--rate, --type-bytes or --link: {error}\n")
        return IMPOSSIBLE
    text = format_proof(decision) if arguments.rate else format_needs(decision)
    title = f"most samples/s of one device running {benchmark}, by link"
    sys.stdout.write(f"\n{text}\n" + "\n".join([f"{title}:", *table, ""]))
    return GOOD if decision.granted or not arguments.rate else ADVISED


def describe_machine(system: System, root: Path = Path("/")) -> tuple[list[str], bool]:
    """Return the lines of a machine, and whether one of them advises something."""
    kind = "registered" if system.registered else "not registered, which is fine"
    lines = [system.summary, f"name: {system.name} ({kind})"]
    lines += [f"note: {note}" for note in system.notes]
    for device in find_devices(system, os.environ):
        shown = f" [{device.visible}]" if device.visible else ""
        lines.append(f"device {device.index}: {device.name}{shown}")
    sets = describe_instruction_sets(read_instruction_sets(root))
    lines.append(f"instruction sets: {sets}")
    lines.append(f"NUMA: {_describe_numa(system, root)}")
    software = Software(root=root)
    lines += describe_software(software)
    settings = [*software.list_unmet()]
    settings += host_checks.read_settings(system.cpus, None, root)
    if load := host_checks.read_load(root):
        settings.append(load)
    for setting in settings:
        remedy = f": {setting.remedy}" if setting.remedy else ""
        lines.append(f"{setting.name}: {setting}{remedy}")
    return lines, bool(system.numa_note) or any(one.advised for one in settings)


def describe_software(software: Software) -> list[str]:
    """Return what is installed, and the extras that are not."""
    shown = ", ".join(f"{name} {text}" for name, text in software.versions.items())
    lines = [f"software: {shown}"]
    if software.missing_extras:
        lines.append(f"extras not installed: {', '.join(software.missing_extras)}")
    return lines


def _describe_numa(system: System, root: Path) -> str:
    detected = format_numa(detect_numa(system.gpus, root))
    if system.numa_note:
        return f"configured {system.numa_config}, detected {detected}"
    if system.numa_config == OFF:
        return "off, by the system file"
    if len(system.numa) < 2:
        return "one node: nothing to bind to"
    return system.numa_config or "no GPU to place"
