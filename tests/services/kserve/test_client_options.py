"""What may be said of a client of a KServe server."""

from __future__ import annotations

import pytest

from pytest_mlperf.services.kserve.client_options import read_client_options


def test_what_is_not_given_is_the_protocols_own() -> None:
    read = read_client_options({"shared_memory": " system ", "streaming": "1"})

    assert (read.shared_memory, read.streaming) == ("system", True)
    assert (read.protocol, read.max_seq_length) == ("http", None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"shared_memory": "posix"}, "=posix, but should be one of none, system, cuda"),
        ({"protocol": "rest"}, "protocol=rest, but should be one of http, grpc"),
    ],
)
def test_a_wrong_value_is_told_with_the_legal_ones(
    given: dict[str, str], words: str
) -> None:
    """By name, value and what it may be."""
    with pytest.raises(ValueError, match=words):
        read_client_options(given)
