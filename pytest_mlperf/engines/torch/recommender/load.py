"""Puts a recommender on the device: rows pinned, cache planned, weights by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from pytest_mlperf.api.embedding import EmbeddingTables
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.embedding.bare import sum_rows
from pytest_mlperf.embedding.options import read_options
from pytest_mlperf.engines.torch import verify
from pytest_mlperf.engines.torch.onnx_graph import OnnxGraph
from pytest_mlperf.engines.torch.onnx_graph import Program
from pytest_mlperf.engines.torch.recommender.dense import DenseNetwork
from pytest_mlperf.engines.torch.recommender.device_cache import DeviceCache
from pytest_mlperf.engines.torch.recommender.device_cache import plan_cache
from pytest_mlperf.engines.torch.recommender.host_rows import load_rows
from pytest_mlperf.engines.torch.recommender.stream import RecommenderModel
from pytest_mlperf.engines.torch.recommender.stream import check_options

NEEDED = ("bottom.0.weight", "bottom.0.bias", "top.0.weight", "top.0.bias")


def load_recommender(
    request: BuildRequest, tables: EmbeddingTables, graph: OnnxGraph
) -> RecommenderModel:
    """Return the model on the device, once it agrees with the graph in fp32.

    Raises ``BuildFailed`` for a graph whose weights have other names, or a precision or
    an option that this path lacks.
    """
    import torch

    check_options(request.options)
    chosen = read_options(request.options)
    kinds = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
    dtype = kinds.get(request.precision)
    if dtype is None:
        raise BuildFailed(
            f"the engine torch has no {request.precision} for recommenders, but "
            f"{', '.join(kinds)}: choose with --mlperf-precision"
        )
    device = torch.device("cuda")
    network = make_network(graph, len(tables.sizes), device, dtype)
    request.beat()
    rows = load_rows(tables, dtype)
    request.beat()
    plan = plan_cache(tables.sizes, tables.hotness, chosen.gpucacheper)
    cache = DeviceCache(plan, rows.tensor, device, chosen.policy, rows.address)
    model = RecommenderModel(tables, cache, network, rows)
    model.facts["path"] = "fused lookup, recommender"
    samples = verify.gather_samples(request.workload)
    reference = _run_reference(graph, tables, samples)
    verify.check_agreement(model, samples, reference, request.precision)
    cache.reset_counts()
    model.pairs = 0
    return model


def make_network(
    graph: OnnxGraph, tables: int, device: Any, dtype: Any
) -> DenseNetwork:
    """Return the dense part of a graph by its weights' names."""
    absent = [name for name in NEEDED if name not in graph.constants]
    if absent:
        raise BuildFailed(
            f"the graph has no weights {', '.join(absent)}, by which the engine torch "
            "knows a recommender; name them as benchmarks/recommender/graphs.py does, "
            "or choose --mlperf-engine onnxruntime"
        )
    parts = ("bottom.", "top.", "cross.")
    weights = {k: v for k, v in graph.constants.items() if k.startswith(parts)}
    return DenseNetwork(weights, tables, device, dtype)


def _run_reference(graph: OnnxGraph, tables: EmbeddingTables, batch: Any) -> list[Any]:
    import torch

    feeds = dict(batch)
    rows = np.load(tables.path, mmap_mode="r")
    vectors = sum_rows(rows, tables, feeds.pop(tables.keys)).astype(np.float32)
    program = Program(graph, torch.device("cuda"), torch.float32)
    return verify.run_program(program, {**feeds, tables.vectors: vectors})
