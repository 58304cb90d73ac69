"""What the engines of ``doubles`` do when called: answer, or misbehave on purpose."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch

FOREVER_S = 3600
FAULTY = "DOUBLE_FAULTY"
"""Variable of the environment of the one device that misbehaves."""
PAUSE, PAUSE_S = "DOUBLE_PAUSE", 3.0

Infer = Callable[[Batch, int, list[int]], Any]
"""(batch, size, LoadGen's ids of the batch; none outside LoadGen) -> outputs."""


def first(batch: Batch) -> Array:
    return next(iter(batch.values()))


def echo(batch: Batch, size: int, ids: list[int]) -> Any:  # noqa: ARG001
    """Return each sample's number; for pictures 1000 scores that say class 0."""
    values = first(batch)
    if values.ndim == 2:
        return [values[:, :1].copy()]
    return [np.zeros((len(values), 1000), np.float32)]


def always_wrong(batch: Batch, size: int, ids: list[int]) -> Any:
    return [output + 1 for output in echo(batch, size, ids)]


def raising(batch: Batch, size: int, ids: list[int]) -> Any:
    if ids:
        raise RuntimeError("the third-party engine broke in the middle")
    return echo(batch, size, ids)


def raising_early(batch: Batch, size: int, ids: list[int]) -> Any:  # noqa: ARG001
    raise RuntimeError("the third-party engine never worked")


def filling_the_disk(batch: Batch, size: int, ids: list[int]) -> Any:
    if ids:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/cache/x")
    return echo(batch, size, ids)


def allocating_a_tebibyte(batch: Batch, size: int, ids: list[int]) -> Any:
    if ids:
        np.ones(1 << 40, np.uint8)
    return echo(batch, size, ids)


def fewer_rows(batch: Batch, size: int, ids: list[int]) -> Any:
    outputs = echo(batch, size, ids)
    return [output[:-1] for output in outputs] if ids else outputs


def not_a_number(batch: Batch, size: int, ids: list[int]) -> Any:
    outputs = echo(batch, size, ids)
    if ids:
        outputs[0][-1, 0] = np.nan
    return outputs


def wrong_shape(batch: Batch, size: int, ids: list[int]) -> Any:
    outputs = echo(batch, size, ids)
    return [output[:, None, :] for output in outputs] if ids else outputs


def sleeping(batch: Batch, size: int, ids: list[int]) -> Any:
    if ids:
        time.sleep(FOREVER_S)
    return echo(batch, size, ids)


def holding_the_gil(batch: Batch, size: int, ids: list[int]) -> Any:
    """Hang in C without letting any other Python thread run: no heartbeat either."""
    if ids:
        ctypes.PyDLL(None).sleep(FOREVER_S)
    return echo(batch, size, ids)


def killed(batch: Batch, size: int, ids: list[int]) -> Any:
    """Die as under the kernel's out-of-memory killer."""
    if ids:
        os.kill(os.getpid(), signal.SIGKILL)
    return echo(batch, size, ids)


def crashing(batch: Batch, size: int, ids: list[int]) -> Any:
    """Read address 0, as a broken native library does."""
    if ids:
        ctypes.string_at(0)
    return echo(batch, size, ids)


def twice(batch: Batch, size: int, ids: list[int]) -> Any:
    """Complete samples that the SUT is about to complete itself."""
    if ids:
        _complete(ids)
    return echo(batch, size, ids)


def bad_id(batch: Batch, size: int, ids: list[int]) -> Any:
    if ids:
        _complete([12345])
    return echo(batch, size, ids)


def talking(batch: Batch, size: int, ids: list[int]) -> Any:
    """Print as chatty libraries do: a variable of the runner's environment."""
    os.write(2, f"engine says {os.environ.get('DOUBLE_SAYS')}\n".encode())
    return echo(batch, size, ids)


def _complete(ids: list[int]) -> None:
    from pytest_mlperf.sut import loadgen

    loadgen.complete([loadgen.response(one, 0, 0) for one in ids])


def slow_batch(batch: Batch, size: int, ids: list[int], seconds: float) -> Any:
    """Take the same time for a batch of any size."""
    time.sleep(seconds)
    return echo(batch, size, ids)


def slow_sample(batch: Batch, size: int, ids: list[int], seconds: float) -> Any:
    """Take the same time for every sample."""
    time.sleep(seconds * size)
    return echo(batch, size, ids)


def cold(batch: Batch, size: int, ids: list[int], seconds: float) -> Any:
    """Take time for every sample, and batches of more than one take twice that."""
    time.sleep(seconds * size * (2 if size > 1 else 1))
    return echo(batch, size, ids)


def paused(batch: Batch, size: int, ids: list[int]) -> Any:
    """Stand still for a while, once for each time that the file ``PAUSE`` is made."""
    if ids:
        with suppress(OSError):
            Path(os.environ[PAUSE]).unlink()
            time.sleep(PAUSE_S)
    return slow_sample(batch, size, ids, 0.002)


@dataclass(slots=True)
class Warming:
    """An engine that is three times as slow once it has worked for a while."""

    seconds: float
    cold_batches: int

    def __call__(self, batch: Batch, size: int, ids: list[int]) -> Any:
        self.cold_batches -= 1
        time.sleep(self.seconds * (1 if self.cold_batches > 0 else 3))
        return echo(batch, size, ids)


def somewhere(batch: Batch, size: int, ids: list[int], call: Infer) -> Any:
    """Misbehave on one of several devices; take a while for a sample on each."""
    if FAULTY in os.environ:
        return call(batch, size, ids)
    return slow_sample(batch, size, ids, 0.0005)
