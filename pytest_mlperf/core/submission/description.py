"""The system description of a submission: its fields, and the form for a person."""

from __future__ import annotations

import json
from collections.abc import Iterable
from collections.abc import Mapping

from pytest_mlperf.core import rounds

# Source: SYSTEM_DESC_REQUIRED_FIELDS and the tables after it in the checker
# (mlcommons/inference v2.0, v5.1.1 and b66003e1, tools/submission).
_FIELDS = """
    division submitter status system_type system_type_detail system_name
    number_of_nodes
    host_processors_per_node host_processor_model_name host_processor_core_count
    host_processor_frequency host_processor_caches host_processor_interconnect
    host_memory_capacity host_memory_configuration
    host_storage_type host_storage_capacity
    host_networking host_networking_topology host_network_card_count
    accelerators_per_node accelerator_model_name accelerator_frequency
    accelerator_host_interconnect accelerator_interconnect
    accelerator_interconnect_topology accelerator_memory_capacity
    accelerator_memory_configuration accelerator_on-chip_memories
    cooling framework operating_system other_software_stack hw_notes sw_notes
"""
FIELDS = tuple(_FIELDS.split())
LATER = frozenset({"host_network_card_count", "system_type_detail"})
"""Fields that rounds before v3.1 do not have."""
_OPTIONAL = """
    system_type_detail host_processor_frequency host_processor_caches
    host_processor_interconnect accelerator_frequency
    accelerator_interconnect_topology accelerator_on-chip_memories hw_notes sw_notes
"""
MEANINGFUL = frozenset(FIELDS) - frozenset(_OPTIONAL.split())
"""Fields that may not be empty."""
_NETWORK = """
    is_network network_type network_media network_rate nic_loadgen number_nic_loadgen
    net_software_stack_loadgen network_protocol number_connections nic_sut
    number_nic_sut net_software_stack_sut network_topology
"""
NETWORK = tuple(_NETWORK.split())
"""Fields that the network division has besides; the others may not have them."""
COUNTS = (
    "number_of_nodes", "host_processors_per_node", "host_processor_core_count",
    "accelerators_per_node",
)  # fmt: skip
"""Fields that the checker's exporters read as numbers."""
NO_ACCELERATOR = {
    "accelerators_per_node": "0",
    "accelerator_model_name": "N/A",
    "accelerator_memory_capacity": "N/A",
    "accelerator_host_interconnect": "N/A",
    "accelerator_memory_configuration": "N/A",
    "accelerator_interconnect": "N/A",
}
"""Of a machine without one. Text, because the checker takes the number 0 for empty."""
EXAMPLES = {
    "status": "available, preview or rdi",
    "system_type": "edge, datacenter or datacenter,edge",
    "host_memory_capacity": "512 GB",
    "host_memory_configuration": "16 x 32 GB DDR5",
    "host_storage_type": "NVMe SSD",
    "host_storage_capacity": "1 TB",
    "host_networking": "Gig Ethernet",
    "host_networking_topology": "N/A, or Ethernet on switching network",
    "host_network_card_count": "1 x 10 GbE",
    "accelerator_host_interconnect": "PCIe Gen5 x16",
    "accelerator_interconnect": "N/A, or NVLink",
    "accelerator_memory_configuration": "HBM3",
    "accelerator_memory_capacity": "80 GB",
    "cooling": "air-cooled, or passive",
    "other_software_stack": "CUDA 12.8, driver 570",
}
REHEARSED = "REHEARSAL: a person fills this in"
"""Replaces an empty field in a rehearsal."""


def list_fields(round_name: str, division: str) -> tuple[str, ...]:
    """Return the fields a round's checker asks for, in the order they are written."""
    old = rounds.is_before(round_name, "v3.1")
    own = tuple(f for f in FIELDS if not old or f not in LATER)
    return own + NETWORK * (division == "network")


def describe(
    known: Mapping[str, str], *, round_name: str, org: str, division: str, category: str
) -> dict[str, str]:
    """Return every field of the round, in order; empty where unknown.

    ``known`` comes from the machine and the system file; organization, division and
    category from the session.
    """
    own = list_fields(round_name, division)
    found = dict.fromkeys(own, "")
    if str(known.get("accelerators_per_node", "")) in ("", "0"):
        found |= NO_ACCELERATOR
    # Fields the round does not know are kept: power's are listed, not enforced. Those
    # of another division would put the entry there.
    more = {k: v for k, v in known.items() if k in own or k not in NETWORK}
    found |= {key: str(value) for key, value in more.items() if str(value).strip()}
    found |= {"submitter": org, "division": division, "system_type": category}
    if division == "network":
        found["is_network"] = "true"
    return found


def find_empty(found: Mapping[str, str]) -> list[str]:
    """Return the fields that need a meaningful value and have none."""
    asked = [*FIELDS, *(NETWORK if "is_network" in found else ())]
    needed = MEANINGFUL | set(NETWORK)
    return [f for f in asked if f in found and f in needed and not found[f].strip()]


def find_unreadable(found: Mapping[str, str]) -> list[str]:
    """Return the counts that are not whole numbers."""
    return [name for name in COUNTS if not found.get(name, "").strip().isdecimal()]


def fill_for_rehearsal(found: Mapping[str, str]) -> dict[str, str]:
    """Return the description with REHEARSAL in every field that allows a word."""
    why = "REHEARSAL: answers come from the ground truth, nothing was measured"
    filled = {f: found[f] or REHEARSED for f in found}
    filled["status"] = found["status"] or "rdi"
    for name in COUNTS:
        filled[name] = found[name] or "1"
    for name in ("hw_notes", "sw_notes"):
        filled[name] = "; ".join(filter(None, [why, found.get(name, "")]))
    return filled | {"system_name": f"{found['system_name']} (REHEARSAL)"}


def to_json(found: Mapping[str, str]) -> str:
    """Return systems/<system>.json."""
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def format_form(
    found: Mapping[str, str], proposed: Mapping[str, str] | None = None
) -> str:
    """Return a ``[description]`` table to paste: the empty fields first, as questions.

    ``proposed`` are values that the machine hints at and a person has to confirm.
    """
    hints = proposed or {}
    missing = find_empty(found)
    lines = [
        "# Fill in, and paste into systems/NAME.toml (--mlperf-system NAME).",
        "[description]",
    ]
    for name in missing:
        example = EXAMPLES.get(name, "")
        note = f"  # for example: {example}" if example else ""
        if hints.get(name):
            note = "  # proposed by the machine: confirm or correct"
        lines.append(f"{_key(name)} = {_text(hints.get(name, ''))}{note}")
    lines += ["", "# Found out or given already; what stands here overrides it."]
    given = {k: v for k, v in found.items() if k not in missing and k != "is_network"}
    mine = ("submitter", "division", "system_type")
    lines += [f"# {_key(k)} = {_text(v)}" for k, v in _rest(given, mine)]
    return "\n".join([*lines, ""])


def _rest(
    given: Mapping[str, str], without: Iterable[str]
) -> Iterable[tuple[str, str]]:
    return [(k, v) for k, v in given.items() if k not in set(without)]


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() else _text(name)


def _text(value: str) -> str:
    # A JSON string is a TOML basic string.
    return json.dumps(value, ensure_ascii=False)
