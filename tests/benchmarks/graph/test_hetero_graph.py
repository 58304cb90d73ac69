"""A graph whose edges have both ends, and one whose edges have not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pytest_mlperf.benchmarks.graph.hetero_graph import HeteroGraph
from pytest_mlperf.benchmarks.graph.hetero_graph import Relation
from pytest_mlperf.benchmarks.graph.hetero_graph import check_graph
from pytest_mlperf.benchmarks.graph.hetero_graph import compress_edges

WRITES = Relation("author", "writes", "paper", np.array([0, 2, 3]), np.array([0, 1, 2]))
FEATURES = {"author": np.zeros((3, 4)), "paper": np.zeros((2, 4))}


def graph(relation: Relation) -> HeteroGraph:
    return HeteroGraph(FEATURES, (relation,))


def test_edges_are_grouped_by_the_node_that_they_go_to() -> None:
    """In any order; nodes without an edge have an empty group."""
    starts, sources = compress_edges(
        np.array([5, 6, 7, 8]), np.array([2, 0, 2, 0]), targets=4
    )

    assert starts.tolist() == [0, 2, 2, 4, 4]
    assert sources.tolist() == [6, 8, 5, 7]


@pytest.mark.parametrize("node", [3, -1])
def test_a_dangling_edge_is_named_with_both_ends(node: int) -> None:
    """It would take the features of another node, or of none."""
    check_graph(graph(WRITES))
    broken = replace(WRITES, sources=np.array([0, 1, node]))

    with pytest.raises(
        ValueError,
        match=rf"edge 2 of the relation writes, to paper 1, comes from author {node},"
        " but there are 3 nodes",
    ):
        check_graph(graph(broken))


@pytest.mark.parametrize("starts", [[0, 3], [0, 2, 4], [1, 2, 3], [0, 4, 3]])
def test_groups_that_do_not_cover_the_edges_are_refused(starts: list[int]) -> None:
    """One for each target, in order, from the first edge to the last."""
    with pytest.raises(ValueError, match=r"should have one group for each of 2 nodes"):
        check_graph(graph(replace(WRITES, starts=np.array(starts))))


def test_a_type_without_features_is_named() -> None:
    """Its nodes could not be looked up."""
    with pytest.raises(ValueError, match="nodes of the type 'venue'"):
        check_graph(graph(replace(WRITES, source="venue")))
