"""What ``--mlperf-engine-options`` may say of a recommender's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.config.named_option import list_help
from pytest_mlperf.config.named_option import named_option
from pytest_mlperf.config.named_option import read_named
from pytest_mlperf.config.number_types import parse_flag
from pytest_mlperf.config.number_types import parse_fraction
from pytest_mlperf.config.option_types import one_of
from pytest_mlperf.embedding.row_cache import POLICIES
from pytest_mlperf.embedding.row_format import DTYPES

KINDS = ("rocksdb", "redis", "rediss", "unix", "redis-cluster")
"""How a database's place begins."""
DATABASES = "rocksdb:FOLDER, redis://HOST:PORT or redis-cluster://HOST:PORT"


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Which tiers there are, how they are laid out and when a lookup waits."""

    gpucacheper: float = named_option(
        parse_fraction, "share of the rows in the cache", default=0.1
    )
    hit_rate_threshold: float = named_option(
        parse_fraction,
        "share of hits from which misses get the default vector",
        default=1.0,
    )
    policy: str = named_option(one_of(*POLICIES), "lru or lfu", default="lfu")
    database: str = named_option(str, DATABASES, default="")
    """Empty: the rows are in host memory."""
    host_share: float = named_option(
        parse_fraction,
        "share of a database's rows that host memory holds",
        default=0.0,
    )
    row_precision: str = named_option(
        one_of(*DTYPES),
        "fp32, fp16 or int8; default: as the model's file has them",
        default="",
    )
    numa: bool = named_option(
        parse_flag,
        "1: rows in host memory are spread over the NUMA nodes",
        default=False,
    )


OPTIONS = list_help(StoreOptions)
ANSWER_OPTIONS = ("hit_rate_threshold", "row_precision")
"""Those that change answers: builds with others are others."""


def parse_options(given: Mapping[str, str]) -> StoreOptions:
    """Return the store's part of an engine's options; others are passed over.

    Raises ``ValueError``.
    """
    made = StoreOptions(**read_named(StoreOptions, given))
    kind, _, rest = made.database.partition(":")
    if made.database and not (kind in KINDS and rest):
        # Never the text itself: it may have a password.
        raise ValueError(f"database is {kind}:…, but should be {DATABASES}")
    if made.numa and made.database:
        raise ValueError(
            "numa=1 spreads the rows of host memory, but database= keeps them "
            "elsewhere; leave one of the two out"
        )
    return made


def read_options(given: Mapping[str, str]) -> StoreOptions:
    """Return the same where an engine is built: raises ``BuildFailed``."""
    try:
        return parse_options(given)
    except ValueError as error:
        raise BuildFailed(f"--mlperf-engine-options: {error}") from error
