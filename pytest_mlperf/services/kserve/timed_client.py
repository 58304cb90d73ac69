"""A client of tensors that tells where its requests' time went."""

from __future__ import annotations

import time
from collections.abc import Callable

from pytest_mlperf.api.service import EndpointStats
from pytest_mlperf.api.service import Listener
from pytest_mlperf.api.service import Service
from pytest_mlperf.core.latency_breakdown import LatencyBreakdown
from pytest_mlperf.services.kserve.statistics import PHASES
from pytest_mlperf.services.kserve.statistics import ServerStatistics
from pytest_mlperf.services.kserve.tensors import ReceiveTimes

LATE_S, TRIES = 0.02, 10
"""A server counts a request once it has let go of it, just after its answer."""


class TimedClient:
    """A client that ``BreaksDownLatency``: it reads the server's counters too."""

    def __init__(
        self,
        open_client: Callable[[Listener], Service],
        listener: Listener,
        times: ReceiveTimes,
        read_statistics: Callable[[], ServerStatistics | None],
    ) -> None:
        self._times, self._read = times, read_statistics
        self._before = read_statistics()
        self._after: ServerStatistics | None = None
        self._client = open_client(listener)
        self.submit = self._client.submit

    @property
    def pulse(self) -> int:
        return self._client.pulse

    def stats(self) -> tuple[EndpointStats, ...]:
        """Return each server's figures, as the client saw them."""
        return self._client.stats()

    def close(self) -> None:
        """Close the connections, and read the server's counters."""
        self._client.close()
        if self._before is None:
            return
        for _ in range(TRIES):
            self._after = self._read()
            if self._after is None or self._served.requests >= self._answered:
                return
            time.sleep(LATE_S)

    @property
    def _answered(self) -> int:
        return sum(one.answered for one in self._client.stats())

    @property
    def _served(self) -> ServerStatistics:
        assert self._before is not None
        assert self._after is not None
        return self._after - self._before

    def breakdown(self, latency_s: float) -> LatencyBreakdown | str:
        """Return the mean time of each step, or why it cannot be told."""
        count = self._answered
        if self._before is None or self._after is None:
            return "the server keeps no statistics of the model"
        if not count:
            return "no request was answered"
        served, stats = self._served, self._client.stats()
        if served.requests != count:
            return (
                f"the server counted {served.requests:,} requests of the model, but "
                f"{count:,} were sent: another client asked it meanwhile"
            )
        answer_s = sum(one.answer_s for one in stats) / count
        decode_s = self._times.decode_s / count
        phases = dict(zip(PHASES, served.phase_ns, strict=True))
        return LatencyBreakdown(
            requests=count,
            client_wait_s=latency_s - answer_s - decode_s,
            client_send_s=sum(one.send_s for one in stats) / count,
            answer_s=answer_s,
            client_recv_s=self._times.arrive_s / count,
            decode_s=decode_s,
            server_s=served.success_ns / 1e9 / count,
            **{f"{name}_s": ns / 1e9 / count for name, ns in phases.items()},
        )
