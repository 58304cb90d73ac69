"""Which of a CPU's instruction sets decide how fast a network runs on it."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_mlperf.machine.host import read_text

NAMES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "amx_bf16": "AMX BF16",
    "amx_int8": "AMX INT8",
    "asimd": "NEON",
    "asimddp": "NEON dot product",
    "sve": "SVE",
    "i8mm": "I8MM",
    "bf16": "BF16",
}
"""Flag of /proc/cpuinfo (x86, then ARM) -> the name that its maker uses."""
INT8 = ("AVX-512 VNNI", "AVX VNNI", "AMX INT8", "NEON dot product", "I8MM")
"""Sets that multiply and add four or more int8 values in the place of one in fp32."""
_HEAD = 1 << 14
"""Bytes that hold the first CPU's record."""


def read_instruction_sets(root: Path = Path("/")) -> tuple[str, ...]:
    """Return the names of what the first CPU has; empty where that is not told."""
    text = read_text(root / "proc/cpuinfo", _HEAD)
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    return tuple(name for flag, name in NAMES.items() if flag in flags)


def has_int8(sets: tuple[str, ...]) -> bool:
    """Return whether a CPU has instructions made for int8."""
    return any(name in INT8 for name in sets)


def describe_instruction_sets(sets: tuple[str, ...]) -> str:
    """Return the sets in words, and what is missing that int8 would need."""
    listed = ", ".join(sets) or "none known"
    if has_int8(sets):
        return listed
    return f"{listed}; none made for int8 (VNNI, AMX, dot product)"
