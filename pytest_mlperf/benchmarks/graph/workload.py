"""The node classification workload: nodes in, the class of each out, accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Responses
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks.graph.hetero_graph import HeteroGraph
from pytest_mlperf.benchmarks.graph.sampling import NeighborSampler

Ints = NDArray[np.int64]


class NodeDataset:
    """Nodes whose class is asked for; a batch is the sampled part of the graph.

    The graph is in memory or mapped; sampling is part of what is timed, as in the
    reference.
    """

    lengths: NDArray[np.int32] | None = None

    def __init__(
        self, graph: HeteroGraph, kind: str, nodes: Ints, fanouts: Sequence[int]
    ) -> None:
        self.nodes, self._kind = nodes, kind
        self._sampler = NeighborSampler(graph, fanouts)

    @property
    def total(self) -> int:
        return len(self.nodes)

    @property
    def performance_count(self) -> int:
        return self.total

    def load(self, indices: Sequence[int]) -> None:
        """Nothing to do: the graph is there whole."""

    def unload(self, indices: Sequence[int]) -> None:
        """Nothing to do: any sample needs any part of the graph."""

    def gather(self, indices: Sequence[int]) -> dict[str, Array]:
        samples = np.asarray(indices, np.int64)
        return self._sampler.sample(samples, self.nodes[samples], self._kind)


@dataclass(frozen=True, slots=True)
class NodeWorkload:
    """A graph network, and labeled nodes of a graph."""

    kind: str
    title: str
    digest: str
    model: ModelFile
    dataset: NodeDataset
    reference: Mapping[str, float]
    labels: Ints
    """Class of each sample."""
    classes: int

    @property
    def blank(self) -> Array:
        return np.zeros(1, np.int64)

    def respond(self, outputs: Sequence[Array], indices: Sequence[int]) -> Responses:
        """Return the winning class of each node: int64 [batch, 1]."""
        scores = outputs[0]
        required = (len(indices), self.classes)
        if scores.shape != required:
            raise ValueError(
                f"output {self.model.outputs[0]} has the shape {list(scores.shape)},"
                f" but should be {list(required)}: the scores of each class for each"
                " node of the batch; check how the engine batches"
            )
        finite = np.isfinite(scores).all(axis=1)
        if not finite.all():
            first = indices[int(np.flatnonzero(~finite)[0])]
            raise ValueError(
                f"found NaN or infinity in {np.count_nonzero(~finite)} of {len(scores)}"
                f" answers, but scores should be finite [first: sample {first}]; check"
                " the engine's precision"
            )
        return Responses(scores.argmax(axis=1).astype(np.int64).reshape(-1, 1))

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]:
        """Return the share of right classes in percent; a lost answer is wrong.

        Raises ``ValueError`` for an unknown sample or an answer that is not one int64.
        """
        return {"acc": float(self.score_each(answers).mean())}

    def score_each(self, answers: Mapping[int, bytes]) -> NDArray[np.float64]:
        """Return 100 for each node whose class was found, 0 for the others.

        Raises ``ValueError`` as ``score`` does.
        """
        scores = np.zeros(len(self.labels))
        for index, answer in answers.items():
            if len(answer) != 8 or not 0 <= index < len(self.labels):
                raise ValueError(
                    f"found an answer of {len(answer)} bytes for sample {index}, but"
                    " should be 8 (one int64) for a sample of 0 to"
                    f" {len(self.labels) - 1} [mlperf_log_accuracy.json]. Run the"
                    " accuracy mode again."
                )
            found = int.from_bytes(answer, "little", signed=True)
            scores[index] = 100.0 * (found == int(self.labels[index]))
        return scores

    def accuracy_text(self, metrics: Mapping[str, float]) -> str:
        """Return the line as accuracy_igbh.py writes it."""
        total = len(self.labels)
        good = round(metrics["acc"] * total / 100)
        return f"accuracy={metrics['acc']:.3f}%, good={good}, total={total}"
