"""The batches of our own server: what has arrived when a stream is free.

Nothing is waited for: an empty stream takes a single request at once, and a busy
server's batches grow by themselves.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.served_model import Infer
from pytest_mlperf.api.served_model import ServedModel
from pytest_mlperf.services.kserve.requests import pad_axis


class ServerEnds(Exception):
    """The server takes no more requests."""


@dataclass(slots=True)
class Arrival:
    """One request on its way through the server."""

    batch: Batch
    rows: int
    arrived_s: float = field(default_factory=time.monotonic)
    outputs: Sequence[Array] = ()
    problem: str = ""
    """Why it has no outputs."""
    phase_ns: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Queue, input, inference, output."""
    executions: float = 0.0
    """Its share of the batch that it was in, so that a sum counts batches."""
    is_done: threading.Event = field(default_factory=threading.Event)


class Arrivals:
    """The queue in front of a model's streams, and their threads."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self._waiting: deque[Arrival] = deque()
        self._changed = threading.Condition()
        self._ends = False
        self._threads = [
            threading.Thread(target=self._work, args=(infer,), daemon=True)
            for infer in model.streams
        ]
        for thread in self._threads:
            thread.start()

    def infer(self, batch: Batch) -> Arrival:
        """Return a request once it is answered; raises ``ServerEnds``."""
        rows = len(next(iter(batch.values())))
        arrival = Arrival(batch, rows)
        with self._changed:
            if self._ends:
                raise ServerEnds
            self._waiting.append(arrival)
            self._changed.notify()
        arrival.is_done.wait()
        return arrival

    def close(self) -> None:
        """Answer what is waiting, then end the threads."""
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self, infer: Infer) -> None:
        while taken := self._take():
            begun_s = time.monotonic()
            try:
                answer(taken, self._model, infer, begun_s)
            except Exception as error:  # noqa: BLE001 - goes to those who asked
                for one in taken:
                    one.problem = f"{type(error).__name__}: {error}"
            for one in taken:
                one.executions = 1 / len(taken)
                one.is_done.set()

    def _take(self) -> list[Arrival]:
        """Return the requests of the next batch; empty at the end."""
        with self._changed:
            while not self._waiting:
                if self._ends:
                    return []
                self._changed.wait()
            first = self._waiting.popleft()
            taken, rows, left = [first], first.rows, deque[Arrival]()
            key = form_of(first.batch, pads=self._model.pads)
            for one in self._waiting:
                fits = rows + one.rows <= self._model.max_batch
                if fits and form_of(one.batch, pads=self._model.pads) == key:
                    taken.append(one)
                    rows += one.rows
                else:
                    left.append(one)
            self._waiting = left
            return taken


def form_of(batch: Batch, *, pads: bool) -> list[tuple[int, ...]]:
    """Return what requests of one batch have in common: sizes but rows and length."""
    return [array.shape[2 if pads else 1 :] for array in batch.values()]


def answer(
    taken: Sequence[Arrival], model: ServedModel, infer: Infer, begun_s: float
) -> None:
    """Run one batch and give every request its rows, without the padding."""
    rows = sum(one.rows for one in taken)
    batch = {name: join([one.batch[name] for one in taken]) for name in model.inputs}
    joined_s = time.monotonic()
    outputs = [np.asarray(array) for array in infer(batch, rows)]
    inferred_s = time.monotonic()
    for name, output in zip(model.outputs, outputs, strict=True):
        if len(output) != rows:
            raise ValueError(
                f"output {name} has {len(output)} rows, but should have {rows}"
            )
    longest, start = length_of(batch), 0
    for one in taken:
        own = length_of(one.batch)
        cut = model.pads and own != longest
        one.outputs = [
            output[start : start + one.rows, :own]
            if cut and output.ndim > 1 and output.shape[1] == longest
            else output[start : start + one.rows]
            for output in outputs
        ]
        start += one.rows
    done_s = time.monotonic()
    common = (joined_s - begun_s, inferred_s - joined_s, done_s - inferred_s)
    for one in taken:
        seconds = (begun_s - one.arrived_s, *common)
        queue, into, run, out = (int(second * 1e9) for second in seconds)
        one.phase_ns = queue, into, run, out


def length_of(batch: Batch) -> int:
    """Return the size of axis 1 of a batch's first array; 0 where it has none."""
    shape = next(iter(batch.values())).shape
    return int(shape[1]) if len(shape) > 1 else 0


def join(arrays: Iterable[Array]) -> Array:
    """Return arrays one below another; shorter ones are padded with zeros."""
    found = list(arrays)
    if len(found) == 1:
        return found[0]
    if found[0].ndim > 1:
        longest = max(array.shape[1] for array in found)
        found = [pad_axis(array, longest) for array in found]
    return np.concatenate(found)
