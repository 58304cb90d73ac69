"""Energy counters of CPU packages: RAPL, as Linux shows it under powercap.

AMD's counters have the same names (``intel-rapl:0``). Only root may read them since
Linux 5.10 (CVE-2020-8694).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/class/powercap")
PACKAGES = "intel-rapl:[0-9]*"
"""Whole packages; ``intel-rapl:0:0`` is a part of one."""


@dataclass(frozen=True, slots=True)
class RaplDomain:
    """One package's counter."""

    folder: Path
    name: str
    """``package-0``."""
    wraps_at_uj: int

    def read_uj(self) -> int:
        """Return the counter, microjoules; ``OSError`` where it may not be read."""
        return int((self.folder / "energy_uj").read_text())

    def elapsed_j(self, before_uj: int, after_uj: int) -> float:
        """Return the joules between two readings, over at most one wrap."""
        used = after_uj - before_uj
        return (used if used >= 0 else used + self.wraps_at_uj) / 1e6


def find_domains(root: Path = ROOT) -> list[RaplDomain]:
    """Return the packages whose counters this process may read."""
    found = []
    for folder in sorted(root.glob(PACKAGES)):
        if folder.name.count(":") != 1:
            continue
        try:
            name = (folder / "name").read_text().strip()
            highest = int((folder / "max_energy_range_uj").read_text())
            domain = RaplDomain(folder, name, highest)
            domain.read_uj()
        except (OSError, ValueError):
            continue
        if name.startswith("package"):
            found.append(domain)
    return found
