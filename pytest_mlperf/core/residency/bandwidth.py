"""How fast data must reach a device, by benchmark and measured rate.

Where the sources differ, the larger figure is the one to meet: a link that carries it
satisfies every reading.

- ``guide``: NVIDIA's tuning guide (rounds up to v3.1), whose formulas decide about
  ``start_from_device`` and ``end_on_device``. It counts inputs as its own engines take
  them: padded, and int8 where they are.
- ``rules``: the datacenter bandwidth appendix of MLCommons' inference rules (since
  v4.0), which every datacenter submission has to meet. It counts elements, times the
  bytes of the type that the submission transfers.
- ``vendor``: NVIDIA's bandwidth_requirement.md of v5.1, for what neither of them has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pytest_mlperf.core import catalog
from pytest_mlperf.core.catalog.facts import Formula

Source = Literal["guide", "rules", "vendor"]
Direction = Literal["in", "out"]
LINKS = {
    "100 Gb/s network": 12.5e9,
    "PCIe 3.0 x16": 15.75e9,
    "200 Gb/s network": 25e9,
    "PCIe 4.0 x16": 31.5e9,
    "400 Gb/s network": 50e9,
    "PCIe 5.0 x16": 63e9,
    "800 Gb/s network": 100e9,
}
"""Link -> bytes a second each way, as its standard names them; real ones carry less."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one source asks of the link, bytes a second."""

    source: Source
    direction: Direction
    bytes_per_s: float
    text: str
    """The formula with its figures."""


def compute_needs(
    benchmark: str, rate: float, type_bytes: float, direction: Direction
) -> tuple[Need, ...]:
    """Return what each source asks for at a rate of samples a second, largest first.

    ``type_bytes``: of one element as it is transferred (int8 1, fp16 2, int32 4).
    Empty where no source has a formula. Raises ``ValueError`` for a rate or a type
    that no run has.
    """
    for name, value in (("rate", rate), ("type_bytes", type_bytes)):
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} = {value}, but it should be a number above 0")
    found = []
    facts = catalog.get(benchmark)
    formulas: dict[Source, Formula | None] = {
        "guide": facts.guide_in if direction == "in" else facts.guide_out,
        "rules": facts.rules_in if direction == "in" else facts.rules_out,
        "vendor": facts.vendor_in if direction == "in" else facts.vendor_out,
    }
    for source, formula in formulas.items():
        if formula is not None:
            each = formula.bytes_of(type_bytes)
            scale = f" at {type_bytes:g} bytes" if formula.scaled else ""
            text = f"{rate:,.6g}/s x {each:,.10g} bytes ({formula.text}{scale})"
            found.append(Need(source, direction, rate * each, text))
    return tuple(sorted(found, key=lambda need: -need.bytes_per_s))


def list_allowed_benchmarks(direction: Direction) -> tuple[str, ...]:
    """Return the benchmarks whose samples may stay on the device: those of the guide.

    ``end_on_device`` is for 3D-UNet alone: its results go to the network, those of the
    others to a process on the CPU.
    """
    return tuple(
        name
        for name, facts in catalog.read_all().items()
        if (facts.guide_in if direction == "in" else facts.guide_out) is not None
    )


def format_links(
    benchmark: str, type_bytes: float, links: Mapping[str, float]
) -> list[str]:
    """Return a table: the most samples a second of one device that each link carries.

    ``links``: name -> bytes a second each way. A dash where no source has a formula.
    """
    for name, speed in links.items():
        if not 0 < speed < float("inf"):
            raise ValueError(f"{name}, but a link should carry more than 0")
    needs = [
        max((need.bytes_per_s for need in found), default=0.0)
        for found in (
            compute_needs(benchmark, 1, type_bytes, "in"),
            compute_needs(benchmark, 1, type_bytes, "out"),
        )
    ]
    width = max(map(len, links))
    lines = [f"  {'link':{width}} {'GB/s':>9} {'in':>14} {'out':>14}"]
    for name, speed in sorted(links.items(), key=lambda link: link[1]):
        most = (f"{speed / each:,.0f}" if each else "-" for each in needs)
        cells = " ".join(f"{cell:>14}" for cell in most)
        lines.append(f"  {name:{width}} {speed / 1e9:9.2f} {cells}")
    return lines
