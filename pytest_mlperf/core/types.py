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


STREAMS = (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM)
"""One query at a time: the next is issued when the one before it is answered."""
BOUNDED = (Scenario.SERVER, Scenario.INTERACTIVE)
"""Queries at random times, whose latency has a bound; LoadGen runs both as Server."""


class Mode(enum.Enum):
    """What a run is for."""

    PERFORMANCE = "performance"
    ACCURACY = "accuracy"
    COMPLIANCE = "compliance"
    """A performance run under a compliance test's audit settings."""
    BARE = "bare"
    """The engine alone, timed without LoadGen: no rule judges it."""

    @property
    def loadgen(self) -> str:
        """The name of LoadGen's ``TestMode`` member."""
        return "AccuracyOnly" if self is Mode.ACCURACY else "PerformanceOnly"


TIME_UNITS = ("ns", "ms", "s")
"""Units of a metric of which less is better."""
KIND_LABELS = {"embedded": "embedded", "generated": "performance only"}
"""What results of a workload other than the official one are called everywhere."""
NULL_ANSWERS = "null answers"
"""What results are called whose engine infers nothing, as ``null`` does."""
REHEARSAL = "rehearsal"
"""What results are called whose answers are the ground truth."""
UNOFFICIAL = "unofficial"
"""What results under a benchmark's own rules are called everywhere."""
OWN_POWER_CLIENT = "own power client"
"""What results are called whose power another client than mlcommons' measured."""


@dataclass(frozen=True, slots=True)
class Seeds:
    """A round's three LoadGen seeds (64-bit), and those of TEST05 where it has them."""

    qsl: int
    sample_index: int
    schedule: int
    test05: tuple[int, int, int] | None = None
