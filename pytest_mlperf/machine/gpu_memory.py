"""Is a GPU's memory free again after a server has ended? Asked of nvidia-smi."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from collections.abc import Mapping

SLACK_MIB = 512
"""What may be in use more than before: a driver's own, another process's context."""
WAIT_S = 30.0
POLL_S = 0.5
Read = Callable[[], Mapping[str, int] | None]
"""Returns GPU -> MiB in use; None where there is nothing to ask."""


def in_use() -> dict[str, int] | None:
    """Return each GPU's memory in use in MiB; None without a GPU or nvidia-smi."""
    command = ["nvidia-smi", "--query-gpu=uuid,memory.used"]
    command += ["--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True
        )
        rows = [line.split(",") for line in said.stdout.splitlines() if line.strip()]
        return {name.strip(): int(used) for name, used in rows} or None
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def held(before: Mapping[str, int] | None, now: Mapping[str, int] | None) -> str:
    """Return what is in use more than before, for people; empty where nothing is."""
    if before is None or now is None:
        return ""
    more = {gpu: used - before.get(gpu, 0) for gpu, used in now.items()}
    texts = [f"{mib:,} MiB of {gpu}" for gpu, mib in more.items() if mib > 0]
    return f"it held {', '.join(texts)}" if texts else ""


def freed(
    before: Mapping[str, int] | None,
    read: Read = in_use,
    *,
    wait_s: float = WAIT_S,
    beat: Callable[[], None] = lambda: None,
) -> tuple[bool, str]:
    """Return whether every GPU uses no more than before, and what was seen.

    Waits for the driver, which frees the memory of an ended process a little later.
    """
    if before is None:
        return True, "not looked at: no nvidia-smi"
    until = time.monotonic() + wait_s
    while True:
        now = read()
        if now is None:
            return True, "not looked at: nvidia-smi answers no more"
        held = {
            gpu: used - before.get(gpu, 0)
            for gpu, used in now.items()
            if used > before.get(gpu, 0) + SLACK_MIB
        }
        if not held:
            return True, f"free again: {max(now.values())} MiB in use at most"
        if time.monotonic() >= until:
            texts = [f"{gpu} holds {more:,} MiB more" for gpu, more in held.items()]
            return False, f"{', '.join(texts)} than before the server was started"
        beat()
        time.sleep(POLL_S)
