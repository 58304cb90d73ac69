"""What ``--mlperf-engine-options`` says of the client of a KServe v2 server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_mlperf.config import load_options
from pytest_mlperf.config.named_option import list_help
from pytest_mlperf.config.named_option import named_option
from pytest_mlperf.config.named_option import read_named
from pytest_mlperf.config.number_types import parse_flag
from pytest_mlperf.config.option_types import one_of
from pytest_mlperf.config.option_types import parse_whole


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How a server is asked."""

    shared_memory: str = named_option(
        one_of("none", "system", "cuda"),
        "(with a server here: none, system or cuda; default none)",
        default="none",
    )
    protocol: str = named_option(
        one_of("http", "grpc"),
        "(to the server that is started here: http or grpc; default http)",
        default="http",
    )
    streaming: bool = named_option(
        parse_flag,
        "(gRPC requests in one stream a server: 0 or 1; default 0)",
        default=False,
    )
    max_seq_length: int | None = named_option(parse_whole, "")
    """The deployment's, to which the client pads."""


OPTIONS = {**list_help(ClientOptions), **load_options.OPTIONS}


def read_client_options(given: Mapping[str, str]) -> ClientOptions:
    """Return the client's part of the options; raises ``ValueError``."""
    load_options.read_load_options(given)
    return ClientOptions(**read_named(ClientOptions, given))


def drop_client_options(given: Mapping[str, str]) -> dict[str, str]:
    """Return the options that say how the model is deployed."""
    return {n: text for n, text in given.items() if n not in OPTIONS}
