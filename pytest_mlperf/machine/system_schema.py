"""The legal keys and values of a system file."""

from __future__ import annotations

import difflib
import math
import re
import shlex
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from pytest_mlperf.config.option_types import parse_variable
from pytest_mlperf.machine.numa import OFF
from pytest_mlperf.machine.numa import NumaError
from pytest_mlperf.machine.numa import parse_numa

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4")

_FIELD_NAMES = """
    division submitter status system_name system_type system_type_detail
    number_of_nodes
    host_processor_model_name host_processors_per_node host_processor_core_count
    host_processor_frequency host_processor_caches host_processor_interconnect
    host_memory_capacity host_memory_configuration
    host_storage_capacity host_storage_type
    host_networking host_networking_topology host_network_card_count
    accelerators_per_node accelerator_model_name accelerator_memory_capacity
    accelerator_memory_configuration accelerator_frequency
    accelerator_host_interconnect accelerator_interconnect
    accelerator_interconnect_topology accelerator_on-chip_memories
    cooling framework operating_system other_software_stack hw_notes sw_notes
    is_network network_type network_media network_rate nic_loadgen number_nic_loadgen
    net_software_stack_loadgen network_protocol number_connections nic_sut
    number_nic_sut net_software_stack_sut network_topology sut_name
    power_management filesystem boot_firmware_version management_firmware_version
    other_hardware number_of_type_nics_installed nics_enabled_firmware nics_enabled_os
    nics_enabled_connected network_speed_mbit power_supply_quantity_and_rating_watts
    power_supply_details disk_drives disk_controllers system_power_only
    system_power_capacity
"""
DESCRIPTION_FIELDS = frozenset(_FIELD_NAMES.split())
"""Fields of a submission's systems/<name>.json: required, network and power ones."""


ValueCheck = Callable[[Any], str | None]
"""Returns what the value should be, or None for a legal value."""


def _check_whole(value: Any) -> str | None:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return None if good else "a whole number of at least 1"


def _check_count(value: Any) -> str | None:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return None if good else "a whole number of at least 0"


def _check_sizes(value: Any) -> str | None:
    good = isinstance(value, list) and value and not any(map(_check_whole, value))
    return None if good else "a list of whole numbers of at least 1"


def _check_amount(value: Any, zero: bool = False) -> str | None:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if good and math.isfinite(value) and (value > 0 or (zero and value == 0)):
        return None
    return "a number of at least 0" if zero else "a number above 0"


def _check_delay(value: Any) -> str | None:
    return _check_amount(value, zero=True)


def _check_string(value: Any) -> str | None:
    good = isinstance(value, str) and value.strip()
    return None if good else "a string that is not empty"


def _check_pattern(value: Any) -> str | None:
    try:
        re.compile(value)
    except (TypeError, re.error) as error:
        return f"a regular expression ({error})"
    return _check_string(value)


def _check_field(value: Any) -> str | None:
    good = isinstance(value, str) or _check_count(value) is None
    return None if good else "a string or a whole number of at least 0"


def _check_number_field(value: Any) -> str | None:
    good = _check_count(value) is None or (isinstance(value, str) and value.isdecimal())
    return None if good else "a whole number of at least 0"


def _check_positive_field(value: Any) -> str | None:
    good = _check_number_field(value) is None and int(value) > 0
    return None if good else "a whole number of at least 1"


def _check_command(value: Any) -> str | None:
    words = isinstance(value, list) and all(isinstance(w, str) and w for w in value)
    good = (words and value) or _check_string(value) is None
    if good and isinstance(value, str):
        try:
            shlex.split(value)
        except ValueError as error:
            return f"a command line as a shell reads it ({error})"
    return None if good else "a command line, or a list of its words"


def _check_flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _check_clocks(value: Any) -> str | None:
    if isinstance(value, bool) or (isinstance(value, int) and 100 <= value <= 10_000):
        return None
    return "true (the highest clock), false, or MHz from 100 to 10000"


def _check_port(value: Any) -> str | None:
    good = _check_whole(value) is None and value < 1 << 16
    return None if good else "a port from 1 to 65535; leave it out for a free one"


