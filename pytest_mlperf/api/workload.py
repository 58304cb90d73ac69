"""What a benchmark must offer: a workload of model, dataset, answers and metric.

A benchmark is one file and one entry point (group ``pytest_mlperf.benchmarks``).
These protocols are all it has to satisfy; nothing is subclassed.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.samples import Prompt
from pytest_mlperf.core.types import Mode


@dataclass(frozen=True, slots=True)
class Model:
    """An ONNX model in fp32; engines derive other precisions from it."""

    path: Path
    inputs: tuple[str, ...]
    """Names in the graph, the same as the dataset's arrays."""
    outputs: tuple[str, ...]
    dynamic_length: bool = False
    """True when axis 1 of the inputs is a sequence length that may vary by batch."""
    calibration: Callable[[], Iterable[Batch]] | None = None
    """Batches for static quantisation; shares no sample with the evaluation set. None
    where activations are to be scaled as they come (transformers)."""
    keep_fp32: tuple[str, ...] = ()
    """Graph nodes that quantisation leaves alone, because accuracy asks for it."""


class Dataset(Protocol):
    """The samples, as LoadGen's QSL and the batching see them."""

    @property
    def total(self) -> int:
        """Number of samples for accuracy."""

    @property
    def performance_count(self) -> int:
        """Number of samples that are in memory during a performance run."""

    @property
    def lengths(self) -> NDArray[np.int32] | None:
        """Cost of each sample (sequence length), by which Offline sorts; or None."""

    def load(self, indices: Sequence[int]) -> None:
        """Bring samples into memory, ready to gather. Untimed."""

    def unload(self, indices: Sequence[int]) -> None:
        """Let go of samples."""

    def gather(self, indices: Sequence[int]) -> dict[str, Array]:
        """Return one C-contiguous batch; sequences are padded to its longest only."""


class Workload(Protocol):
    """What a cell runs on: official, or the embedded stand-in."""

    @property
    def kind(self) -> str:
        """``official``, ``embedded``, ``generated`` (performance only) or ``synthetic``
        (a rehearsal's).
        """

    @property
    def title(self) -> str:
        """One line for people: model and data."""

    @property
    def digest(self) -> str:
        """sha256 over everything that decides an answer: model and data."""

    @property
    def model(self) -> Model: ...

    @property
    def dataset(self) -> Dataset: ...

    @property
    def reference(self) -> Mapping[str, float]:
        """Metric -> value of the fp32 reference on this data, in the round's unit
        (percent); the accuracy gate is the round's ratio of it.
        """

    @property
    def blank(self) -> Array:
        """One well-formed answer without meaning: what the ``null`` engine gives."""

    def respond(
        self, outputs: Sequence[Array], indices: Sequence[int]
    ) -> tuple[Array, list[int] | None]:
        """Turn raw outputs into answers: a C-contiguous array (first axis batch) and
        the bytes of each row that count (None: the whole row).

        Raises ``ValueError`` for a wrong shape, too few rows, NaN or infinity, and
        says found and required.
        """

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]:
        """Return metric -> value (percent) from sample index -> answer bytes."""

    def accuracy_text(self, metrics: Mapping[str, float]) -> str:
        """The line of accuracy.txt that the official checkers parse."""


class RequestWorkload(Protocol):
    """What a cell that a service answers runs on: prompts in, texts or tokens out."""

    @property
    def kind(self) -> str:
        """``official`` or ``embedded``."""

    @property
    def title(self) -> str:
        """One line for people: model and data."""

    @property
    def digest(self) -> str:
        """sha256 over everything here that decides an answer: prompts and rules."""

    @property
    def total(self) -> int:
        """Number of samples for accuracy."""

    @property
    def performance_count(self) -> int:
        """Number of samples that a performance run draws from."""

    @property
    def reads_ids(self) -> bool:
        """Whether answers that are token ids can be scored: a tokenizer is there."""

    @property
    def reference(self) -> Mapping[str, float]:
        """Metric -> value of the reference on this data, in the round's unit."""

    @property
    def sampling(self) -> Mapping[str, Any]:
        """Fields that the official rules put into every request: ``min_tokens`` …"""

    @property
    def unjudged(self) -> Mapping[str, str]:
        """Metric of the round -> why this suite cannot compute it; it never passes."""

    def during(self, mode: Mode) -> RequestWorkload:
        """Return what a mode runs on: gpt-oss asks other questions for accuracy."""

    def prompt(self, index: int) -> Prompt:
        """Return a sample's request."""

    def encode(self, answer: Answer) -> bytes:
        """Return what LoadGen keeps of an answer: int32 token ids when the service
        tells them, else the text as UTF-8 and the number of its tokens.
        """

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]:
        """Return metric -> value from sample index -> what ``encode`` made of it."""

    def accuracy_text(self, metrics: Mapping[str, float]) -> str:
        """The lines of accuracy.txt that the official checkers parse."""


class RequestBenchmark(Protocol):
    """A benchmark whose cells are answered by a service."""

    @property
    def name(self) -> str: ...

    @property
    def aliases(self) -> tuple[str, ...]: ...

    @property
    def metric(self) -> str:
        """The headline accuracy metric, as the round names it: ``ROUGE1``."""

    @property
    def answered_by(self) -> str:
        """``service``; a benchmark without this is answered by engines."""

    def precision(self, target: str) -> str:
        """Precision of the embedded model: ``q8_0``, or ``f16`` (the reference).

        Empty without one: an endpoint's own precision is not known here.
        """

    def workload(self, kind: str, scratch: Path | None) -> RequestWorkload:
        """Open the official or the embedded workload.

        Raises ``Missing`` with the files, their source and the expected layout.
        """


class Benchmark(Protocol):
    """A benchmark as it registers itself."""

    @property
    def name(self) -> str: ...

    @property
    def aliases(self) -> tuple[str, ...]: ...

    @property
    def metric(self) -> str:
        """The headline accuracy metric, as the round names it: ``F1``, ``acc``."""

    def precision(self, target: str) -> str:
        """Default precision for an accuracy target: ``int8`` or ``fp32``."""

    def workload(self, kind: str, scratch: Path | None) -> Workload:
        """Open the official, the embedded or the generated workload.

        Raises ``Missing`` with the files, their source and the expected layout.
        """


@dataclass(slots=True)
class ArrayDataset:
    """A dataset of equally shaped samples that fits in memory whole."""

    arrays: dict[str, Array]
    """Input name -> array with one row a sample."""
    performance_count: int
    lengths: NDArray[np.int32] | None = field(default=None)

    def __post_init__(self) -> None:
        # take() of any other layout copies the whole array, a hundred times slower.
        self.arrays = {k: np.ascontiguousarray(v) for k, v in self.arrays.items()}

    @property
    def total(self) -> int:
        return len(next(iter(self.arrays.values())))

    def load(self, indices: Sequence[int]) -> None:
        """Nothing to do: the arrays are in memory."""

    def unload(self, indices: Sequence[int]) -> None:
        """Nothing to do: the arrays stay in memory."""

    def gather(self, indices: Sequence[int]) -> dict[str, Array]:
        picked = np.asarray(indices)
        return {name: array.take(picked, axis=0) for name, array in self.arrays.items()}


def input_types(dataset: Dataset) -> str:
    """Return the types of a sample's arrays as submissions name them: ``fp32``."""
    dataset.load([0])
    found = {str(array.dtype) for array in dataset.gather([0]).values()}
    dataset.unload([0])
    return ", ".join(sorted(name.replace("float", "fp") for name in found))
