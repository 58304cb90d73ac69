"""What a benchmark must offer: a workload for each kind that was asked for.

A benchmark is one file and one entry point (group ``pytest_mlperf.benchmarks``) that
names an object with these members. Nothing is subclassed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from typing import runtime_checkable

from pytest_mlperf.api.workload import Workload
from pytest_mlperf.core.rounds.rule import Rule
from pytest_mlperf.core.types import Mode


class Benchmark(Protocol):
    """A benchmark as it registers itself."""

    @property
    def name(self) -> str: ...

    @property
    def aliases(self) -> tuple[str, ...]: ...

    @property
    def metric(self) -> str:
        """The headline accuracy metric, as the round names it: ``F1``, ``acc``."""

    @property
    def takes(self) -> frozenset[str]:
        """``{"tensors"}``, ``{"prompts"}`` or both: what a provider must offer one of.

        The workload then is a ``TensorWorkload``, a ``PromptWorkload`` or both; one
        with ``"recordings"`` beside its tensors ``HasRecordings``.
        """

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Rules of its own, each judged with the seeds of the round that it names; its
        results are labelled "unofficial". Empty: the rounds' rules.
        """

    def precision(self, target: str) -> str:
        """Default precision for an accuracy target: ``int8`` or ``fp32``.

        Empty where the provider decides and nobody here knows.
        """

    def open_workload(self, kind: str, scratch: Path | None) -> Workload:
        """Open the ``official``, ``embedded``, ``generated`` or ``synthetic`` workload.

        Raises ``RequirementMissing`` with the files, their source and the expected
        layout.
        """


@runtime_checkable
class Rehearses(Protocol):
    """A benchmark that opens a ``synthetic`` workload of its own for rehearsals."""

    @property
    def rehearses(self) -> bool: ...


@runtime_checkable
class DeployedInUnits(Protocol):
    """A benchmark whose deployment is measured in batches of units, not of samples.

    Its workload ``CountsUnits``.
    """

    @property
    def deployment_batches(self) -> tuple[int, ...]:
        """Units of each batch."""


class Preprocessing(Protocol):
    """A slow step from downloaded files to those that ``open_workload`` reads.

    Items are made side by side in processes, in any order; a session that was
    interrupted makes those that are not there.
    """

    def list_items(self, scratch: Path) -> Sequence[str]:
        """Return the names of what is to be made.

        Raises ``RequirementMissing`` for an absent file or package.
        """

    def is_made(self, scratch: Path, item: str) -> bool: ...

    def make(self, scratch: Path, item: str) -> None:
        """Make an item in a temporary place, and rename it when it is whole.

        Raises ``ValueError`` that names a file which cannot be used.
        """

    def finish(self, scratch: Path) -> str:
        """Complete the set once all items are made; return where it is."""


@runtime_checkable
class Preprocesses(Protocol):
    """A benchmark with such a step: ``pytest-mlperf data preprocess``."""

    @property
    def preprocessing(self) -> Preprocessing: ...


@runtime_checkable
class NamesEngine(Protocol):
    """A benchmark whose model the default engine cannot read."""

    @property
    def engine(self) -> str:
        """The engine that runs it where the user names no other."""


@runtime_checkable
class Rehearsal(Protocol):
    """Makes the benchmark of a rehearsal from a rule alone."""

    def rehearse(self, rule: Rule, mode: Mode) -> Benchmark:
        """Return a benchmark whose synthetic workload is of the rule's size."""