def _check_path(value: Any) -> str | None:
    good = isinstance(value, str) and re.fullmatch(r"/[!-~]*", value)
    return None if good else "a path that begins with /"


def _check_variable(value: Any) -> str | None:
    try:
        parse_variable(value if isinstance(value, str) else "")
    except ValueError as error:
        return str(error)
    return None


def _check_numa(value: Any) -> str | None:
    if value == OFF:
        return None
    if not isinstance(value, str):
        return f'"GPUs:CPUs&GPUs:CPUs" or "{OFF}"'
    try:
        parse_numa(value)
    except NumaError as error:
        return f'"{OFF}" or nodes of GPUs:CPUs joined by "&" ({error})'
    return None


def _check_one_of(*legal: str) -> ValueCheck:
    def check(value: Any) -> str | None:
        return None if value in legal else f"one of {', '.join(map(repr, legal))}"

    return check


MATCH: Mapping[str, ValueCheck] = {
    "arch": _check_string,
    "board": _check_pattern,
    "cpu": _check_pattern,
    "gpu": _check_pattern,
    "gpu_count": _check_count,
    "min_memory_gib": _check_amount,
}
NUMA: Mapping[str, ValueCheck] = {"config": _check_numa}
ON_DEVICE: Mapping[str, ValueCheck] = {
    "start_from_device": _check_flag,
    "end_on_device": _check_flag,
    "diagram": _check_string,
    "software": _check_string,
    "ingress_gb_s": _check_amount,
    "egress_gb_s": _check_amount,
    "both_gb_s": _check_amount,
}
DESCRIPTION: Mapping[str, ValueCheck] = dict.fromkeys(
    DESCRIPTION_FIELDS, _check_field
) | {
    # Fields that the official checker parses or compares; mistakes show here first.
    "division": _check_one_of("closed", "open", "network"),
    "status": _check_one_of("available", "preview", "rdi"),
    "system_type": _check_one_of(
        "datacenter", "edge", "datacenter,edge", "edge,datacenter"
    ),
    "number_of_nodes": _check_positive_field,
    "host_processors_per_node": _check_positive_field,
    "host_processor_core_count": _check_positive_field,
    "accelerators_per_node": _check_number_field,
}
SERVER: Mapping[str, ValueCheck] = {
    "balance": _check_one_of("least", "round"),
    "chat": _check_flag,
    "command": _check_command,
    "concurrency": _check_whole,
    "grace_s": _check_amount,
    "health": _check_path,
    "model": _check_string,
    "port": _check_port,
    "ready_s": _check_amount,
    "timeout_s": _check_amount,
    "token_env": _check_variable,
    "warm_up": _check_count,
}
"""How the server of the LLM benchmarks is started and queried."""
SETTINGS: Mapping[str, ValueCheck] = {
    "cpu_governor": _check_string,
    "cpu_max_mhz": _check_whole,
    "lock_clocks": _check_clocks,
    "power_limit_w": _check_amount,
}
"""What a run may set on its device; the shipped files set nothing."""
TUNING: Mapping[str, ValueCheck] = {
    "batch": _check_whole,
    "expected_latency_ms": _check_amount,
    "max_delay_ms": _check_delay,
    "precision": _check_one_of(*PRECISIONS),
    "preferred": _check_sizes,
    "streams": _check_whole,
    "target_qps": _check_amount,
    "threads": _check_whole,
}


OPTION = "options."
"""Before the name of an engine's own option, among the settings of its table."""


def check_option(value: Any) -> str | None:
    """Return what an engine's own option should be; its name the engine checks."""
    good = isinstance(value, str | int | float) or _check_sizes(value) is None
    return None if good else "a text, a number, true, false or a list of whole numbers"


def format_option(value: Any) -> str:
    """Return an engine's own option as a command line has it."""
    if isinstance(value, list):
        return "+".join(map(str, value))
    return str(int(value)) if isinstance(value, bool) else str(value)


def describe_unknown(kind: str, found: str, legal: Iterable[str]) -> str:
    """Return the text of an error: the name, the nearest legal one and all of them."""
    names = sorted(set(legal))
    close = difflib.get_close_matches(found, names, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ";"
    return f"unknown {kind} {found!r}{guess} Legal: {', '.join(names) or 'none'}"
