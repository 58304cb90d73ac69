"""What ``--mlperf-engine-options`` says of the client of a KServe v2 server."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_mlperf.config import load_options
from pytest_mlperf.config.option_types import one_of
from pytest_mlperf.config.option_types import parse_whole
from pytest_mlperf.services.kserve.deployment import parse_flag

PARSERS: dict[str, Callable[[str], Any]] = {
    "shared_memory": one_of("none", "system", "cuda"),
    "protocol": one_of("http", "grpc"),
    "streaming": parse_flag,
    "max_seq_length": parse_whole,
}
"""Name of an option, as perf_analyzer has it -> what its text means."""
OPTIONS = {
    "shared_memory": "(with a server here: none, system or cuda; default none)",
    "protocol": "(to the server that is started here: http or grpc; default http)",
    "streaming": "(gRPC requests in one stream a server: 0 or 1; default 0)",
    **load_options.OPTIONS,
}
"""Name of an option -> what it says."""


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How a server is asked."""

    shared_memory: str = "none"
    protocol: str = "http"
    streaming: bool = False
    max_seq_length: int | None = None
    """The deployment's, to which the client pads."""


def read_client_options(given: Mapping[str, str]) -> ClientOptions:
    """Return the client's part of the options; raises ``ValueError``."""
    load_options.read_load_options(given)
    values = {}
    for name, parse in PARSERS.items():
        if name not in given:
            continue
        try:
            values[name] = parse(given[name].strip())
        except ValueError as error:
            raise ValueError(f"{name}={given[name]}, but should be {error}") from None
    return ClientOptions(**values)
