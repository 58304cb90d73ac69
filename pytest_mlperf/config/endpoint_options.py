"""The options that say where a service is and how it is to be asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_mlperf.config.option_types import core_type
from pytest_mlperf.config.option_types import folder
from pytest_mlperf.config.option_types import number
from pytest_mlperf.config.option_types import one_of
from pytest_mlperf.config.option_types import urls
from pytest_mlperf.config.option_types import variable
from pytest_mlperf.config.option_types import whole
from pytest_mlperf.config.option_types import word

ENDPOINT: tuple[tuple[str, Callable[[str], Any], str, str], ...] = (
    (
        "--mlperf-endpoint",
        urls,
        "URL[,URL]",
        (
            "OpenAI-compatible servers that answer the LLM benchmarks (default: the "
            "system file's [server], else the embedded one)"
        ),
    ),
    (
        "--mlperf-endpoint-model",
        word,
        "NAME",
        ("model to ask the endpoints for (default: the one they serve)"),
    ),
    (
        "--mlperf-endpoint-balance",
        one_of("least", "round"),
        "HOW",
        (
            "share requests out "
            "to the endpoint with the least outstanding, or in rounds (default least)"
        ),
    ),
    (
        "--mlperf-endpoint-concurrency",
        whole,
        "N",
        (
            "requests outstanding at most, over "
            "all endpoints (default: found by the probe)"
        ),
    ),
    (
        "--mlperf-endpoint-timeout",
        number,
        "SECONDS",
        (
            "a request without its whole "
            "answer after this long fails the run (default 600)"
        ),
    ),
    (
        "--mlperf-endpoint-token-env",
        variable,
        "NAME",
        (
            "environment variable that holds "
            "the endpoints' bearer token (default MLPERF_ENDPOINT_TOKEN)"
        ),
    ),
    (
        "--mlperf-endpoint-ca",
        folder,
        "FILE",
        (
            "certificates of the authority that signed "
            "the endpoints' own (default: the system's)"
        ),
    ),
    (
        "--mlperf-core-type",
        core_type,
        "NAME",
        ("NVIDIA's name for an endpoint: trtllm_endpoint"),
    ),
)
"""Flag, parser, metavar and help of each; their ini twins are made from the flag."""
CHAT = "--mlperf-endpoint-chat"
CHAT_HELP = "ask by /v1/chat/completions instead of /v1/completions"
FOREIGN = {
    "mlperf_core_type": ("--core-type", "--core_type"),
    "mlperf_endpoint": ("--trtllm-server-urls", "--trtllm_server_urls"),
}
"""Option -> how NVIDIA's harness spells it; taken where nobody else claims it."""
