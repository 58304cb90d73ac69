"""What a workload must offer: model, samples, answers and score."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any
from typing import Protocol
from typing import runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.embedding import EmbeddingTables
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.samples import Prompt
from pytest_mlperf.api.samples import Responses
from pytest_mlperf.core.types import Mode


@dataclass(frozen=True, slots=True)
class ModelFile:
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
    embedding: EmbeddingTables | None = None
    """Tables that the engine looks up first; the graph gets their vectors."""
    candidates: tuple[str, ...] = ()
    """Outputs of integers [batch, columns] that tell which candidate a column of all
    outputs is, where the graph keeps the best ones: two precisions order them
    otherwise."""
    one_by_one: bool = False
    """True when the graph takes one sample. An engine then runs a batch's samples one
    after another and stacks the outputs, shorter ones padded with zeros."""


@runtime_checkable
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
    """What a cell runs on, whatever answers it: model and data, metric and score.

    Further members belong to ``TensorWorkload`` and ``PromptWorkload``.
    """

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
        """sha256 over everything here that decides an answer: model, data, prompts."""

    @property
    def reference(self) -> Mapping[str, float]:
        """Metric -> value of the reference on a stand-in's data, in the round's unit
        (percent); the accuracy gate is the round's ratio of it. Official data have the
        round's own.
        """

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]:
        """Return metric -> value (percent) from sample index -> answer bytes."""

    def accuracy_text(self, metrics: Mapping[str, float]) -> str:
        """The lines of accuracy.txt that the official checkers parse."""


@runtime_checkable
class TensorWorkload(Workload, Protocol):
    """A workload whose samples are arrays, for engines and tensor services."""

    @property
    def model(self) -> ModelFile | None:
        """None where the backend brings the model: there is no single ONNX file."""

    @property
    def dataset(self) -> Dataset: ...

    @property
    def blank(self) -> Array:
        """One well-formed answer without meaning: what the ``null`` engine gives."""

    def respond(self, outputs: Sequence[Array], indices: Sequence[int]) -> Responses:
        """Turn raw outputs into answers.

        Raises ``ValueError`` for a wrong shape, too few rows, NaN or infinity, and
        says found and required.
        """


Infer = Callable[[Batch, int], Sequence[Array]]
"""(inputs, rows) -> the model's outputs, each with so many rows: ``Engine.infer``."""


@runtime_checkable
class RunsModel(Protocol):
    """A tensor workload whose samples take several runs of the model.

    The windows of a volume, the steps of a decoder. ``gather`` and ``respond`` are not
    called then; outputs that stay on the device are fetched after each run.
    """

    def run_model(self, infer: Infer, indices: Sequence[int]) -> Responses:
        """Return the answers to a batch, from as many runs as it takes.

        Raises ``ValueError`` as ``respond`` does.
        """


@runtime_checkable
class ScoresEach(Protocol):
    """A workload whose metric is the mean over its questions, each scored alone."""

    def score_each(self, answers: Mapping[int, bytes]) -> NDArray[np.float64]:
        """Return the score of each question in percent, as ``score`` counts it.

        An answer that is not there scores 0. Raises ``ValueError`` as ``score`` does.
        """


@runtime_checkable
class CountsUnits(Protocol):
    """A workload whose samples are groups of what a batch counts: a recommender's are
    groups of pairs.
    """

    def in_units(self) -> TensorWorkload:
        """Return the same model and data with a sample for each unit."""


@runtime_checkable
class ShowsAnswers(Protocol):
    """A workload some of whose answers are to be looked at: pictures, films."""

    def show(
        self, answers: Mapping[int, bytes], samples: Sequence[int]
    ) -> Mapping[str, bytes]:
        """Return file name -> content, for those of the samples that it has."""


@runtime_checkable
class PromptWorkload(Workload, Protocol):
    """A workload whose samples are prompts, for services: texts or tokens come out."""

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
    def sampling(self) -> Mapping[str, Any]:
        """Fields that the official rules put into every request: ``min_tokens`` …"""

    @property
    def unjudged(self) -> Mapping[str, str]:
        """Metric of the round -> why this suite cannot compute it; it never passes."""

    def during(self, mode: Mode) -> PromptWorkload:
        """Return what a mode runs on: gpt-oss asks other questions for accuracy."""

    def prompt(self, index: int) -> Prompt:
        """Return a sample's request."""

    def encode(self, answer: Answer) -> bytes:
        """Return what LoadGen keeps of an answer: int32 token ids when the service
        tells them, else the text as UTF-8 and the number of its tokens.
        """


@runtime_checkable
class RaggedDataset(Dataset, Protocol):
    """A dataset whose samples are runs of rows of the same arrays.

    A batch has its samples' rows one after another, without padding. An engine can copy
    them to where it wants them, instead of a copy of what ``gather`` has copied.
    """

    @property
    def arrays(self) -> Mapping[str, Array]:
        """Input name -> the array of all rows; the same mapping at each call. Empty
        where they are not whole in memory.
        """

    def find_spans(self, indices: Sequence[int]) -> NDArray[np.int64]:
        """Return the rows of a batch, neighbors as one: [spans, (first, last + 1)]."""

    def copy_spans(self, spans: NDArray[np.int64], out: Mapping[str, Array]) -> None:
        """Write these rows into the first ones of each input's array."""


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


def read_each(dataset: Dataset) -> Iterator[dict[str, Array]]:
    """Yield every sample as a batch of its own; one at a time is in memory."""
    for index in range(dataset.total):
        dataset.load([index])
        batch = dataset.gather([index])
        dataset.unload([index])
        yield batch


def input_types(dataset: Dataset) -> tuple[str, ...]:
    """Return the types of a sample's arrays as submissions name them: ``fp32``."""
    dataset.load([0])
    found = {str(array.dtype) for array in dataset.gather([0]).values()}
    dataset.unload([0])
    return tuple(sorted(name.replace("float", "fp") for name in found))


def model_file(
    workload: TensorWorkload, engine: str, *, has_lookup: bool = False
) -> ModelFile:
    """Return the workload's ONNX file; ``BuildFailed`` for one that has none.

    ``has_lookup``: the engine looks up embedding tables.
    """
    if workload.model is None:
        raise BuildFailed(
            f"{workload.title} brings no single ONNX file, but the engine {engine} "
            "builds from one; choose an engine that runs this benchmark's model with "
            "--mlperf-engine"
        )
    if workload.model.embedding and not has_lookup:
        raise BuildFailed(
            f"{workload.title} has embedding tables beside its ONNX file, but the "
            f"engine {engine} looks none up; choose --mlperf-engine onnxruntime"
        )
    return workload.model
