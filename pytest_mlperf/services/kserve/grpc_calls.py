"""Requests to one server of gRPC: each a call of its own, or all in one stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any
from typing import Protocol

from pytest_mlperf.api.errors import BadAnswer
from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.service import EndpointStats
from pytest_mlperf.services.http.address import Address
from pytest_mlperf.services.kserve.grpc_channel import SERVICE
from pytest_mlperf.services.kserve.grpc_channel import describe_error
from pytest_mlperf.services.kserve.grpc_channel import make_metadata
from pytest_mlperf.services.kserve.grpc_messages import AnswerDecoder
from pytest_mlperf.services.kserve.grpc_messages import encode_id

Request = tuple[int, int, float]
"""Ticket, sample, and when it was sent (monotonic seconds)."""


class GrpcEndpoint:
    """One server: its channel, its figures and its limit."""

    def __init__(
        self,
        address: Address,
        limit: int,
        head: bytes,
        *,
        headers: Mapping[str, str],
        ca_file: str | None = None,
    ) -> None:
        """``limit``: requests outstanding at most. ``head``: the part of every request
        that names the model.
        """
        self.address, self.limit, self.head = address, limit, head
        self.metadata = make_metadata(headers)
        self.ca_file = ca_file
        self.stats = EndpointStats(address.url)

    def fail(self, sample: int, sent_s: float, problem: str) -> RequestFailed:
        """Return the error of a request."""
        after_s = time.monotonic() - sent_s
        return RequestFailed(self.address.url, sample, after_s, problem)


class RequestCaller(Protocol):
    """How requests go to one server: each a call, or all in one stream."""

    def send(self, ticket: int, sample: int) -> None:
        """Send a request; what became of it goes to an ``AnswerTaker``."""

    async def close(self) -> None: ...

    def check_times(self, now: float) -> None:
        """Raise ``RequestFailed`` for a request that has waited for too long."""


class AnswerTaker(Protocol):
    """The client that callers work for."""

    @property
    def decoder(self) -> AnswerDecoder: ...

    @property
    def requests(self) -> Mapping[int, bytes]:
        """Sample -> what follows an endpoint's head."""

    @property
    def timeout_s(self) -> float: ...

    def take(
        self,
        endpoint: GrpcEndpoint,
        ticket: int,
        outputs: list[Array],
        arrived_s: float,
    ) -> None:
        """Take an answer; it is handed over soon, with others."""

    def hand_over(self) -> None:
        """Hand over what was taken, at once."""

    def fail(self, error: BaseException) -> None:
        """End the run: a request failed."""


class UnaryCaller:
    """A ``RequestCaller`` that makes a call of each request (``ModelInfer``)."""

    def __init__(
        self, client: AnswerTaker, endpoint: GrpcEndpoint, channel: Any
    ) -> None:
        self._client, self._endpoint = client, endpoint
        self._ask = channel.unary_unary(f"{SERVICE}/ModelInfer")
        self._loop = asyncio.get_running_loop()
        self._calls: set[Any] = set()
        self._late: set[asyncio.Task[None]] = set()
        self._over: list[tuple[Request, float, Any]] = []
        """Requests whose call is over, when it was, and the call."""

    def send(self, ticket: int, sample: int) -> None:
        endpoint, sent_s = self._endpoint, time.monotonic()
        body = endpoint.head + self._client.requests[sample]
        call = self._ask(
            body, timeout=self._client.timeout_s, metadata=endpoint.metadata
        )
        endpoint.stats.send_s += time.monotonic() - sent_s
        self._calls.add(call)
        call.add_done_callback(partial(self._note, (ticket, sample, sent_s)))

    def _note(self, request: Request, call: Any) -> None:
        """See a call's end. Its answer is there when gRPC's own step is over."""
        if not self._over:
            self._loop.call_soon(self._read_all)
        self._over.append((request, time.monotonic(), call))

    def _read_all(self) -> None:
        over, self._over = self._over, []
        for request, arrived_s, call in over:
            self._calls.discard(call)
            # A task for each would cost as much as gRPC's own.
            step = self._read(request, arrived_s, call)
            try:
                step.send(None)
            except StopIteration:
                continue
            step.close()
            task = self._loop.create_task(self._read(request, arrived_s, call))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
        self._client.hand_over()

    async def _read(self, request: Request, arrived_s: float, call: Any) -> None:
        """Take a call's answer; does not wait where it is there."""
        client, endpoint = self._client, self._endpoint
        ticket, sample, sent_s = request
        try:
            data = await call
            endpoint.stats.answer_s += arrived_s - sent_s
            outputs = client.decoder.decode(data, sample)
        except BadAnswer as error:
            client.fail(endpoint.fail(sample, sent_s, str(error)))
        except asyncio.CancelledError:
            return  # by close()
        except Exception as error:  # noqa: BLE001 - nobody awaits it
            client.fail(self._explain(error, sample, sent_s))
        else:
            client.take(endpoint, ticket, outputs, arrived_s)

    def _explain(self, error: Exception, sample: int, sent_s: float) -> Exception:
        """Return what the run ends with when a call failed."""
        import grpc

        if isinstance(error, grpc.aio.UsageError):
            return self._endpoint.fail(sample, sent_s, str(error))
        if not isinstance(error, grpc.aio.AioRpcError):
            return error
        problem = describe_error(error)
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            timeout_s = self._client.timeout_s
            problem = f"no whole answer in {timeout_s:g} s ({problem})"
        return self._endpoint.fail(sample, sent_s, problem)

    async def close(self) -> None:
        for call in self._calls:
            call.cancel()
        await cancel_all(self._late)

    def check_times(self, now: float) -> None:
        """Each call has its own deadline."""


