"""How fast data must reach a device, by benchmark and measured rate.

Two sources, and where they differ the larger figure is the one to meet: a link that
carries it satisfies both readings.

- ``GUIDE``: NVIDIA's tuning guide (rounds up to v3.1), whose formulas decide about
  ``start_from_device`` and ``end_on_device``. It counts inputs as its own engines take
  them: padded, and int8 where they are.
- ``RULES``: the datacenter bandwidth appendix of MLCommons' inference rules (since
  v4.0), which every datacenter submission has to meet. It counts elements, times the
  bytes of the type that the submission transfers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Direction = Literal["in", "out"]


@dataclass(frozen=True, slots=True)
class Formula:
    """Bytes that one sample takes over the link."""

    elements: float
    """Bytes where ``type_bytes`` is 1 and ``scaled`` is False."""
    text: str
    """How the figure comes about."""
    scaled: bool = False
    """Times the bytes of an element, which the submitter chooses."""

    def bytes_of(self, type_bytes: float) -> float:
        return self.elements * (type_bytes if self.scaled else 1)


GUIDE_IN: Mapping[str, Formula] = {
    "resnet50": Formula(150_528, "3 x 224 x 224"),
    "ssd-small": Formula(270_000, "3 x 300 x 300"),
    "ssd-large": Formula(4_320_000, "3 x 1200 x 1200"),
    "bert": Formula(3_076, "(2 x 384 + 1) x 4: ids, segments and a length, int32"),
    "dlrm": Formula(32_400, "270 x (16 x 1 + 26 x 4): numbers padded to 16 bytes"),
    "rnnt": Formula(480_000, "15 s x 16,000 a second x 2"),
    "3d-unet": Formula(32_944_795, "mean of the 43 inputs, int8"),
}
GUIDE_OUT: Mapping[str, Formula] = {
    "3d-unet": Formula(32_944_795, "mean of the 43 outputs, one int8 label a voxel"),
}
"""``end_on_device`` is for 3D-UNet alone: its results go to the network, those of the
others to a process on the CPU."""

RULES_IN: Mapping[str, Formula] = {
    "resnet50": Formula(150_528, "3 x 224 x 224 x type", scaled=True),
    "retinanet": Formula(1_920_000, "3 x 800 x 800 x type", scaled=True),
    "bert": Formula(1_152, "3 x 384 x type: ids, mask and segments", scaled=True),
    "3d-unet": Formula(32_944_795, "mean of the 43 inputs x type", scaled=True),
    "dlrm": Formula(35_100, "270 x (13 x 2 + 26 x 4): fp16 numbers, not padded"),
    "dlrm-v2": Formula(35_100, "270 x (13 x 2 + 26 x 4): fp16 numbers, not padded"),
    "llama3.1-8b": Formula(2_048, "2048 x type", scaled=True),
    "llama2-70b": Formula(1_024, "1024 x type", scaled=True),
    "llama3.1-405b": Formula(20_000, "20000 x type", scaled=True),
    "mixtral-8x7b": Formula(2_048, "2048 x type", scaled=True),
    "deepseek-r1": Formula(3_136, "3136 x type", scaled=True),
    "gpt-oss-120b": Formula(15_330, "15330 x type", scaled=True),
    "qwen3-vl-235b-a22b": Formula(27_051, "27051 x type", scaled=True),
    "dlrm-v3": Formula(98_368, "98368 bytes"),
}
RULES_OUT: Mapping[str, Formula] = {
    "3d-unet": Formula(32_944_795, "mean of the 43 outputs x type", scaled=True),
    "llama2-70b": Formula(1_024, "1024 x type", scaled=True),
    "llama3.1-405b": Formula(20_000, "20000 x type", scaled=True),
    "mixtral-8x7b": Formula(2_048, "2048 x type", scaled=True),
    "deepseek-r1": Formula(20_000, "20000 x type", scaled=True),
    "gpt-oss-120b": Formula(10_000, "10000 x type (performance)", scaled=True),
    "qwen3-vl-235b-a22b": Formula(500, "500 x type", scaled=True),
    # The appendix prints 224,870,400; the product of its own factors is this.
    "wan-2.2-t2v-a14b": Formula(
        81 * 720 * 1280 * 3, "81 x 720 x 1280 x 3 x type", scaled=True
    ),
}

_TABLES: Mapping[tuple[str, Direction], Mapping[str, Formula]] = {
    ("guide", "in"): GUIDE_IN,
    ("guide", "out"): GUIDE_OUT,
    ("rules", "in"): RULES_IN,
    ("rules", "out"): RULES_OUT,
}


@dataclass(frozen=True, slots=True)
class Need:
    """What one source asks of the link, bytes a second."""

    source: str
    """``guide`` or ``rules``."""
    direction: Direction
    bytes_per_s: float
    text: str
    """The formula with its figures."""


def needs(
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
    for source in ("guide", "rules"):
        formula = _TABLES[source, direction].get(benchmark)
        if formula is not None:
            each = formula.bytes_of(type_bytes)
            scale = f" at {type_bytes:g} bytes" if formula.scaled else ""
            text = f"{rate:,.6g}/s x {each:,.10g} bytes ({formula.text}{scale})"
            found.append(Need(source, direction, rate * each, text))
    return tuple(sorted(found, key=lambda need: -need.bytes_per_s))
