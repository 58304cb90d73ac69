"""What may be said of a recommender's tables."""

from __future__ import annotations

import pytest

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.embedding.options import StoreOptions
from pytest_mlperf.embedding.options import parse_options
from pytest_mlperf.embedding.options import read_options


def test_options_have_types() -> None:
    """Other options of an engine are passed over."""
    given = {"gpucacheper": "0.5", "numa": "1", "provider": "CUDA"}

    assert parse_options(given) == StoreOptions(gpucacheper=0.5, numa=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gpucacheper": "2"}, "gpucacheper=2, but should be a number from 0 to 1"),
        ({"hit_rate_threshold": "much"}, "hit_rate_threshold=much, but should be a"),
        ({"host_share": "2", "database": "rocksdb:x"}, "host_share=2, but should be a"),
        ({"row_precision": "int4"}, "row_precision=int4, but should be one of fp32,"),
        ({"numa": "yes"}, "numa=yes, but should be 0 or 1"),
        ({"policy": "fifo"}, "policy=fifo, but should be one of lfu, lru"),
        ({"database": "mysql:x"}, "should be rocksdb:FOLDER, redis://HOST:PORT or"),
        ({"database": "rocksdb:x", "numa": "1"}, "leave one of the two out"),
        ({"database": "rocksdb:"}, "should be rocksdb:FOLDER"),
    ],
)
def test_options_that_are_none_are_refused(
    options: dict[str, str], message: str
) -> None:
    """As a usage error, and where a store is opened."""
    with pytest.raises(ValueError, match=message):
        parse_options(options)
    with pytest.raises(BuildFailed, match=f"--mlperf-engine-options: .*{message}"):
        read_options(options)


def test_a_refused_database_may_have_a_password() -> None:
    """Which no message repeats."""
    with pytest.raises(ValueError, match=r"^database is mysql:…, but") as refused:
        parse_options({"database": "mysql://me:secret@host"})

    assert "secret" not in str(refused.value)
