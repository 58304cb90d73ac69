"""A batch from its indices to LoadGen: gathered, inferred, completed in one call."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from itertools import repeat
from typing import Any
from typing import Protocol
from typing import runtime_checkable

import numpy as np

from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.api.workload import Workload

NO_BATCH: Batch = {}

Ids = list[int]
Work = Callable[[Ids, list[int]], None]


@runtime_checkable
class Remote(Protocol):
    """A stream whose engine is in another process: batches are handed over whole."""

    def completion(self, count: Callable[[int], None]) -> Work:
        """Return the function that has a batch answered and completes it."""


def completion(
    engine: Engine, workload: Workload, count: Callable[[int], None]
) -> Work:
    """Return the function that gathers, infers and completes one batch.

    A stream of another process has a way of its own.

    One ``QuerySamplesComplete`` a batch: the largest single gain of the Python
    binding. LoadGen copies the bytes inside that call, so the answers need to live
    no longer.
    """
    from pytest_mlperf.sut.loadgen import complete
    from pytest_mlperf.sut.loadgen import response

    if isinstance(engine, Remote):
        return engine.completion(count)
    infer = engine.infer
    if engine.answers:
        last: Array | None = None
        base = row = known = 0

        def answer(ids: Ids, indices: list[int]) -> None:  # noqa: ARG001 - one shape
            nonlocal last, base, row, known
            size = len(ids)
            rows = infer(NO_BATCH, size)
            if rows is not last or size != known:
                last, known = checked(rows, size), size
                base, row = address(last), last.nbytes // size
            if size == 1:
                complete([response(ids[0], base, row)])
            else:
                spots = range(base, base + size * row, row) if row else repeat(base)
                complete(list(map(response, ids, spots, repeat(row))))
            count(size)

        return answer

    gather = gathering(engine, workload.dataset)
    if ends_on_device(engine):
        from pytest_mlperf.sut import late_answers

        return late_answers.completion(engine, workload, gather, count)
    respond = workload.respond

    def work(ids: Ids, indices: list[int]) -> None:
        size = len(ids)
        outputs = infer(gather(indices), size)
        rows, sizes = respond(outputs, indices)
        rows = checked(rows, size)
        base, row = address(rows), rows.nbytes // size
        spots = range(base, base + size * row, row)
        complete(list(map(response, ids, spots, sizes or repeat(row))))
        count(size)

    return work


def answering(
    engine: Engine, workload: Workload
) -> Callable[[list[int]], tuple[Array, Sequence[int] | None]]:
    """Return the function that gathers, infers and answers one batch, for a process
    that hands its answers on: rows, and how many bytes of each count (None: all).
    """
    infer = engine.infer
    if engine.answers:
        return lambda indices: (
            checked(infer(NO_BATCH, len(indices)), len(indices)),
            None,
        )
    gather = gathering(engine, workload.dataset)
    respond = workload.respond

    def answer(indices: list[int]) -> tuple[Array, Sequence[int] | None]:
        size = len(indices)
        rows, sizes = respond(infer(gather(indices), size), indices)
        return checked(rows, size), sizes

    return answer


def gathering(engine: Engine, dataset: Dataset) -> Callable[[list[int]], Batch]:
    """Return what gathers a batch: the engine's own way where it has one."""
    own = getattr(engine, "gather_from", None)
    found: Callable[[list[int]], Batch] | None = own(dataset) if own else None
    return found or dataset.gather


def ends_on_device(engine: Engine) -> bool:
    """Return whether an engine's outputs stay where they are."""
    return bool(getattr(engine, "ends_on_device", False))


def checked(rows: Any, size: int) -> Array:
    """Return answers that LoadGen may read by address, or raise ``ValueError``."""
    if not isinstance(rows, np.ndarray) or rows.ndim < 1 or len(rows) != size:
        found = getattr(rows, "shape", type(rows).__name__)
        raise ValueError(
            f"the engine answered with {found}, but should return {size} rows "
            f"for {size} samples: one answer a sample, in the order of the batch"
        )
    if not rows.flags.c_contiguous:
        raise ValueError(
            "answers must be C-contiguous to be handed over by address; "
            "use numpy.ascontiguousarray"
        )
    return rows


def address(array: Array) -> int:
    """Return the address of an array's first byte."""
    spot: int = array.__array_interface__["data"][0]
    return spot
