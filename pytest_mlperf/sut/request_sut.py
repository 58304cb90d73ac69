"""The hot path to a service: one request a sample, answers as they come.

LoadGen calls ``issue(ids, indices)`` and gets its thread back at once; the service's
own thread completes what has arrived, all of a round in one call. With token
latencies ``FirstTokenComplete`` comes before ``QuerySamplesComplete`` for every query,
as LoadGen demands, but in Offline, where it knows no first token.

A request that fails ends the run: nothing is answered in its place, and nothing is
tried again into a better number.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.service import BreaksDownLatency
from pytest_mlperf.api.service import EndpointStats
from pytest_mlperf.api.service import Listener
from pytest_mlperf.api.service import Service
from pytest_mlperf.api.workload import PromptWorkload
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.core.latency_breakdown import LatencyBreakdown
from pytest_mlperf.sut.completion import Ids
from pytest_mlperf.sut.completion import TokenTiming
from pytest_mlperf.sut.query_recorder import QueryRecorder
from pytest_mlperf.sut.query_recorder import StreamNotes
from pytest_mlperf.sut.query_recorder import now

OpenService = Callable[[Listener], Service]


@dataclass(frozen=True, slots=True)
class AnswerEncoder:
    """Makes a service's answers LoadGen's bytes."""

    encode: Callable[[int, Answer], tuple[bytes, int]]
    """(sample index, answer) -> what of it LoadGen keeps, and its output tokens."""
    needs_sample: bool
    """False where an answer alone is enough, and the index may be 0."""


class RequestSUT:
    """A service behind LoadGen's callbacks.

    ``issued`` and ``completed`` are read by the heartbeat.
    """

    def __init__(
        self,
        open_service: OpenService,
        encode: AnswerEncoder,
        on_failure: Callable[[BaseException], None],
        timing: TokenTiming,
        network_name: Callable[[], str] | None = None,
    ) -> None:
        self.network_name = network_name
        """Of a run over a network: asks every server for its name."""
        self.issued = 0
        self.completed = 0
        self.is_flushed = False
        self._open = open_service
        self._encode = encode
        self._on_failure = on_failure
        self._timing = timing
        self._issued_s = self._completed_s = 0.0
        """Sums of the times at which samples were issued and completed (monotonic)."""
        self._service: Service | None = None
        self._samples: dict[int, int] = {}
        """LoadGen's id of an outstanding query -> its sample; 0 where nobody asks."""
        self._recorder: QueryRecorder | None = None
        self._notes = StreamNotes()
        self._tokens: list[int] = []
        """Of the answers at hand."""

    def record(self, recorder: QueryRecorder) -> None:
        """Note the queries from now on; call it before LoadGen starts."""
        self._recorder, self._notes = recorder, recorder.open_stream()

    @property
    def pulse(self) -> int:
        """Grows with whatever arrives."""
        return self._service.pulse if self._service else 0

    @property
    def stats(self) -> tuple[EndpointStats, ...]:
        """What each endpoint did."""
        return self._service.stats() if self._service else ()

    @property
    def breakdown(self) -> LatencyBreakdown | str:
        """Where the requests' time went, or why it is not known; after ``stop``."""
        latency_s = (self._completed_s - self._issued_s) / max(self.completed, 1)
        service: object = self._service
        if isinstance(service, BreaksDownLatency):
            return service.breakdown(latency_s)
        return ""

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
        self._issued_s += time.monotonic() * len(ids)
        submit = self._service.submit
        self.issued += len(ids)
        if self._recorder:
            self._recorder.issue(ids)
        if self._encode.needs_sample:
            self._samples.update(zip(ids, indices, strict=True))
        for ticket, sample in zip(ids, indices, strict=True):
            submit(ticket, sample)

    def flush(self) -> None:
        """Note the last query; nothing is held back."""
        self.is_flushed = True

    def first_token(self, firsts: Sequence[tuple[int, Answer]]) -> None:
        """Tell LoadGen of first tokens."""
        if self._recorder:
            self._recorder.see_firsts([ticket for ticket, _ in firsts])
        if not self._timing.firsts:
            return
        from pytest_mlperf.sut.loadgen import first_token

        first_token(self._responses(firsts))

    def done(self, answers: Sequence[tuple[int, Answer]]) -> None:
        """Complete what was answered."""
        from pytest_mlperf.sut.loadgen import complete

        made = self._responses(answers)
        self._completed_s += time.monotonic() * len(answers)
        at = now()
        complete(made)
        if self._recorder:
            ids = [ticket for ticket, _ in answers]
            self._recorder.complete(self._notes, ids, self._tokens, at)
        for ticket, _ in answers if self._samples else ():
            del self._samples[ticket]
        self.completed += len(answers)

    def failed(self, error: BaseException) -> None:
        """End the run."""
        self._on_failure(error)

    def _responses(self, answers: Sequence[tuple[int, Answer]]) -> list[object]:
        """Return LoadGen's responses, whose bytes live as long as this object.

        LoadGen copies inside the call.
        """
        from pytest_mlperf.sut.loadgen import responses

        sample_of, encode = self._samples.get, self._encode.encode
        encoded = [encode(sample_of(ticket, 0), answer) for ticket, answer in answers]
        data = [one for one, _ in encoded]
        self._alive = np.frombuffer(b"".join(data) or b"\0", dtype=np.uint8)
        sizes = [len(one) for one in data]
        base = self._alive.__array_interface__["data"][0]
        starts = np.cumsum([0, *sizes[:-1]]) + base
        ids = [ticket for ticket, _ in answers]
        self._tokens = [count for _, count in encoded]
        tokens = self._tokens if self._timing.tokens else None
        return responses(ids, starts.tolist(), sizes, tokens)


def encoder_of(workload: PromptWorkload | TensorWorkload) -> AnswerEncoder:
    """Return what makes a service's answers LoadGen's bytes.

    A tensor workload responds to one sample's outputs, as it would to a batch's.
    """
    if isinstance(workload, PromptWorkload):
        encode = workload.encode
        return AnswerEncoder(lambda _, one: (encode(one), one.tokens), False)
    respond = workload.respond

    def encode_outputs(sample: int, answer: Answer) -> tuple[bytes, int]:
        if answer.outputs is None:
            raise ValueError(
                f"the service answered sample {sample} without outputs, but should "
                "return Answer(outputs=[…]): the model's arrays of one sample"
            )
        try:
            rows, sizes, tokens = respond(answer.outputs, [sample])
        except ValueError as error:
            raise ValueError(f"the answer to sample {sample}: {error}") from error
        data = np.ascontiguousarray(rows[0]).tobytes()
        size = sizes[0] if sizes else len(data)
        return data[:size], tokens[0] if tokens else answer.tokens

    return AnswerEncoder(encode_outputs, True)
