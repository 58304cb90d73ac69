"""The hot path to a service: one request a sample, answers as they come.

LoadGen calls ``issue(ids, indices)`` and gets its thread back at once; the service's
own thread completes what has arrived, all of a round in one call. With token
latencies ``FirstTokenComplete`` comes before ``QuerySamplesComplete`` for every query,
as LoadGen demands, but in Offline, where it knows no first token.

A request that fails ends the run: nothing is answered in its place, and nothing is
tried again into a better number.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.service import EndpointStats
from pytest_mlperf.api.service import Listener
from pytest_mlperf.api.service import Service

if TYPE_CHECKING:
    from pytest_mlperf.sut.completion import Ids

Open = Callable[[Listener], Service]
Encode = Callable[[Answer], bytes]
"""What of an answer LoadGen keeps: token ids, or text."""


class RequestSUT:
    """A service behind LoadGen's callbacks.

    ``issued`` and ``completed`` are read by the heartbeat. ``tokens``: the round uses
    token latencies; ``firsts``: and LoadGen wants to hear of first tokens.
    """

    def __init__(
        self,
        open_service: Open,
        encode: Encode,
        on_failure: Callable[[BaseException], None],
        *,
        tokens: bool,
        firsts: bool,
    ) -> None:
        self.issued = 0
        self.completed = 0
        self._open = open_service
        self._encode = encode
        self._on_failure = on_failure
        self._tokens = tokens
        self._firsts = firsts
        self._service: Service | None = None

    @property
    def pulse(self) -> int:
        """Grows with whatever arrives."""
        return self._service.pulse if self._service else 0

    @property
    def stats(self) -> tuple[EndpointStats, ...]:
        """What each endpoint did."""
        return self._service.stats() if self._service else ()

    def start(self) -> None:
        """Open the service's connections."""
        self._service = self._open(self)

    def stop(self) -> None:
        """Close them once LoadGen has returned."""
        if self._service:
            self._service.close()

    def issue(self, ids: Ids, indices: list[int]) -> None:
        """Put the samples in line."""
        assert self._service is not None, "start() comes before LoadGen"
        submit = self._service.submit
        self.issued += len(ids)
        for ticket, sample in zip(ids, indices, strict=True):
            submit(ticket, sample)

    def flush(self) -> None:
        """Nothing is held back."""

    def first_token(self, firsts: Sequence[tuple[int, Answer]]) -> None:
        """Tell LoadGen of first tokens."""
        if not self._firsts:
            return
        from pytest_mlperf.sut.loadgen import first_token

        first_token(self._responses(firsts))

    def done(self, answers: Sequence[tuple[int, Answer]]) -> None:
        """Complete what was answered."""
        from pytest_mlperf.sut.loadgen import complete

        complete(self._responses(answers))
        self.completed += len(answers)

    def failed(self, error: BaseException) -> None:
        """End the run."""
        self._on_failure(error)

    def _responses(self, answers: Sequence[tuple[int, Answer]]) -> list[object]:
        """Return LoadGen's responses, whose bytes live as long as this object.

        LoadGen copies inside the call.
        """
        from pytest_mlperf.sut.loadgen import response

        data = [self._encode(answer) for _, answer in answers]
        self._kept = np.frombuffer(b"".join(data) or b"\0", dtype=np.uint8)
        sizes = [len(one) for one in data]
        base = self._kept.__array_interface__["data"][0]
        starts = np.cumsum([0, *sizes[:-1]]) + base
        ids = [ticket for ticket, _ in answers]
        if not self._tokens:
            return list(map(response, ids, starts.tolist(), sizes, repeat(0)))
        counts = [answer.tokens for _, answer in answers]
        return list(map(response, ids, starts.tolist(), sizes, counts))
