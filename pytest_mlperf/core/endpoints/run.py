"""One run of the endpoints client: its configuration, and what it wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.core.endpoints.documents import REMEDY
from pytest_mlperf.core.endpoints.documents import Document
from pytest_mlperf.core.endpoints.files import CONFIGS
from pytest_mlperf.core.endpoints.files import FILES
from pytest_mlperf.core.endpoints.files import SCORES
from pytest_mlperf.core.endpoints.files import find_config
from pytest_mlperf.core.endpoints.files import find_home
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.rounds import Round
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario

KINDS = ("offline", "online")
HELD = ("concurrency", "agentic_inference")
"""Load patterns of a fixed number of requests, or of conversations, in flight."""


@dataclass(frozen=True, slots=True)
class EndpointsRun:
    """The files of one run, as they are on disk."""

    folder: Path
    mode: Mode
    config: Document
    result: Document
    """The summary of a performance run, or an accuracy run's scores."""

    @classmethod
    def read(cls, folder: Path) -> EndpointsRun:
        """Read a run's folder; ``LogError`` where it cannot be trusted."""
        home = find_home(folder)
        config = find_config(home)
        if config is None:
            path = home / CONFIGS[0]
            required = "config.yaml, which the client writes into its report folder"
            raise LogError(path, 0, "no such file", required, REMEDY)
        is_accuracy = (folder / SCORES).exists() or folder.name == Mode.ACCURACY.value
        mode = Mode.ACCURACY if is_accuracy else Mode.PERFORMANCE
        # A link in somebody else's result leads nowhere but into it.
        result = Document.read(folder / FILES[mode.value], folder)
        return cls(folder, mode, Document.read(config, config.parent), result)

    @property
    def kind(self) -> str:
        """``offline`` or ``online``; ``LogError`` for a run of another type.

        A submission run says which it is in ``benchmark_mode``.
        """
        key = "type"
        if self.config.find("type") == "submission":
            key = "benchmark_mode"
        if self.config.text(key) not in KINDS:
            raise self.config.wrong("offline or online", key)
        return self.config.text(key)

    @property
    def concurrency(self) -> int | None:
        """Requests in flight at most; None where the load is not held at a number."""
        pattern = ("settings", "load_pattern")
        if self.config.find(*pattern, "type") not in HELD:
            return None
        return self.config.integer(*pattern, "target_concurrency")

    @property
    def scenario(self) -> Scenario:
        """The scenario that the configuration alone tells."""
        if self.kind == "offline":
            return Scenario.OFFLINE
        return Scenario.SINGLE_STREAM if self.concurrency == 1 else Scenario.SERVER


@dataclass(frozen=True, slots=True)
class JudgedResult:
    """A run with everything that decides how to judge it."""

    run: EndpointsRun
    rule: Rule
    round: Round
    scenario: Scenario
    is_open: bool = False
    """Of the open division, which is held to no accuracy."""

    @property
    def config(self) -> Document:
        return self.run.config

    @property
    def result(self) -> Document:
        return self.run.result
