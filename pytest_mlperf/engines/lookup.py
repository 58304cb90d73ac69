"""An engine's stream behind an embedding store: first the lookup, then the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.embedding.shared_store import close_store
from pytest_mlperf.embedding.store import EmbeddingStore


@dataclass(slots=True)
class LookupEngine:
    """Looks up a batch's keys and hands their vectors to the dense engine."""

    dense: Engine
    store: EmbeddingStore
    answers: bool = False

    def infer(self, batch: Batch, size: int) -> Any:
        tables = self.store.tables
        inputs = dict(batch)
        inputs[tables.vectors] = self.store.lookup_batch(inputs.pop(tables.keys))
        return self.dense.infer(inputs, size)

    @property
    def facts(self) -> Mapping[str, str]:
        return self.store.facts

    def close(self) -> None:
        self.dense.close()
        close_store(self.store)
