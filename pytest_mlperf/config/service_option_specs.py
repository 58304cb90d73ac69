# ruff: noqa: RUF009 - option() and switch() return fields
"""The options of services: where they are, and how they are asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.config.option_spec import option
from pytest_mlperf.config.option_spec import switch
from pytest_mlperf.config.option_types import TOKEN_ENV
from pytest_mlperf.config.option_types import one_of
from pytest_mlperf.config.option_types import parse_core_type
from pytest_mlperf.config.option_types import parse_path
from pytest_mlperf.config.option_types import parse_seconds
from pytest_mlperf.config.option_types import parse_tensor_urls
from pytest_mlperf.config.option_types import parse_url_path
from pytest_mlperf.config.option_types import parse_urls
from pytest_mlperf.config.option_types import parse_variable
from pytest_mlperf.config.option_types import parse_whole
from pytest_mlperf.config.option_types import parse_word


@dataclass(frozen=True)
class ServiceOptionValues:
    """The choices of where services are."""

    endpoint: tuple[str, ...] = option(
        parse_urls, "URL[,URL]",
        "OpenAI-compatible servers that run already and answer the LLM benchmarks",
        default=(), unset="the system file's [server], else the embedded one",
    )  # fmt: skip
    endpoint_model: str | None = option(
        parse_word, "NAME", "model to ask the endpoints for", unset="the one they serve"
    )
    endpoint_chat: bool = switch(
        "ask by /v1/chat/completions instead of /v1/completions"
    )
    endpoint_balance: str | None = option(
        one_of("least", "round"), "HOW",
        "share requests out to the endpoint with the least outstanding, or in rounds",
        unset="least",
    )  # fmt: skip
    endpoint_concurrency: int | None = option(
        parse_whole, "N", "requests outstanding at most, over all endpoints",
        unset="found by the probe",
    )  # fmt: skip
    endpoint_timeout: float | None = option(
        parse_seconds, "SECONDS",
        "a request without its whole answer after this long fails the run",
        unset="600",
    )  # fmt: skip
    endpoint_token_env: str | None = option(
        parse_variable, "NAME",
        "environment variable that holds the endpoints' bearer token",
        unset=TOKEN_ENV,
    )  # fmt: skip
    endpoint_health: str | None = option(
        parse_url_path, "PATH", "the endpoints' health page, which has to answer 200",
        unset="/health where there is one; the list of models is enough",
    )  # fmt: skip
    endpoint_ca: Path | None = option(
        parse_path, "FILE",
        "certificates of the authority that signed the endpoints' own",
        unset="the system's",
    )  # fmt: skip
    triton: tuple[str, ...] = option(
        parse_tensor_urls, "URL[,URL]",
        "KServe v2 servers (Triton and others) that run already and answer the tensor "
        "benchmarks, over HTTP or gRPC (grpc://host:8001); chooses the engine triton",
        default=(), unset="a server of the package nvidia-pytriton is started",
    )  # fmt: skip
    core_type: str | None = option(
        parse_core_type, "NAME", "NVIDIA's name for an endpoint: trtllm_endpoint"
    )
