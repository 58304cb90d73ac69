"""Measures again where other programs used the CPUs meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pytest_mlperf.machine.cpu_usage import QUIET
from pytest_mlperf.machine.cpu_usage import CpuTime
from pytest_mlperf.machine.cpu_usage import find_others_share

TRIES = 2
"""How often something is measured at most, where others disturb it."""


T = TypeVar("T")


@dataclass(slots=True)
class QuietMeter:
    """Repeats what was disturbed, and knows how much others used in the end."""

    read: Callable[[], CpuTime | None] = lambda: None
    """The state of the CPUs that are measured on; None where nobody can tell, or
    where they do not matter."""
    spare_s: float = 20.0
    """That may be spent on measuring again; what takes long is not."""
    share: float = 0.0
    """Of the CPUs that others used in the measurements that count, at most."""

    def measure(
        self,
        measure: Callable[[], T],
        cost: Callable[[T], float],
        is_enough: Callable[[T], bool] = lambda _: False,
    ) -> T:
        """Return what was measured; the cheaper of two where the first was disturbed.

        ``is_enough``: what is taken even so.
        """
        tried: list[tuple[T, float]] = []
        while len(tried) < TRIES:
            before, started = self.read(), time.monotonic()
            found = measure()
            after, took_s = self.read(), time.monotonic() - started
            share = find_others_share(before, after) if before and after else 0.0
            tried.append((found, share))
            if tried[1:]:
                self.spare_s -= took_s
            if share <= QUIET or is_enough(found) or took_s > self.spare_s:
                break
        found, share = min(tried, key=lambda one: cost(one[0]))
        self.share = max(self.share, share)
        return found

    @property
    def note(self) -> str:
        """Say how much others used; empty where that was little."""
        if self.share <= QUIET:
            return ""
        return f"; other programs used {self.share:.0%} of the CPUs in the probe"
