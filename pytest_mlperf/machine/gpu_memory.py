"""Checks with nvidia-smi that GPU memory is free again after a server has ended."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from collections.abc import Mapping

SLACK_MIB = 512
"""Allowed growth: the driver's own memory, another process's context."""
WAIT_S = 30.0
POLL_S = 0.5
Read = Callable[[], Mapping[str, int] | None]
"""Returns GPU -> MiB in use; None when nvidia-smi is missing or fails."""


def read_memory_in_use() -> dict[str, int] | None:
    """Return each GPU's memory in use in MiB; None without a GPU or nvidia-smi."""
    command = ["nvidia-smi", "--query-gpu=uuid,memory.used"]
    command += ["--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True
        )
        rows = [line.split(",") for line in done.stdout.splitlines() if line.strip()]
        return {name.strip(): int(used) for name, used in rows} or None
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def describe_growth(
    before: Mapping[str, int] | None, now: Mapping[str, int] | None
) -> str:
    """Return the growth of memory in use, for people; empty when there is none."""
    if before is None or now is None:
        return ""
    more = {gpu: used - before.get(gpu, 0) for gpu, used in now.items()}
    texts = [f"{mib:,} MiB of {gpu}" for gpu, mib in more.items() if mib > 0]
    return f"it held {', '.join(texts)}" if texts else ""


def wait_until_free(
    before: Mapping[str, int] | None,
    read: Read = read_memory_in_use,
    *,
    wait_s: float = WAIT_S,
    beat: Callable[[], None] = lambda: None,
) -> tuple[bool, str]:
    """Return whether every GPU uses no more than before, and a text for people.

    Waits for the driver, which frees the memory of an ended process with a delay.
    """
    if before is None:
        return True, "not looked at: no nvidia-smi"
    until = time.monotonic() + wait_s
    while True:
        now = read()
        if now is None:
            return True, "not looked at: nvidia-smi answers no more"
        growth = {
            gpu: used - before.get(gpu, 0)
            for gpu, used in now.items()
            if used > before.get(gpu, 0) + SLACK_MIB
        }
        if not growth:
            return True, f"free again: {max(now.values())} MiB in use at most"
        if time.monotonic() >= until:
            texts = [f"{gpu} holds {more:,} MiB more" for gpu, more in growth.items()]
            return False, f"{', '.join(texts)} than before the server was started"
        beat()
        time.sleep(POLL_S)
