"""A metric as VirtualClient has it, and what the names are made of."""

from __future__ import annotations

import enum
import statistics
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

PASS_FAIL, VALID_INVALID = "PASS/FAIL", "VALID/INVALID"
HIGH_TARGETS = {"99.9"}
"""Accuracy targets that are named ``k_99_9``; every other is ``k_99``."""


class Relativity(enum.Enum):
    """Which way a metric is better."""

    HIGHER = "HigherIsBetter"
    LOWER = "LowerIsBetter"
    UNDEFINED = "Undefined"


class Generation(enum.IntEnum):
    """How VirtualClient named metrics, by the time of its release."""

    MODES = 1
    """Until August 2023: ``…-AccuracyMode`` and ``…-PerformanceMode``."""
    VALUES = 2
    """Until November 2024: the same, and the values behind them."""
    METADATA = 3
    """Until July 2026: short names; the configuration is metadata."""


@dataclass(frozen=True, slots=True)
class VirtualClientMetric:
    """One value of one run."""

    model: str
    """VirtualClient's scenario: ``bert``; a training run has a longer one."""
    name: str
    value: float
    unit: str = ""
    relativity: Relativity = Relativity.UNDEFINED
    generation: Generation = Generation.MODES
    metadata: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, keys as VirtualClient's telemetry has them."""
        return {
            "scenario": self.model, "metricName": self.name, "metricValue": self.value,
            "metricUnit": self.unit, "metricRelativity": self.relativity.value,
            "generation": int(self.generation), "metadata": dict(self.metadata),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """A metric over its repeats."""

    model: str
    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def minimum(self) -> float:
        return min(self.values)

    @property
    def maximum(self) -> float:
        return max(self.values)

    @property
    def average(self) -> float:
        return statistics.fmean(self.values)


def summarize(metrics: Iterable[VirtualClientMetric]) -> list[MetricSummary]:
    """Return minimum, maximum and average of each metric, in order of appearance.

    Names of the third generation are equal for every scenario: their configuration
    tells them apart.
    """
    found: dict[tuple[str, str, str, str], list[float]] = {}
    for one in metrics:
        config = ""
        if one.generation is Generation.METADATA:
            config = one.metadata.get("config_name", "")
        found.setdefault((one.model, config, one.name, one.unit), []).append(one.value)
    return [
        MetricSummary(
            model, f"{name} ({config})" if config else name, unit, tuple(values)
        )
        for (model, config, name, unit), values in found.items()
    ]


def format_config_name(
    system: str, harness: str, target: str, power: str, scenario: str
) -> str:
    """Return NVIDIA's name of a configuration.

    ``harness`` is library and harness, ``TRT-custom`` or ``TRT_Triton-triton``;
    ``power`` MaxP or MaxQ. Together with system, target and scenario:
    ``DGX-A100_A100-SXM4-40GBx8_TRT-custom_k_99_9_MaxP-Offline``.
    """
    library, _, kind = harness.rpartition("-")
    name = system if system.endswith(f"_{library}") else f"{system}_{library}"
    accuracy = "k_99_9" if target in HIGH_TARGETS else "k_99"
    return f"{name}-{kind}_{accuracy}_{power}-{scenario}"


def is_high_target(config_name: str) -> bool:
    """True for a configuration of the 99.9 % target, by its name."""
    return "_k_99_9_" in config_name
