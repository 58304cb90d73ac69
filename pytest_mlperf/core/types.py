"""The vocabulary of a run: scenario, mode and cell, as frozen values."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Scenario(enum.Enum):
    """An MLPerf scenario; the value is the name that LoadGen and folders use."""

    SINGLE_STREAM = "SingleStream"
    MULTI_STREAM = "MultiStream"
    OFFLINE = "Offline"
    SERVER = "Server"
    INTERACTIVE = "Interactive"

    @property
    def slug(self) -> str:
        """The name in item ids and marks: ``singlestream``."""
        return self.value.lower()

    @property
    def loadgen(self) -> str:
        """LoadGen's own scenario: Interactive drives Server with tighter limits."""
        return "Server" if self is Scenario.INTERACTIVE else self.value

    @classmethod
    def parse(cls, text: str) -> Scenario:
        """Return the scenario of any usual spelling (``single-stream``, ``Server``).

        Raises ``ValueError`` that lists the legal names.
        """
        wanted = "".join(c for c in text.lower() if c.isalnum())
        for scenario in cls:
            if scenario.slug == wanted:
                return scenario
        legal = ", ".join(s.slug for s in cls)
        raise ValueError(f"{text!r} is not a scenario; legal: {legal}")


class Mode(enum.Enum):
    """What a run is for."""

    PERFORMANCE = "performance"
    ACCURACY = "accuracy"
    COMPLIANCE = "compliance"
    """A performance run under a compliance test's audit settings."""

    @property
    def loadgen(self) -> str:
        """The name of LoadGen's ``TestMode`` member."""
        return "AccuracyOnly" if self is Mode.ACCURACY else "PerformanceOnly"


@dataclass(frozen=True, slots=True)
class Cell:
    """Benchmark x target x scenario x engine: one parameter set of the suites."""

    benchmark: str
    """Registered name: ``resnet50``, ``bert``."""
    target: str
    """Accuracy target ``99`` or ``99.9``; empty where a benchmark has only one."""
    scenario: Scenario
    engine: str
    round: str
    """The round that judges this cell: ``v6.1``."""

    @property
    def model(self) -> str:
        """Benchmark and target as one name: ``bert-99.9``, ``resnet50``."""
        return f"{self.benchmark}-{self.target}" if self.target else self.benchmark

    @property
    def id(self) -> str:
        """The text in the item's brackets: ``bert-99-server-onnxruntime``."""
        return f"{self.model}-{self.scenario.slug}-{self.engine}"


KIND_LABELS = {"embedded": "embedded", "generated": "performance only"}
"""What results of a workload other than the official one are called everywhere."""


@dataclass(frozen=True, slots=True)
class Seeds:
    """A round's three LoadGen seeds (64-bit), and those of TEST05 where it has them."""

    qsl: int
    sample_index: int
    schedule: int
    test05: tuple[int, int, int] | None = None
