"""Names of ARM processors, whose ``/proc/cpuinfo`` has numbers alone.

Implementer and part are fields of the register MIDR_EL1. Numbers and names are those of
Arm's manuals, Linux's ``cputype.h`` and util-linux's ``lscpu``; 64-bit cores only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_CORTEX_A = {
    0xD02: "34", 0xD03: "53", 0xD04: "35", 0xD05: "55", 0xD06: "65", 0xD07: "57",
    0xD08: "72", 0xD09: "73", 0xD0A: "75", 0xD0B: "76", 0xD0D: "77", 0xD0E: "76AE",
    0xD41: "78", 0xD42: "78AE", 0xD43: "65AE", 0xD46: "510", 0xD47: "710", 0xD4B: "78C",
    0xD4D: "715", 0xD80: "520", 0xD81: "720", 0xD87: "725", 0xD89: "720AE",
}  # fmt: skip
_CORTEX_X = {
    0xD44: "1", 0xD48: "2", 0xD4C: "1C", 0xD4E: "3", 0xD82: "4", 0xD85: "925",
}  # fmt: skip
_NEOVERSE = {
    0xD0C: "N1", 0xD40: "V1", 0xD49: "N2", 0xD4A: "E1", 0xD4F: "V2", 0xD83: "V3AE",
    0xD84: "V3", 0xD8E: "N3",
}  # fmt: skip
_MAKERS: Mapping[int, tuple[str, Mapping[int, str]]] = {
    0x41: (
        "Arm",
        {part: f"Cortex-A{name}" for part, name in _CORTEX_A.items()}
        | {part: f"Cortex-X{name}" for part, name in _CORTEX_X.items()}
        | {part: f"Neoverse-{name}" for part, name in _NEOVERSE.items()},
    ),
    0x42: ("Broadcom", {0x100: "Brahma-B53", 0x516: "ThunderX2"}),
    0x43: ("Cavium", {0x0A1: "ThunderX-88XX", 0x0AF: "ThunderX2-99xx"}),
    0x46: ("Fujitsu", {0x001: "A64FX"}),
    0x48: ("HiSilicon", {0xD01: "Kunpeng-920", 0xD40: "Cortex-A76"}),
    0x4E: ("NVIDIA", {0x003: "Denver 2", 0x004: "Carmel", 0x010: "Olympus"}),
    0x50: ("APM", {0x000: "X-Gene"}),
    0x51: ("Qualcomm", {0x001: "Oryon", 0xC00: "Falkor", 0xC01: "Saphira"}),
    0x6D: ("Microsoft", {0xD49: "Azure-Cobalt-100"}),
    0x70: (
        "Phytium",
        {part: f"FTC{part:x}" for part in (0x660, 0x661, 0x662, 0x663, 0x664, 0x862)}
        | {0x303: "FTC310"},
    ),
    0xC0: ("Ampere", {0xAC3: "Ampere-1", 0xAC4: "Ampere-1a", 0xAC5: "Ampere-1b"}),
}


def name_processors(cpuinfo: str) -> str:
    """Return the names of the kinds of cores, fastest or slowest first as Linux counts.

    Numbers stand where there is no name; empty without an implementer.
    """
    numbers = re.findall(
        r"^CPU (implementer|part)\s*:\s*0x([0-9a-f]{1,4})$", cpuinfo, re.M
    )
    names: dict[str, None] = {}
    maker = None
    for field, digits in numbers:
        if field == "implementer":
            maker = int(digits, 16)
        elif maker is not None:
            names[_name_part(maker, int(digits, 16))] = None
    return ", ".join(names)


def _name_part(maker: int, part: int) -> str:
    known, parts = _MAKERS.get(maker, (f"implementer {maker:#04x}", {}))
    if part not in parts:
        return f"{known}, part {part:#05x}"
    return f"{known} {parts[part]}".replace("Ampere Ampere", "Ampere")