class StreamCaller:
    """A ``RequestCaller`` that sends all requests in one stream (``ModelStreamInfer``).

    Answers may come in any order; each has the id of its request.
    """

    def __init__(
        self, client: AnswerTaker, endpoint: GrpcEndpoint, channel: Any
    ) -> None:
        self._client, self._endpoint = client, endpoint
        stream = channel.stream_stream(f"{SERVICE}/ModelStreamInfer")
        self._call = stream(metadata=endpoint.metadata)
        self._unsent: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self._sent: dict[str, tuple[int, int, float]] = {}
        """Id -> ticket, sample, and when it was sent; the oldest first."""
        self._answered = (-1, -1, time.monotonic())
        """The same of the last one that was answered."""
        self._number = 0
        loop = asyncio.get_running_loop()
        self._tasks = {
            loop.create_task(self._guard(work)) for work in (self._write, self._read)
        }

    def send(self, ticket: int, sample: int) -> None:
        self._number += 1
        self._sent[str(self._number)] = ticket, sample, time.monotonic()
        body = self._endpoint.head + self._client.requests[sample]
        self._unsent.put_nowait((self._number, body + encode_id(self._number)))

    async def _guard(self, work: Any) -> None:
        import grpc

        try:
            await work()
        except grpc.aio.AioRpcError as error:
            problem = f"the server ended the stream ({describe_error(error)})"
            self._client.fail(self._fail_oldest(problem))
        except (BadAnswer, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            self._client.fail(self._fail_oldest(str(error)))
        except RequestFailed as error:
            self._client.fail(error)

    async def _write(self) -> None:
        import grpc

        stats = self._endpoint.stats
        while True:
            number, body = await self._unsent.get()
            try:
                await self._call.write(body)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return  # the stream has ended, and its reader is told why
            stats.send_s += time.monotonic() - self._sent_s(number)

    def _sent_s(self, number: int) -> float:
        # A fast server's answer may be read before the write has returned.
        one = self._sent.get(str(number))
        return one[2] if one else time.monotonic()

    async def _read(self) -> None:
        import grpc

        client, endpoint, decoder = self._client, self._endpoint, self._client.decoder
        while True:
            data = await self._call.read()
            arrived_s = time.monotonic()
            if data is grpc.aio.EOF:
                status = await self._call.code()
                details = await self._call.details()
                raise self._fail_oldest(
                    f"the server ended the stream (gRPC {status.name}: {details})"
                )
            number, problem, message = decoder.decode_streamed(data)
            if problem:
                raise self._fail_request(number, f"the server's error: {problem}")
            found = self._sent.pop(number, None)
            if found is None:
                raise self._fail_oldest(
                    f"an answer to request {number!r}, but no such request is "
                    "outstanding: the server answered twice, or another's request"
                )
            self._answered = ticket, sample, sent_s = found
            endpoint.stats.answer_s += arrived_s - sent_s
            try:
                outputs = decoder.read_outputs(message, sample)
            except BadAnswer as error:
                raise endpoint.fail(sample, sent_s, str(error)) from None
            client.take(endpoint, ticket, outputs, arrived_s)

    def _fail_request(self, number: str, problem: str) -> RequestFailed:
        if number not in self._sent:
            return self._fail_oldest(problem)
        _, sample, sent_s = self._sent[number]
        return self._endpoint.fail(sample, sent_s, problem)

    def _fail_oldest(self, problem: str) -> RequestFailed:
        """Return the error of a stream, which names its oldest request; where none is
        outstanding, the last one.
        """
        _, sample, sent_s = next(iter(self._sent.values()), self._answered)
        return self._endpoint.fail(sample, sent_s, problem)

    async def close(self) -> None:
        self._call.cancel()
        await cancel_all(self._tasks)

    def check_times(self, now: float) -> None:
        if not self._sent:
            return
        timeout_s = self._client.timeout_s
        if now - next(iter(self._sent.values()))[2] > timeout_s:
            raise self._fail_oldest(f"no whole answer in {timeout_s:g} s")


async def cancel_all(tasks: set[asyncio.Task[None]]) -> None:
    """End tasks."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
