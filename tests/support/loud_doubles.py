"""Engines that say too much, or nothing that can be shown; see ``doubles``."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from pytest_mlperf.api.samples import Batch
from tests.support.calls import echo
from tests.support.doubles import Double

BLOCK = 1 << 20
BLOCKS = 100
NAMELESS = signal.SIGRTMIN + 3
"""A signal that Python has no name for."""


class MuteError(Exception):
    """An exception whose text cannot be made."""

    def __str__(self) -> str:
        raise ValueError("no text")


def raising_mute(batch: Batch, size: int, ids: list[int]) -> Any:
    if ids:
        raise MuteError
    return echo(batch, size, ids)


def raising_huge(batch: Batch, size: int, ids: list[int]) -> Any:
    if ids:
        raise RuntimeError(f"begin {'x' * (50 << 20)} end")
    return echo(batch, size, ids)


def printing_much(batch: Batch, size: int, ids: list[int]) -> Any:
    """Print 100 MB, then a key of the environment, then die."""
    if ids:
        line = b"x" * 100 + b"\n"
        for _ in range(BLOCKS):
            os.write(2, line * (BLOCK // len(line)))
        time.sleep(1)  # what is printed while the log is cut may be lost
        os.write(2, f"the key is {os.environ.get('SERVER_API_KEY')}\n".encode())
        os._exit(3)
    return echo(batch, size, ids)


def ended_without_a_name(batch: Batch, size: int, ids: list[int]) -> Any:
    if ids:
        os.kill(os.getpid(), NAMELESS)
    return echo(batch, size, ids)


RAISING_MUTE = Double(raising_mute)
RAISING_HUGE = Double(raising_huge)
PRINTING_MUCH = Double(printing_much)
ENDED_WITHOUT_A_NAME = Double(ended_without_a_name)
