"""The store that ``--mlperf-engine-options`` ask for."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_mlperf.api.embedding import EmbeddingTables
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.embedding.host_table import HostTable
from pytest_mlperf.embedding.protocol import RowSource
from pytest_mlperf.embedding.store import CacheSettings
from pytest_mlperf.embedding.store import EmbeddingStore

OPTIONS = ("gpucacheper", "hit_rate_threshold", "policy")


def read_settings(options: Mapping[str, str]) -> CacheSettings:
    """Return the cache's settings; ``BuildFailed`` for a value that is none."""
    usual = CacheSettings()
    try:
        return CacheSettings(
            gpucacheper=float(options.get("gpucacheper", usual.gpucacheper)),
            hit_rate_threshold=float(
                options.get("hit_rate_threshold", usual.hit_rate_threshold)
            ),
            policy=options.get("policy", usual.policy),
        )
    except ValueError as error:
        raise BuildFailed(
            f"--mlperf-engine-options: {error}; write for example "
            "gpucacheper=0.1,hit_rate_threshold=0.9,policy=lfu"
        ) from error


def open_store(tables: EmbeddingTables, options: Mapping[str, str]) -> EmbeddingStore:
    """Open the store of a model's tables as the engine options have it."""
    return EmbeddingStore(tables, open_source(tables), read_settings(options))


def open_source(tables: EmbeddingTables) -> RowSource:
    """Open the tier that holds every row."""
    return HostTable(tables.path)
