"""What a service must offer: answers to single requests, asynchronously.

An engine runs a batch that the suite made; a service makes its own batches and is
sent one request a sample: an LLM endpoint, a Triton server. A service is one file and
one entry point (group ``pytest_mlperf.services``); nothing is subclassed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any
from typing import Protocol
from typing import runtime_checkable

from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.workload import PromptWorkload
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.config.option_types import TOKEN_ENV
from pytest_mlperf.core.latency_breakdown import LatencyBreakdown

SEVERAL = 1.05
"""Tokens an event on average from which the facts say so."""
PAUSES, PAUSE_SHARE = 10, 0.2
"""How many pauses, and which share of all parts, are no accident."""


@dataclass(slots=True)
class EndpointStats:
    """What one endpoint did during a run; times are seconds."""

    url: str
    sent: int = 0
    answered: int = 0
    outstanding: int = 0
    most_outstanding: int = 0
    resent: int = 0
    """Requests sent again because a kept connection had been closed while idle."""
    tokens: int = 0
    events: int = 0
    """Events of streams that brought tokens."""
    event_tokens: Counter[int] = field(default_factory=Counter)
    """Tokens in an event -> events, where the service counts them event by event."""
    passed_over: int = 0
    """Events and fields that were no part of an answer."""
    later_parts: int = 0
    """Pieces of answers after the first ones."""
    pauses: int = 0
    """Of those, that came 40 ms after the one before, as acknowledgements that are held
    back make them."""
    first_token_s: float = 0.0
    """Sum over requests, from sending to the first token."""
    answer_s: float = 0.0
    """Sum over requests, from sending to the last byte."""
    send_s: float = 0.0
    """Sum over requests, until the last byte is handed to the kernel."""

    def begin(self) -> None:
        """Count a request that is being sent."""
        self.sent += 1
        self.outstanding += 1
        if self.outstanding > self.most_outstanding:
            self.most_outstanding = self.outstanding

    def facts(self) -> dict[str, str]:
        """Return the figures as a verdict's facts, means in milliseconds."""
        found = {
            "requests": f"{self.answered:,} of {self.sent:,}",
            "most outstanding": str(self.most_outstanding),
        }
        if self.answered:
            found["mean answer"] = f"{self.answer_s / self.answered * 1e3:.1f} ms"
        if self.tokens:
            found["tokens"] = f"{self.tokens:,}"
        if self.first_token_s:  # whole answers have no first token
            first = self.first_token_s / max(self.answered, 1) * 1e3
            found["mean first token"] = f"{first:.1f} ms"
        if self.resent:
            found["sent again"] = str(self.resent)
        if several := self._describe_events():
            found["tokens an event"] = several
        if self.passed_over:
            found["passed over"] = f"{self.passed_over:,} events or fields"
        if self.pauses >= max(PAUSES, PAUSE_SHARE * self.later_parts):
            found["pauses of 40 ms"] = (
                f"{self.pauses:,} between {self.later_parts:,} parts of answers; where "
                "tokens are quicker, set TCP_NODELAY in the server or its proxy"
            )
        return found

    def _describe_events(self) -> str:
        """Return how many tokens came in one event; empty where it was always one."""
        most = max(self.event_tokens, default=0)
        if most and self.event_tokens.total() == self.events:
            middle, high = (find_rank(self.event_tokens, q) for q in (0.5, 0.99))
            return f"p50 {middle}, p99 {high}, most {most}" if most > 1 else ""
        mean = self.tokens / self.events if self.events else 1
        return f"mean {mean:.2f}" if mean >= SEVERAL else ""


def find_rank(counts: Counter[int], share: float) -> int:
    """Return the value at a rank, as LoadGen picks percentiles, of counted values."""
    rank, seen = int(counts.total() * share), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen > rank:
            return value
    return 0


class Listener(Protocol):
    """Who is told what became of the requests; called on the service's thread."""

    def first_token(self, firsts: Sequence[tuple[int, Answer]]) -> None:
        """The first token of each of these requests has arrived, and here it is."""

    def done(self, answers: Sequence[tuple[int, Answer]]) -> None:
        """These requests are answered."""

    def failed(self, error: BaseException) -> None:
        """The run is over: a request failed."""


class Service(Protocol):
    """A running client of a service."""

    def submit(self, ticket: int, sample: int) -> None:
        """Send a sample's request, now or as soon as there is room; never blocks.

        The ticket comes back with the answer; it is LoadGen's query id.
        """

    def stats(self) -> tuple[EndpointStats, ...]:
        """Return what each endpoint did so far."""

    @property
    def pulse(self) -> int:
        """Grows with whatever arrives: a long answer is no hang while it does."""

    def close(self) -> None:
        """Let go of connections and threads."""


