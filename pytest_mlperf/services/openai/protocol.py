"""The OpenAI interface, without sockets: requests out, answers in.

``/v1/completions`` and ``/v1/chat/completions``, whole or streamed, as trtllm-serve,
vLLM, SGLang and llama.cpp speak it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from pytest_mlperf.api.errors import BadAnswer
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.samples import Prompt
from pytest_mlperf.services.http.sse import BadStream
from pytest_mlperf.services.http.sse import Events
from pytest_mlperf.services.openai.answers import check_reason
from pytest_mlperf.services.openai.answers import check_tokens
from pytest_mlperf.services.openai.answers import content
from pytest_mlperf.services.openai.answers import first_choice
from pytest_mlperf.services.openai.answers import parse
from pytest_mlperf.services.openai.answers import parse_all
from pytest_mlperf.services.openai.answers import token_ids
from pytest_mlperf.services.openai.answers import usage

DONE = b"[DONE]"
MOST_UNREAD = 1 << 20
"""Bytes of a stream that are kept to be parsed together."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How requests are written."""

    model: str
    chat: bool = False
    stream: bool = True
    extra: dict[str, Any] = field(default_factory=dict)
    """Further fields of the request: ``temperature``, ``seed``, ``ignore_eos`` …"""

    @property
    def path(self) -> str:
        return "/v1/chat/completions" if self.chat else "/v1/completions"

    def request(self, prompt: Prompt) -> bytes:
        """Return the JSON body of a request, greedy unless ``extra`` says other."""
        found: dict[str, Any] = {
            "model": self.model,
            "max_tokens": prompt.max_tokens,
            "temperature": 0,
            "stream": self.stream,
        }
        if self.stream:
            found["stream_options"] = {"include_usage": True}
        if prompt.stop:
            found["stop"] = list(prompt.stop)
        if self.chat:
            found["messages"] = [{"role": "user", "content": prompt.text}]
        else:
            found["prompt"] = list(prompt.token_ids) or prompt.text
        found |= self.extra
        return json.dumps(found, separators=(",", ":")).encode()

    def exchange(self, max_tokens: int) -> Whole | Stream:
        """Return what reads one answer."""
        kind = Stream if self.stream else Whole
        return kind(self.chat, max_tokens)


class Whole:
    """Reads an answer that comes as one JSON document."""

    __slots__ = ("_chat", "_max_tokens", "_parts")

    def __init__(self, chat: bool, max_tokens: int) -> None:
        self._chat = chat
        self._max_tokens = max_tokens
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> bool:
        """Take bytes of the body; an answer like this has no first token."""
        self._parts.append(data)
        return False

    @property
    def first(self) -> Answer:
        """An answer like this has no first token."""
        return Answer("", 0)

    def finish(self) -> Answer:
        """Return the answer; ``BadAnswer`` for anything that is none."""
        document = parse(b"".join(self._parts))
        choice = first_choice(document)
        if choice is None:
            raise BadAnswer("an answer with empty choices, but should hold one")
        text = content(choice, chat=self._chat, part="message")
        tokens = usage(document)
        if tokens is None:
            raise BadAnswer(
                "an answer without usage.completion_tokens, but should say how many "
                "tokens it has; switch the server's usage on"
            )
        check_tokens(tokens, self._max_tokens, 0)
        reason = str(choice.get("finish_reason") or "")
        check_reason(reason)
        return Answer(text, tokens, token_ids(choice), reason)


class Stream:
    """Reads an answer that comes as server-sent events.

    They are looked at as they come until the first token is among them. Nothing waits
    for what comes later, which is parsed together at the end: one call of the parser
    instead of one a token. Only a server's error is looked for all the time.
    """

    __slots__ = (
        "_begun", "_chat", "_done", "_events", "_ids", "_later", "_later_size",
        "_max_tokens", "_reason", "_texts", "_usage",
    )  # fmt: skip

    def __init__(self, chat: bool, max_tokens: int) -> None:
        self._chat = chat
        self._max_tokens = max_tokens
        self._events = Events()
        self._texts: list[str] = []
        self._ids: list[int] = []
        self._later: list[bytes] = []
        self._later_size = 0
        self._usage: int | None = None
        self._reason = ""
        self._done = False
        self._begun = False

    def feed(self, data: bytes) -> bool:
        """Take bytes of the stream; True when the first token is among them.

        Raises ``BadAnswer``.
        """
        if self._begun:
            self._later.append(data)
            self._later_size += len(data)
            if self._later_size > MOST_UNREAD or b'"error"' in data:
                self._look()
            return False
        events = self._split(data)
        for place, event in enumerate(events, 1):
            self._take(parse(event))
            if self._texts or self._ids:
                self._take_all(events[place:])
                break
        # A token whose text is still to come is one. An answer that has no text at all
        # ends with its first token: without one, LoadGen reads where nothing is.
        self._begun = bool(self._texts or self._ids or self._done)
        return self._begun

    def _look(self) -> None:
        """Look at what nothing has waited for."""
        data = b"".join(self._later)
        self._later.clear()
        self._later_size = 0
        self._take_all(self._split(data))

    def _split(self, data: bytes) -> list[bytes]:
        """Return the events that are whole, without the last of all."""
        try:
            events = self._events.feed(data)
        except BadStream as error:
            raise BadAnswer(f"a malformed event stream: {error}") from None
        if self._done or DONE in events:
            if events and (self._done or events.index(DONE) < len(events) - 1):
                raise BadAnswer("an event after [DONE], but should be the last")
            events = events[:-1]
            self._done = True
        return events

    def _take_all(self, events: Sequence[bytes]) -> None:
        for document in parse_all(events):
            self._take(document)

    def _take(self, document: dict[str, Any]) -> None:
        # Most chunks have neither usage nor ids, and there are many of them.
        tokens = usage(document) if document.get("usage") else None
        if tokens is not None:
            self._usage = tokens
        choice = first_choice(document)
        if choice is None:
            # The closing chunk with the usage has none.
            if tokens is None:
                raise BadAnswer("a chunk with empty choices and no usage")
            return
        if text := content(choice, chat=self._chat, part="delta"):
            self._texts.append(text)
        told = "token_ids" in choice or choice.get("logprobs")
        if told and (ids := token_ids(choice)):
            self._ids += ids
        if reason := choice.get("finish_reason"):
            self._reason = str(reason)

    @property
    def first(self) -> Answer:
        """The first token, as far as the service shows it apart."""
        text = self._texts[0] if self._texts else ""
        return Answer(text, 1, tuple(self._ids[:1]) or None)

    def finish(self) -> Answer:
        """Return the answer once the body has ended; ``BadAnswer`` for half a one."""
        self._look()
        if not self._done:
            last = "in the middle of an event" if self._events.open else "early"
            raise BadAnswer(
                f"a stream that ended {last}, after {len(self._texts)} chunks, but "
                "should end with data: [DONE]"
            )
        tokens = len(self._ids) if self._usage is None else self._usage
        if self._usage is None and not self._ids:
            raise BadAnswer(
                f"a stream of {len(self._texts)} chunks without "
                "usage.completion_tokens, but should say how many tokens it has, as "
                "stream_options asks; switch the server's usage on"
            )
        check_tokens(tokens, self._max_tokens, len(self._texts))
        check_reason(self._reason)
        ids = tuple(self._ids) or None
        return Answer("".join(self._texts), tokens, ids, self._reason)
