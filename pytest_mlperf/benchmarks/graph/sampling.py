"""Neighbor sampling: the part of a graph that a node's class is computed from.

As the reference samples (mlcommons/inference, graph/R-GAT, pyg_sampler.py): hop by hop,
for each relation up to a number of a node's neighbors without repetition; a node is
sampled from once, at the hop that reaches it first, and every layer uses all edges.
Which neighbors they are depends on the sample and the node alone, so that an answer
does not change with the batch that it is computed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.benchmarks.graph.hetero_graph import HeteroGraph

Ints = NDArray[np.int64]
NODE_BITS = 40
TYPE_BITS = 4
ABSENT, BIAS, FIRST = 0, 1, 2
"""Rows of a relation's table: no such target, a target without edges, targets."""


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return well mixed 64 bits of each value (splitmix64)."""
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(mixed ^ (mixed >> np.uint64(31)), np.uint64)


def pick_places(degrees: Ints, most: int, seeds: NDArray[np.uint64]) -> Ints:
    """Return up to ``most`` different places below each degree; -1 fills the rows.

    All of them where there are no more; else drawn evenly (Floyd's algorithm).
    """
    places = np.tile(np.arange(most), (len(degrees), 1))
    many = np.flatnonzero(degrees > most)
    chosen = np.full((len(many), most), -1, np.int64)
    for number in range(most):
        last = degrees[many] - most + number
        drawn = mix(seeds[many] + np.uint64(number)) % (last + 1).astype(np.uint64)
        drawn = drawn.astype(np.int64)
        repeated = (chosen == drawn[:, None]).any(axis=1)
        chosen[:, number] = np.where(repeated, last, drawn)
    places[many] = chosen
    places[places >= degrees[:, None]] = -1
    return places


@dataclass(slots=True)
class RelationPart:
    """The sampled edges of one relation."""

    targets: list[Ints] = field(default_factory=list)
    """Rows that edges go to, hop by hop."""
    neighbors: list[Ints] = field(default_factory=list)
    """Keys of the nodes that they come from [targets, fan-out]; -1 fills the rows."""


class NeighborSampler:
    """Samples the subgraphs of a batch; each sample has nodes of its own."""

    def __init__(self, graph: HeteroGraph, fanouts: Sequence[int]) -> None:
        self.graph = graph
        self.fanouts = tuple(fanouts)
        """Neighbors a relation, from the sample outward: 15, 10, 5."""
        self.types = {kind: code for code, kind in enumerate(graph.features)}

    def sample(self, samples: Ints, nodes: Ints, kind: str) -> dict[str, Array]:
        """Return the inputs of the model for a batch of nodes of one type.

        ``features`` float32 [rows, width]; ``seeds`` int64 [batch]; and for each
        relation ``.targets`` int64 [n], ``.neighbors`` int64 [n, most], rows of
        ``features`` or -1, and ``.rows`` int64 [rows], which line of its results each
        row adds.
        """
        slots = np.arange(len(nodes), dtype=np.int64)
        known = self._make_keys(slots, kind, nodes)
        parts = [RelationPart() for _ in self.graph.relations]
        frontier = np.arange(len(known))
        for fanout in self.fanouts:
            reached = [
                self._expand(number, part, known, frontier, fanout, samples)
                for number, part in enumerate(parts)
            ]
            fresh = np.setdiff1d(np.concatenate(reached), known)
            fresh = fresh[fresh >= 0]
            frontier = np.arange(len(known), len(known) + len(fresh))
            known = np.concatenate([known, fresh])
        return self._make_inputs(known, parts, slots)

    def _make_keys(self, slots: Ints, kind: str, nodes: Ints) -> Ints:
        code = (slots << TYPE_BITS) | self.types[kind]
        return np.asarray((code << NODE_BITS) | nodes, np.int64)

    def _expand(
        self,
        number: int,
        part: RelationPart,
        known: Ints,
        frontier: Ints,
        fanout: int,
        samples: Ints,
    ) -> Ints:
        """Sample one relation's edges to the frontier; return the keys reached."""
        relation = self.graph.relations[number]
        code = self.types[relation.target]
        keys = known[frontier]
        chosen = ((keys >> NODE_BITS) & ((1 << TYPE_BITS) - 1)) == code
        rows, keys = frontier[chosen], keys[chosen]
        nodes, slots = keys & ((1 << NODE_BITS) - 1), keys >> (NODE_BITS + TYPE_BITS)
        first = np.asarray(relation.starts[nodes], np.int64)
        degrees = np.asarray(relation.starts[nodes + 1], np.int64) - first
        has_edges = degrees > 0
        rows, nodes, slots = rows[has_edges], nodes[has_edges], slots[has_edges]
        first, degrees = first[has_edges], degrees[has_edges]
        seeds = mix(mix(samples[slots].astype(np.uint64)) ^ nodes.astype(np.uint64))
        places = pick_places(degrees, fanout, mix(seeds + np.uint64(number)))
        sources = relation.sources[first[:, None] + np.maximum(places, 0)]
        found = self._make_keys(
            slots[:, None], relation.source, sources.astype(np.int64)
        )
        found[places < 0] = -1
        part.targets.append(rows)
        part.neighbors.append(found)
        return found.reshape(-1)

    def _make_inputs(
        self, known: Ints, parts: Sequence[RelationPart], slots: Ints
    ) -> dict[str, Array]:
        order = np.argsort(known)
        types = (known >> NODE_BITS) & ((1 << TYPE_BITS) - 1)
        inputs: dict[str, Array] = {"features": self._fetch(known, types)}
        inputs["seeds"] = slots
        most = max(self.fanouts)
        for relation, part in zip(self.graph.relations, parts, strict=True):
            targets = np.concatenate(part.targets)
            keys = np.full((len(targets), most), -1, np.int64)
            line = 0
            for block in part.neighbors:
                keys[line : line + len(block), : block.shape[1]] = block
                line += len(block)
            places = order[np.searchsorted(known, np.maximum(keys, known[order[0]]),
                                           sorter=order)]  # fmt: skip
            rows = np.where(types == self.types[relation.target], BIAS, ABSENT)
            rows[targets] = FIRST + np.arange(len(targets))
            inputs[f"{relation.name}.targets"] = targets
            inputs[f"{relation.name}.neighbors"] = np.where(keys < 0, -1, places)
            inputs[f"{relation.name}.rows"] = rows.astype(np.int64)
        return inputs

    def _fetch(self, known: Ints, types: Ints) -> Array:
        """Return the features of nodes, float32 [rows, width]."""
        nodes = known & ((1 << NODE_BITS) - 1)
        width = next(iter(self.graph.features.values())).shape[1]
        rows = np.empty((len(known), width), np.float32)
        for kind, code in self.types.items():
            chosen = types == code
            rows[chosen] = self.graph.features[kind][nodes[chosen]]
        return rows