@runtime_checkable
class BreaksDownLatency(Protocol):
    """A client that can tell where its requests' time went."""

    def breakdown(self, latency_s: float) -> LatencyBreakdown | str:
        """Return the mean time of each step, or why it cannot be told; after
        ``close``.

        ``latency_s``: mean over the requests, from their issue to their completion.
        """


@dataclass(frozen=True, slots=True)
class ServiceTarget:
    """Where a service is and how it is spoken to."""

    urls: tuple[str, ...]
    model: str = ""
    concurrency: int = 1024
    """Requests outstanding at most, over all endpoints; the rest wait in line."""
    balance: str = "least"
    """``least`` outstanding, or ``round``-robin."""
    chat: bool = False
    """Asked as a conversation, not for the continuation of a text."""
    stream: bool = True
    """Answers come token by token."""
    asks_ids: Mapping[str, Any] = field(default_factory=dict)
    """What in a request makes the service tell token ids; found out before the run,
    and empty for one that tells none."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What the rules and the service want in every request beside the prompt."""
    refused: tuple[str, ...] = ()
    """Of the fields that the rules want, those that the service refuses: they are left
    out, and the verdict says so."""
    counts_tokens: bool = False
    """Every event of a stream is asked for the number of tokens so far."""
    keeps_connections: bool = True
    """False for a service that closes a connection after each answer without telling:
    each request gets one of its own."""
    timeout_s: float = 600.0
    """A request without an answer for this long is a failure."""
    stall_s: float = 120.0
    """A stream that has begun and sends nothing for this long is a failure."""
    health: str = ""
    """The path of its health page, where the user names one."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Secrets stand here and nowhere else: never in a log, a label or a repr."""
    key_name: str = TOKEN_ENV
    """The environment variable that the bearer token was looked for in."""
    ca_file: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    """What only one service understands: ``--mlperf-engine-options``."""

    @property
    def concurrency_each(self) -> int:
        """Requests outstanding at most at each endpoint."""
        return max(1, -(-self.concurrency // len(self.urls)))

    def __repr__(self) -> str:
        return f"Target({', '.join(self.urls)}, model={self.model!r})"


class Requests(Protocol):
    """A workload's requests, ready to be sent: LoadGen's view of the samples."""

    @property
    def total(self) -> int: ...

    @property
    def performance_count(self) -> int: ...

    def load(self, indices: Sequence[int]) -> None:
        """Make the requests of these samples. Untimed."""

    def unload(self, indices: Sequence[int]) -> None:
        """Let go of them."""


class ServiceProvider(Protocol):
    """A kind of service as it registers itself."""

    @property
    def offers(self) -> frozenset[str]:
        """Of ``prompts``, ``tensors`` and ``recordings``: which benchmarks it can
        answer.
        """

    def check(
        self,
        target: ServiceTarget,
        workload: PromptWorkload | TensorWorkload,
        beat: Callable[[], None],
    ) -> tuple[ServiceTarget, Mapping[str, str]]:
        """Return the target with what every endpoint said of itself, and as facts.

        Raises ``RunRefused`` for an endpoint that is not there, does not let us in,
        does not serve the model, or does not answer a test request.
        """

    def requests(
        self, target: ServiceTarget, workload: PromptWorkload | TensorWorkload
    ) -> Requests:
        """Return the workload's requests as the service wants them."""

    def open(
        self, target: ServiceTarget, requests: Requests, listener: Listener
    ) -> Service:
        """Return a client of the service; opens connections when it needs them."""


# What only some providers can do.


@runtime_checkable
class SendsBatches(Protocol):
    """A provider whose requests may have several samples: static batching."""

    def batched_requests(
        self,
        target: ServiceTarget,
        workload: PromptWorkload | TensorWorkload,
        size: int,
    ) -> Requests:
        """Return the workload's requests of ``size`` samples each."""


@runtime_checkable
class NamesServers(Protocol):
    """A provider whose servers can be a SUT over a network: each tells its name."""

    def ask_names(self, target: ServiceTarget) -> Mapping[str, str]:
        """Return URL -> what its server calls itself, asked at each call.

        Raises ``RunRefused`` where nobody answers.
        """


@runtime_checkable
class FindsAbsentServers(Protocol):
    """A provider that can tell before the first item that nobody would answer."""

    def unavailable(self, target: ServiceTarget) -> str | None:
        """Say which server does not listen, or which package is missing, and what to
        start or install; None where there is none of this.

        ``target``: the user's URLs; none of them where the embedded server is meant.
        Called in pytest's process.
        """
