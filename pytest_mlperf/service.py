"""What a service must offer: answers to single requests, asynchronously.

An engine runs a batch that the suite made; a service makes its own batches and is
sent one request a sample: an LLM endpoint, a Triton server. A service is one file and
one entry point (group ``pytest_mlperf.services``); nothing is subclassed.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service said to one request."""

    text: str
    tokens: int
    """Output tokens, as the service counts them (its usage), else its chunks."""
    token_ids: tuple[int, ...] | None = None
    """Where the service tells them."""
    finish: str = ""
    """Why it ended, in the service's word: ``stop``, ``length``."""


@dataclass(slots=True)
class EndpointStats:
    """What one endpoint did during a run; times are seconds."""

    url: str
    sent: int = 0
    answered: int = 0
    outstanding: int = 0
    most_outstanding: int = 0
    reconnected: int = 0
    """Requests sent again because a kept connection had been closed under them."""
    tokens: int = 0
    first_token_s: float = 0.0
    """Sum over requests, from sending to the first token."""
    answer_s: float = 0.0
    """Sum over requests, from sending to the last byte."""

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
            first = self.first_token_s / max(self.answered, 1) * 1e3
            found["mean first token"] = f"{first:.1f} ms"
        if self.reconnected:
            found["sent again"] = str(self.reconnected)
        return found


class RequestFailed(Exception):
    """A request got no answer that counts: endpoint, request, time and problem."""

    def __init__(self, url: str, sample: int, after_s: float, problem: str) -> None:
        self.url = url
        self.sample = sample
        self.after_s = after_s
        self.problem = problem
        super().__init__(
            f"{url}: request for sample {sample} failed after {after_s:.3f} s: "
            f"{problem}"
        )


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

    def close(self) -> None:
        """Let go of connections and threads."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a service is and how it is spoken to."""

    urls: tuple[str, ...]
    model: str = ""
    concurrency: int = 1024
    """Requests outstanding at most, over all endpoints; the rest wait in line."""
    balance: str = "least"
    """``least`` outstanding, or ``round``-robin."""
    timeout_s: float = 600.0
    """A request without an answer for this long is a failure."""
    stall_s: float = 120.0
    """A stream without a byte for this long is a failure."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Secrets stand here and nowhere else: never in a log, a label or a repr."""
    ca_file: str | None = None

    def __repr__(self) -> str:
        return f"Target({', '.join(self.urls)}, model={self.model!r})"
