"""The secrets of a service, which every process that knows it hides."""

from __future__ import annotations

from pytest_mlperf.core import redaction
from pytest_mlperf.runner.messages import ServiceSpec


def hide_secrets(spec: ServiceSpec) -> None:
    """Have this process hide what no text may show of a service."""
    redaction.add_variable(spec.token_env)
    for url in spec.urls:
        redaction.add_url(url)
    if spec.server is not None:
        redaction.add_command(spec.server.command)
