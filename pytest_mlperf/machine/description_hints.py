"""Proposals for description fields that a person has to confirm: disks, network."""

from __future__ import annotations

from pathlib import Path

from pytest_mlperf.machine.host import read_text

SECTOR = 512
"""Bytes in which /sys/block counts, whatever the disk's own sector size."""


def propose_values(root: Path = Path("/")) -> dict[str, str]:
    """Return proposed values of the description fields that /sys shows."""
    fields = {}
    disks = [path for path in _list_entries(root / "sys/block") if _is_real(path)]
    sizes = [read_text(path / "size") for path in disks]
    total = sum(int(size) * SECTOR for size in sizes if size.isdecimal())
    if total:
        fields["host_storage_capacity"] = _format_size(total)
        kinds = dict.fromkeys(_classify_disk(path) for path in disks)
        fields["host_storage_type"] = ", ".join(kinds)
    cards = [path for path in _list_entries(root / "sys/class/net") if _is_real(path)]
    if cards:
        speeds = [read_text(path / "speed") for path in cards]
        best = max((int(s) for s in speeds if s.isdecimal()), default=0)
        each = f" x {best / 1000:g} GbE" if best else ""
        fields["host_network_card_count"] = f"{len(cards)}{each}"
    return fields


def _list_entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_real(path: Path) -> bool:
    """True for hardware; loop devices, bridges and the like have no device."""
    return (path / "device").exists()


def _classify_disk(disk: Path) -> str:
    if disk.name.startswith("nvme"):
        return "NVMe SSD"
    return "HDD" if read_text(disk / "queue/rotational") == "1" else "SSD"


def _format_size(size: int) -> str:
    return f"{size / 1e12:.3g} TB" if size >= 1e12 else f"{size / 1e9:.0f} GB"
