"""A recommender on the device: one cache, and a stream for each batch in flight."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import numpy as np

from pytest_mlperf.api.embedding import EmbeddingTables
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.api.workload import RaggedDataset
from pytest_mlperf.embedding.options import read_options
from pytest_mlperf.engines.torch.cuda_graph import RECORDING
from pytest_mlperf.engines.torch.cuda_graph import record_graph
from pytest_mlperf.engines.torch.host_fetch import REGISTERED
from pytest_mlperf.engines.torch.host_fetch import SPANS
from pytest_mlperf.engines.torch.recommender.dense import DenseNetwork
from pytest_mlperf.engines.torch.recommender.device_cache import DeviceCache
from pytest_mlperf.engines.torch.timeline import BatchEvents

SMALLEST = 128
"""Pairs of the smallest recorded graph; the next ones are half and twice as large."""


def choose_room(pairs: int) -> int:
    """Return the pairs of the recorded graph that holds a batch."""
    room = SMALLEST
    while room < pairs:
        if room * 3 // 2 >= pairs:
            return room * 3 // 2
        room *= 2
    return room


def find_room(recorded: Iterable[int], pairs: int) -> int:
    """Return the smallest recorded graph that holds a batch; 0 where none does."""
    return min((room for room in recorded if room >= pairs), default=0)


def choose_sizes(batch: int) -> tuple[int, ...]:
    """Return batches in samples, up to ``batch``, each for about the next room."""
    sizes, size = [], 1
    while size < batch:
        sizes += [size, size * 3 // 2] if size > 1 else [size]
        size *= 2
    return (*(size for size in sizes if size < batch), batch)


def check_options(options: Mapping[str, str]) -> None:
    """Raise ``BuildFailed`` for what this engine does otherwise."""
    if read_options(options).hit_rate_threshold < 1:
        raise BuildFailed(
            "hit_rate_threshold is below 1, but the engine torch never answers with "
            "the default vector: its lookup reads missing rows from host memory "
            "itself; omit the option"
        )
    for name in ("database", "host_share", "row_precision", "numa"):
        if options.get(name, "0") != "0":
            raise BuildFailed(
                f"{name}={options[name]}, but the engine torch keeps all rows in "
                "pinned host memory, in the precision of --mlperf-precision; omit the "
                "option, or choose --mlperf-engine onnxruntime"
            )


@dataclass(slots=True)
class RecommenderModel:
    """Cache and dense part on the device, and what its streams share."""

    tables: EmbeddingTables
    cache: DeviceCache
    network: DenseNetwork
    host: Any
    """The pinned rows, or None where no device reads them."""
    facts: dict[str, str] = field(default_factory=dict)
    pairs: int = 0
    """Looked up so far, room that was left empty included."""
    compute: Any = None
    turn: Any = field(default_factory=threading.Lock)

    def open(self) -> RecommenderStream:
        return RecommenderStream(self)

    def describe(self) -> dict[str, str]:
        """Return what was looked up where, for people."""
        plan, counts = self.cache.plan, self.cache.count_rows(self.pairs)
        policy = "lru" if self.cache.is_lru else "lfu"
        return {
            "embedding cache": f"{plan.slots:,} of {sum(plan.sizes):,} rows on the "
            f"device ({policy}; {plan.resident_rows:,} of whole tables), every lookup "
            f"reads what is missing; hit rate {counts.hit_rate:.2%} of "
            f"{counts.keys:,} keys, {counts.cached_hit_rate:.2%} of those that can "
            f"miss, {counts.inserts:,} inserts, {counts.evictions:,} evictions",
            "embedding host memory": f"{counts.misses:,} rows read by the device",
        }


@dataclass(slots=True)
class PairBuffers:
    """Memory of one graph: pinned in, on the device, pinned out."""

    staged: dict[str, Any]
    inputs: dict[str, Any]
    features: Any
    """Held for the graphs: what they use, and is not of their own pool, is freed when
    another graph is recorded."""
    scores: Any
    statistics: Any
    graph: Any
    insert: Any


class RecommenderStream:
    """Copies of one batch, and its turn on the device; used from one thread."""

    answers = False

    def __init__(self, model: RecommenderModel) -> None:
        import torch

        self.model, self._torch = model, torch
        with model.turn:
            model.compute = model.compute or torch.cuda.Stream()
        self.stream = torch.cuda.Stream()
        self.events = BatchEvents()
        self.timeline = self.events.timeline
        self._buffers: dict[int, PairBuffers] = {}
        self._pool: Any = None
        """Of the graphs of all rooms: only one of them runs at a time."""
        self._dataset: RaggedDataset | None = None

    @property
    def facts(self) -> Mapping[str, str]:
        return self.model.describe()

    def graph_sizes(self, batch: int) -> Sequence[int]:
        """Return the sizes to warm up: a graph that is recorded in a Server run makes
        everything wait.
        """
        return choose_sizes(batch)

    def gather_from(self, dataset: Dataset) -> Callable[[Sequence[int]], Batch] | None:
        """Let the device fetch pairs, or copy them once, into pinned memory.

        None for a dataset whose samples are no runs of rows.
        """
        if not isinstance(dataset, RaggedDataset):
            return None
        self._dataset = dataset
        if dataset.arrays:
            REGISTERED.register(dataset.arrays)
        return lambda indices: {SPANS: dataset.find_spans(indices)}

    def infer(self, batch: Batch, size: int) -> list[Array]:
        """Return a probability for each pair: float32 [pairs].

        Raises ``ValueError`` for a key outside its table.
        """
        torch, model = self._torch, self.model
        spans = batch.get(SPANS)
        if spans is None:
            pairs = len(next(iter(batch.values())))
        else:
            pairs = int((spans[:, 1] - spans[:, 0]).sum())
        room = find_room(self._buffers, pairs)
        if not room:
            room = choose_room(pairs)
            with RECORDING, model.turn:
                self._buffers[room] = self._record(self._find_sample(batch), room)
        buffers = self._buffers[room]
        is_fetched = self._stage(batch, buffers, pairs)
        with torch.cuda.stream(self.stream):
            self.events.start()
            if is_fetched:
                REGISTERED.fetch_spans(
                    batch[SPANS], buffers.inputs, self.stream.cuda_stream
                )
            else:
                for name, tensor in buffers.inputs.items():
                    tensor.copy_(buffers.staged[name], non_blocking=True)
            self.events.mark(1)
            with model.turn:
                model.pairs += room
                model.compute.wait_event(self.events.events[1])
                with torch.cuda.stream(model.compute):
                    buffers.graph.replay()
                    self.events.mark(2)
                    buffers.insert.replay()  # behind the answer
            self.stream.wait_event(self.events.events[2])
            self.events.mark(3)
        self.events.finish(size)
        unknown = int(buffers.statistics[3])
        if unknown:
            raise ValueError(
                f"{unknown:,} keys are outside their tables, which have "
                f"{self.model.tables.sizes} rows; check that the data were prepared "
                "for this model (its largest index, max-ind-range)"
            )
        return [buffers.scores.numpy()[:pairs]]

    def _find_sample(self, batch: Batch) -> Batch:
        """Return arrays of the batch's shapes behind the first axis."""
        if SPANS not in batch:
            return batch
        assert self._dataset is not None, "gather_from() made the batch"
        return self._dataset.gather([0])

    def _stage(self, batch: Batch, buffers: PairBuffers, pairs: int) -> bool:
        """Write a batch into pinned memory; True where the device fetches it itself."""
        staged = {name: tensor.numpy() for name, tensor in buffers.staged.items()}
        if SPANS not in batch:
            for name, room in staged.items():
                np.copyto(room[:pairs], batch[name])
            return False
        assert self._dataset is not None, "gather_from() made the batch"
        if self._dataset.arrays and REGISTERED.arrays is self._dataset.arrays:
            return True
        self._dataset.copy_spans(batch[SPANS], staged)
        return False

    def _record(self, batch: Batch, room: int) -> PairBuffers:
        torch, model = self._torch, self.model
        cache, network = model.cache, model.network
        stream = model.compute
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            staged, inputs = {}, {}
            for name, array in batch.items():
                shape = room, *array.shape[1:]
                dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
                staged[name] = torch.zeros(shape, dtype=dtype, pin_memory=True)
                inputs[name] = torch.zeros(shape, dtype=dtype, device=cache.device)
            features = network.make_features(room, cache.device)
            scores = torch.zeros(room, pin_memory=True)
            statistics = torch.zeros(4, dtype=torch.int64, pin_memory=True)
            keys = inputs.pop(model.tables.keys)
            (dense,) = inputs.values()
            inputs[model.tables.keys] = keys

            def answer() -> None:
                cache.look_up(keys.t(), features[:, 1:])
                found = network.run(dense, features)
                scores.copy_(found, non_blocking=True)
                statistics.copy_(cache.statistics, non_blocking=True)

            before = cache.statistics.clone()
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            graphs = [
                _record_after_trials(call, stream, self._pool)
                for call in (answer, cache.insert_missing)
            ]
            cache.statistics.copy_(before)  # the trials are nobody's lookups
            stream.synchronize()
        return PairBuffers(staged, inputs, features, scores, statistics, *graphs)

    def close(self) -> None:
        """Release graphs and buffers."""
        self._torch.cuda.synchronize()
        self._buffers.clear()


def _record_after_trials(call: Any, stream: Any, pool: Any) -> Any:
    """Return a CUDA graph of a call, compiled by running it twice before."""
    for _ in range(2):
        call()
    stream.synchronize()
    graph, _ = record_graph(call, stream, pool)
    return graph
