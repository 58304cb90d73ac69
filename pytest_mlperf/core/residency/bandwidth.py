"""How fast data must reach a device, by benchmark and measured rate.

Two sources, and where they differ the larger figure is the one to meet: a link that
carries it satisfies both readings.

- ``guide``: NVIDIA's tuning guide (rounds up to v3.1), whose formulas decide about
  ``start_from_device`` and ``end_on_device``. It counts inputs as its own engines take
  them: padded, and int8 where they are.
- ``rules``: the datacenter bandwidth appendix of MLCommons' inference rules (since
  v4.0), which every datacenter submission has to meet. It counts elements, times the
  bytes of the type that the submission transfers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pytest_mlperf.core import catalog
from pytest_mlperf.core.catalog.facts import Formula

Source = Literal["guide", "rules"]
Direction = Literal["in", "out"]


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
