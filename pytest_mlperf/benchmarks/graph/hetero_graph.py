"""A graph with node types and relations, and the check that every edge has its ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pytest_mlperf.api.samples import Array

CHUNK = 1 << 26
"""Edges that are looked at in one go; the official graph has 11e9."""


@dataclass(frozen=True, slots=True)
class Relation:
    """Edges of one kind, by the node that they go to (compressed sparse columns)."""

    source: str
    name: str
    target: str
    starts: Array
    """int64 [targets + 1]: where the edges of each target begin."""
    sources: Array
    """Integers [edges]: the node that each edge comes from."""


@dataclass(frozen=True, slots=True)
class HeteroGraph:
    """Nodes of several types, each with its features, and their relations."""

    features: Mapping[str, Array]
    """Node type -> [nodes, width]; may be a memory map."""
    relations: tuple[Relation, ...]

    def count_nodes(self, kind: str) -> int:
        return len(self.features[kind])


def check_graph(graph: HeteroGraph) -> None:
    """Raise ``ValueError`` that names a relation whose edges lack an end."""
    for relation in graph.relations:
        for kind in (relation.source, relation.target):
            if kind not in graph.features:
                raise ValueError(
                    f"the relation {relation.name} has nodes of the type {kind!r}, but"
                    f" the types with features are {', '.join(sorted(graph.features))}"
                )
        _check_starts(relation, graph.count_nodes(relation.target))
        _check_sources(relation, graph.count_nodes(relation.source))


def _check_starts(relation: Relation, targets: int) -> None:
    starts, edges = relation.starts, len(relation.sources)
    if (
        len(starts) != targets + 1
        or starts[0] != 0
        or starts[-1] != edges
        or (np.diff(starts) < 0).any()
    ):
        last = int(starts[-1]) if len(starts) else 0
        raise ValueError(
            f"the relation {relation.name} has {edges:,} edges in {len(starts) - 1:,}"
            f" groups up to {last:,}, but should have one group for each of"
            f" {targets:,} nodes of the type {relation.target}, up to the last edge;"
            " make the graph again"
        )


def _check_sources(relation: Relation, nodes: int) -> None:
    for first in range(0, len(relation.sources), CHUNK):
        part = relation.sources[first : first + CHUNK]
        wrong = np.flatnonzero((part < 0) | (part >= nodes))
        if not len(wrong):
            continue
        edge = first + int(wrong[0])
        target = int(np.searchsorted(relation.starts, edge, "right")) - 1
        raise ValueError(
            f"edge {edge:,} of the relation {relation.name}, to {relation.target}"
            f" {target:,}, comes from {relation.source} {int(part[wrong[0]]):,}, but"
            f" there are {nodes:,} nodes of that type: a dangling edge. Make the graph"
            " again from its files"
        )


def compress_edges(source: Array, target: Array, targets: int) -> tuple[Array, Array]:
    """Return ``starts`` and ``sources`` of edges that come in any order."""
    counts = np.bincount(target, minlength=targets)
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts, source[np.argsort(target, kind="stable")]
