"""From the options and a system file's ``[server]`` table to what a job asks for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING
from typing import Any

from pytest_mlperf.runner.messages import ServerWish
from pytest_mlperf.runner.messages import ServiceWish

if TYPE_CHECKING:
    from pytest_mlperf.config.options import Options
    from pytest_mlperf.measure.placement import Slice

STALL_SHARE = 0.75
"""Of --mlperf-stall, after which a silent stream fails: before the watchdog, which
cannot name the request."""

STARTED = ("port", "health", "ready_s", "grace_s")
ASKED = (
    "model", "chat", "balance", "concurrency", "warm_up", "timeout_s", "token_env",
)  # fmt: skip
"""Keys of the table, by what they are about."""


def service_for(
    options: Options, table: Mapping[str, Any], device: Slice
) -> ServiceWish:
    """Return where the service is: options win over the table."""
    wish = ServiceWish(**{key: table[key] for key in ASKED if key in table})
    if "command" in table and not options.endpoint:
        command = table["command"]
        words = shlex.split(command) if isinstance(command, str) else command
        visible = device.environment.get("CUDA_VISIBLE_DEVICES", "")
        start = {key: table[key] for key in STARTED if key in table}
        wish = replace(wish, server=ServerWish(tuple(words), visible, **start))
    given: dict[str, Any] = {
        "urls": options.endpoint or None,
        "model": options.endpoint_model,
        "chat": options.endpoint_chat or None,
        "balance": options.endpoint_balance,
        "concurrency": options.endpoint_concurrency,
        "timeout_s": options.endpoint_timeout,
        "token_env": options.endpoint_token_env,
        "ca_file": str(options.endpoint_ca) if options.endpoint_ca else None,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return replace(wish, **chosen, stall_s=STALL_SHARE * options.stall)
