"""A listener that keeps what a service's client tells it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pytest_mlperf.api.samples import Answer

WAIT_S = 120


class RecordingListener:
    """A ``Listener`` that records its calls; ``wait`` returns after the last one."""

    def __init__(self, wanted: int) -> None:
        self.firsts: list[int] = []
        self.answers: dict[int, Answer] = {}
        self.error: BaseException | None = None
        self._wanted = wanted
        self._over = threading.Event()

    def first_token(self, firsts: Sequence[tuple[int, Answer]]) -> None:
        for ticket, _ in firsts:
            assert ticket not in self.answers, "a first token comes first"
            self.firsts.append(ticket)

    def done(self, answers: Sequence[tuple[int, Answer]]) -> None:
        self.answers |= dict(answers)
        if len(self.answers) == self._wanted:
            self._over.set()

    def failed(self, error: BaseException) -> None:
        self.error = error
        self._over.set()

    def wait(self) -> None:
        assert self._over.wait(WAIT_S), "neither answered nor failed"
