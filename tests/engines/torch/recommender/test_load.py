"""The dense part by its weights' names, against the graph itself."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.benchmarks.recommender.embedded import open_embedded
from pytest_mlperf.embedding.bare import sum_rows
from pytest_mlperf.engines.torch.recommender.stream import check_options
from pytest_mlperf.engines.torch.recommender.stream import choose_room
from pytest_mlperf.engines.torch.recommender.stream import choose_sizes
from pytest_mlperf.engines.torch.recommender.stream import find_room


def test_cross_layers_by_name_compute_what_the_graph_computes() -> None:
    """DCNv2; the dot interaction is a kernel and tested in the interpreter."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("needs torch")
    import torch

    from pytest_mlperf.engines.torch import verify
    from pytest_mlperf.engines.torch.onnx_graph import OnnxGraph
    from pytest_mlperf.engines.torch.onnx_graph import Program
    from pytest_mlperf.engines.torch.onnx_graph import read_graph
    from pytest_mlperf.engines.torch.recommender.load import make_network

    workload, cpu = open_embedded("dlrm-v2"), torch.device("cpu")
    model, batch = workload.model, workload.dataset.gather([0])
    tables = model.embedding
    assert tables is not None
    rows = np.load(tables.path).astype(np.float32)
    vectors = sum_rows(rows, tables, batch.pop(tables.keys))
    graph = read_graph(model.path, model.inputs, model.outputs)
    program = Program(graph, cpu, torch.float32)
    expected = verify.run_program(program, {**batch, tables.vectors: vectors})
    network = make_network(graph, len(tables.sizes), cpu, torch.float32)
    features = network.make_features(len(vectors), cpu)
    features[:, 1:] = torch.from_numpy(vectors)

    scores = network.run(torch.from_numpy(batch["dense"]), features).numpy()

    error, same = verify.measure_error(expected, [scores], None)
    assert (error < 1e-5, same) == (True, 1.0)
    with pytest.raises(BuildFailed, match=r"no weights bottom\.0\.weight"):
        make_network(OnnxGraph([], {}, (), ()), 11, cpu, torch.float32)


@pytest.mark.parametrize(
    ("pairs", "room"), [(1, 128), (128, 128), (129, 192), (193, 256), (65_000, 65_536)]
)
def test_a_batch_runs_in_the_smallest_graph_that_holds_it(
    pairs: int, room: int
) -> None:
    """Powers of two, and half of the next one on top."""
    assert choose_room(pairs) == room


def test_a_server_run_has_its_graphs_recorded_before_it() -> None:
    """Sizes that lead to about every room; then the smallest that holds a batch."""
    sizes = choose_sizes(158)
    rooms = {choose_room(270 * size) for size in sizes}

    assert sizes == (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 158)
    assert len(rooms) == 14
    assert find_room(rooms, 43_000) == 49_152
    assert find_room(rooms, 50_000) == 0  # recorded when it comes


def test_a_threshold_that_would_answer_with_defaults_is_refused() -> None:
    """The device reads missing rows itself: the option would do nothing."""
    check_options({"gpucacheper": "0.2"})
    with pytest.raises(BuildFailed, match="hit_rate_threshold is below 1"):
        check_options({"hit_rate_threshold": "0.9"})
