"""What a power measurement comes to, and how it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PowerFigures:
    """Average power while LoadGen ran, and what the round makes of it."""

    watts: float
    seconds: float
    per_watt: float | None = None
    """The result over the watts: samples/s/W; of streams, None."""
    unit: str = ""
    """Of the result: ``samples/s``."""
    query_mj: float | None = None
    """Millijoules of a query; of streams alone."""

    def to_dict(self) -> dict[str, float | str]:
        """Return the values that are there."""
        return {name: v for name, v in asdict(self).items() if v not in (None, "")}

    def __str__(self) -> str:
        text = f"{self.watts:,.1f} W on average over {self.seconds:,.1f} s"
        if self.query_mj is not None:
            return f"{text}, {format_figure(self.query_mj)} mJ a query"
        return f"{text}, {format_figure(self.per_watt or 0)} {self.unit}/W"


def format_figure(value: float) -> str:
    """Return four digits of a figure, and of a large one all before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def describe_power(
    meter: Mapping[str, float | str], chip_watts: Mapping[str, float]
) -> str:
    """Return a run's power in words: the meter's, else what its chips tell.

    ``meter``: of ``PowerFigures.to_dict``. ``chip_watts``: source -> average watts, no
    figure of a power submission.
    """
    if meter:
        return f"power: {PowerFigures(**meter)}"  # type: ignore[arg-type]
    if not chip_watts:
        return ""
    parts = ", ".join(f"{name} {watts:,.1f} W" for name, watts in chip_watts.items())
    return f"unofficial power of chips alone: {parts}"
