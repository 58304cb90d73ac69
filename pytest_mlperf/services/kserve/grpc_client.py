"""A client of tensors over gRPC: one thread with an asyncio loop.

Requests are written before the run; answers come as bytes and are parsed here, so that
the time of each step is known. What arrives in one round of the loop is handed over in
one call.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import deque
from collections.abc import Mapping
from collections.abc import Sequence

from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.service import EndpointStats
from pytest_mlperf.api.service import Listener
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.services.kserve.grpc_calls import GrpcEndpoint
from pytest_mlperf.services.kserve.grpc_calls import RequestCaller
from pytest_mlperf.services.kserve.grpc_calls import StreamCaller
from pytest_mlperf.services.kserve.grpc_calls import UnaryCaller
from pytest_mlperf.services.kserve.grpc_channel import open_channel
from pytest_mlperf.services.kserve.grpc_messages import AnswerDecoder
from pytest_mlperf.services.kserve.tensors import ReceiveTimes

TICK_S = 0.25
"""Time-outs of streams are checked this often."""


@functools.cache
def start_loop() -> asyncio.AbstractEventLoop:
    """Return the loop of this process' clients, which runs on a thread of its own.

    It is never closed: gRPC has one queue of events for all loops of a process, and
    hands over to loops that are closed too.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="client", daemon=True).start()
    return loop


class GrpcClient:
    """A ``Service`` over gRPC; its methods are described there.

    ``requests`` holds what follows an endpoint's head.
    """

    def __init__(
        self,
        endpoints: Sequence[GrpcEndpoint],
        requests: Mapping[int, bytes],
        decoder: AnswerDecoder,
        times: ReceiveTimes,
        listener: Listener,
        *,
        is_streaming: bool = False,
        balance: str = "least",
        timeout_s: float = 600.0,
    ) -> None:
        self.decoder, self.timeout_s = decoder, timeout_s
        self.requests = requests
        self.pulse = 0
        self._endpoints = list(endpoints)
        self._times, self._listener = times, listener
        self._is_streaming = is_streaming
        self._is_round_robin, self._turn = balance == "round", 0
        self._waiting: deque[tuple[int, int]] = deque()
        self._answers: list[tuple[int, Answer]] = []
        self._callers: list[RequestCaller] = []
        self._is_awake = self._has_failed = self._is_ready = False
        self._ended = asyncio.Event()
        self._loop = start_loop()
        self._served = asyncio.run_coroutine_threadsafe(self._run(), self._loop)

    def submit(self, ticket: int, sample: int) -> None:
        """Queue a request; returns at once."""
        self._waiting.append((ticket, sample))
        if not self._is_awake:
            self._is_awake = True
            self._loop.call_soon_threadsafe(self._dispatch)

    def stats(self) -> tuple[EndpointStats, ...]:
        """Return each endpoint's figures."""
        return tuple(endpoint.stats for endpoint in self._endpoints)

    def close(self) -> None:
        """End the calls and the channels."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._served.result()

    def take(
        self,
        endpoint: GrpcEndpoint,
        ticket: int,
        outputs: list[Array],
        arrived_s: float,
    ) -> None:
        """Take an answer; it is handed over with what else has arrived."""
        stats = endpoint.stats
        stats.answered += 1
        stats.outstanding -= 1
        self._times.decode_s += time.monotonic() - arrived_s
        self.pulse += 1
        if not self._answers:
            self._loop.call_soon(self.hand_over)
        self._answers.append((ticket, Answer(outputs=outputs)))

    def fail(self, error: BaseException) -> None:
        """Tell the listener of the first failure; others follow from it."""
        if not self._has_failed and not self._ended.is_set():
            self._has_failed = True
            self._listener.failed(error)

    async def _run(self) -> None:
        try:
            await self._serve()
        except BaseException as error:  # noqa: BLE001 - the listener ends the run
            self.fail(error)

    async def _serve(self) -> None:
        import grpc

        kind = StreamCaller if self._is_streaming else UnaryCaller
        channels = []
        for endpoint in self._endpoints:
            channel = open_channel(grpc.aio, endpoint.address, endpoint.ca_file)
            channels.append(channel)
            self._callers.append(kind(self, endpoint, channel))
        self._is_ready = True
        self._dispatch()
        try:
            while not self._ended.is_set():
                try:
                    await asyncio.wait_for(self._ended.wait(), TICK_S)
                except TimeoutError:
                    self._check_times()
        finally:
            for caller in self._callers:
                await caller.close()
            for channel in channels:
                await channel.close()

    def _check_times(self) -> None:
        now = time.monotonic()
        try:
            for caller in self._callers:
                caller.check_times(now)
        except RequestFailed as error:
            self.fail(error)
        if any(endpoint.stats.outstanding for endpoint in self._endpoints):
            # Nothing shows that a whole answer is on its way; it has its own limit.
            self.pulse += 1

    def hand_over(self) -> None:
        """Hand over what was taken, and send what may be sent now."""
        if not self._answers:
            return
        answers, self._answers = self._answers, []
        self._is_awake = True  # what an answer's listener queues is sent below
        try:
            self._listener.done(answers)
        except BaseException as error:  # noqa: BLE001 - the listener ends the run
            self.fail(error)
        self._dispatch()

    def _dispatch(self) -> None:
        self._is_awake = False  # first: what is queued from now on wakes the loop again
        waiting = self._waiting
        while waiting and self._is_ready and not self._has_failed:
            place = self._choose_endpoint()
            endpoint = self._endpoints[place]
            if endpoint.stats.outstanding >= endpoint.limit:
                return
            self._turn += 1
            ticket, sample = waiting.popleft()
            endpoint.stats.begin()
            try:
                self._callers[place].send(ticket, sample)
            except RunRefused as error:  # of a GPU that the inputs are copied to
                self.fail(error)

    def _choose_endpoint(self) -> int:
        """Return the place of the endpoint for the next request."""
        count = len(self._endpoints)
        if self._is_round_robin or count == 1:
            return self._turn % count
        return min(range(count), key=lambda i: self._endpoints[i].stats.outstanding)
