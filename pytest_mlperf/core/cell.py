"""A cell: one parameter set of the suites, with the rule that judges it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_mlperf.core.rounds.rule import Rule
from pytest_mlperf.core.types import Scenario


@dataclass(frozen=True, slots=True)
class Cell:
    """Benchmark x target x scenario x provider, judged by one round."""

    rule: Rule
    engine: str
    """Name of the provider, engine or service, as ids have it: ``onnxruntime``."""

    @property
    def benchmark(self) -> str:
        """Registered name: ``resnet50``, ``bert``."""
        return self.rule.benchmark

    @property
    def target(self) -> str:
        """Accuracy target ``99`` or ``99.9``; empty where there is only one."""
        return self.rule.target

    @property
    def scenario(self) -> Scenario:
        return self.rule.scenario

    @property
    def round(self) -> str:
        """The round that judges this cell: ``v6.1``."""
        return self.rule.round

    @property
    def model(self) -> str:
        """Benchmark and target as one name: ``bert-99.9``, ``resnet50``."""
        return self.rule.model

    def __repr__(self) -> str:
        """Short: reporters and tracebacks show it, and a rule has two dozen fields."""
        return f"Cell({self.id}, {self.round})"

    @property
    def id(self) -> str:
        """The text in the item's brackets: ``bert-99-server-onnxruntime``."""
        return f"{self.model}-{self.scenario.slug}-{self.engine}"

    @property
    def file_name(self) -> str:
        """The id as a file or a folder has it: a third party's name may not climb."""
        return re.sub(r"[^\w.-]", "_", self.id)
