"""Neighbors are sampled without repetition, within the fan-out, whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.api.samples import Array
from pytest_mlperf.benchmarks.graph.hetero_graph import HeteroGraph
from pytest_mlperf.benchmarks.graph.hetero_graph import Relation
from pytest_mlperf.benchmarks.graph.hetero_graph import compress_edges
from pytest_mlperf.benchmarks.graph.rgat_model import Attention
from pytest_mlperf.benchmarks.graph.rgat_model import RgatWeights
from pytest_mlperf.benchmarks.graph.rgat_model import write_rgat
from pytest_mlperf.benchmarks.graph.sampling import NeighborSampler
from pytest_mlperf.benchmarks.graph.sampling import mix
from pytest_mlperf.benchmarks.graph.sampling import pick_places

COUNTS = {"paper": 30, "author": 20}
RELATIONS = (
    ("paper", "cites", "paper"),
    ("author", "writes", "paper"),
    ("paper", "rev_writes", "author"),
)
WIDTH, HEADS, UNITS, CLASSES = 6, 2, 3, 4


def make_graph() -> tuple[HeteroGraph, dict[str, Array]]:
    """Return a random graph and relation -> which pairs have an edge."""
    random = np.random.default_rng(1)
    features = {
        kind: random.standard_normal((count, WIDTH)).astype(np.float32)
        for kind, count in COUNTS.items()
    }
    relations, pairs = [], {}
    for source, name, target in RELATIONS:
        has_edge = random.random((COUNTS[source], COUNTS[target])) < 0.2
        pairs[name] = has_edge
        sources, targets = np.nonzero(has_edge)
        edges = compress_edges(sources, targets, COUNTS[target])
        relations.append(Relation(source, name, target, *edges))
    return HeteroGraph(features, tuple(relations)), pairs


GRAPH, PAIRS = make_graph()


@settings(max_examples=50)
@given(
    degrees=st.lists(st.integers(1, 60), min_size=1, max_size=20),
    most=st.integers(1, 15),
    seed=st.integers(0, 2**63),
)
def test_places_are_different_and_below_the_degree(
    degrees: list[int], most: int, seed: int
) -> None:
    """As many as there are, at most the fan-out."""
    seeds = mix(np.arange(len(degrees), dtype=np.uint64) + np.uint64(seed))
    for degree, row in zip(
        degrees, pick_places(np.array(degrees), most, seeds), strict=True
    ):
        chosen = row[row >= 0].tolist()

        assert len(set(chosen)) == len(chosen) == min(degree, most)
        assert max(chosen) < degree


def test_every_place_is_as_likely_as_any_other() -> None:
    """3 of 10, ten thousand times: 3,000 each, give or take five deviations."""
    seeds = mix(np.arange(10_000, dtype=np.uint64))
    places = pick_places(np.full(10_000, 10), 3, seeds)
    counts = np.bincount(places.ravel(), minlength=10)

    assert np.abs(counts - 3000).max() < 5 * np.sqrt(10_000 * 0.3 * 0.7)


def test_sampled_edges_are_edges_of_the_graph_within_the_fan_out() -> None:
    """The first hop takes up to the first number of each relation."""
    sampler = NeighborSampler(GRAPH, (4, 2))
    nodes = np.arange(5)
    inputs = sampler.sample(nodes, nodes, "paper")
    features = {kind: values.tolist() for kind, values in GRAPH.features.items()}
    rows = inputs["features"].tolist()
    for source, name, target in RELATIONS:
        pairs = zip(inputs[f"{name}.targets"], inputs[f"{name}.neighbors"], strict=True)
        for row, neighbors in pairs:
            to = features[target].index(rows[row])
            found = [features[source].index(rows[n]) for n in neighbors if n >= 0]
            most = 4 if row < 5 else 2

            assert all(PAIRS[name][one, to] for one in found)
            assert len(found) == min(most, int(PAIRS[name][:, to].sum()))


def compute_scores(weights: RgatWeights) -> Array:
    """Compute the model on the whole graph, edge by edge, in float64."""
    x = {kind: values.astype(float) for kind, values in GRAPH.features.items()}
    for number, layer in enumerate(weights.layers):
        out = {k: np.zeros((n, HEADS * UNITS)) for k, n in COUNTS.items()}
        for source, name, target in RELATIONS:
            one = layer[name]
            h = {k: (x[k] @ one.weight).reshape(-1, HEADS, UNITS) for k in x}
            for to in range(COUNTS[target]):
                near = np.flatnonzero(PAIRS[name][:, to])
                if len(near):
                    e = (h[source][near] * one.source).sum(-1)
                    e = e + (h[target][to] * one.target).sum(-1)
                    e = np.exp(np.where(e > 0, e, 0.2 * e))
                    share = (e / e.sum(axis=0))[..., None]
                    out[target][to] += (share * h[source][near]).sum(axis=0).ravel()
                out[target][to] += one.bias
        last = number == len(weights.layers) - 1
        x = {k: v if last else np.where(v > 0, v, 0.01 * v) for k, v in out.items()}
    return np.asarray(x["paper"] @ weights.weight + weights.bias)


def draw_weights() -> RgatWeights:
    random = np.random.default_rng(2)

    def draw(*shape: int) -> Array:
        return random.standard_normal(shape).astype(np.float32)

    size = HEADS * UNITS
    layers = tuple(
        {
            name: Attention(
                draw(into, size), draw(HEADS, UNITS), draw(HEADS, UNITS), draw(size)
            )
            for _, name, _ in RELATIONS
        }
        for into in (WIDTH, size)
    )
    return RgatWeights(layers, draw(size, CLASSES), draw(CLASSES))


def test_the_graph_computes_what_the_formula_says_and_no_batch_changes_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """With all neighbors: the model on the whole graph. Alone as together."""
    ort = pytest.importorskip("onnxruntime")
    weights = draw_weights()
    path = tmp_path_factory.mktemp("rgat") / "model.onnx"
    write_rgat(path, weights)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(fanouts: tuple[int, ...], nodes: Array) -> Array:
        inputs = NeighborSampler(GRAPH, fanouts).sample(nodes, nodes, "paper")
        return np.asarray(session.run(["scores"], inputs)[0])

    nodes = np.arange(COUNTS["paper"])
    alone = np.concatenate([run((3, 2), nodes[i : i + 1]) for i in nodes])

    assert run((99, 99), nodes) == pytest.approx(compute_scores(weights), abs=1e-3)
    assert run((3, 2), nodes) == pytest.approx(alone, abs=1e-4)
    assert not np.allclose(run((3, 2), nodes), run((99, 99), nodes), atol=1e-2)
