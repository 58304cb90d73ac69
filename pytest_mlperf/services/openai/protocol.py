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
from pytest_mlperf.services.http.sse import EventReader
from pytest_mlperf.services.openai.answers import check_finish_reason
from pytest_mlperf.services.openai.answers import check_token_count
from pytest_mlperf.services.openai.answers import parse_object
from pytest_mlperf.services.openai.answers import parse_objects
from pytest_mlperf.services.openai.answers import read_choice
from pytest_mlperf.services.openai.answers import read_text
from pytest_mlperf.services.openai.answers import read_token_count
from pytest_mlperf.services.openai.answers import read_token_ids

DONE = b"[DONE]"
MOST_UNREAD = 1 << 20
"""Bytes of a stream that are held back to be parsed together, at most."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a request is written, and how its answer is read."""

    model: str
    chat: bool = False
    stream: bool = True
    extra: dict[str, Any] = field(default_factory=dict)
    """Further fields of the request: ``temperature``, ``seed``, ``ignore_eos`` …"""

    @property
    def path(self) -> str:
        return "/v1/chat/completions" if self.chat else "/v1/completions"

    def request(self, prompt: Prompt) -> bytes:
        """Return the JSON body of a request; greedy unless ``extra`` overrides it."""
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": prompt.max_tokens,
            "temperature": 0,
            "stream": self.stream,
        }
        if self.stream:
            body["stream_options"] = {"include_usage": True}
        if prompt.stop:
            body["stop"] = list(prompt.stop)
        if self.chat:
            body["messages"] = [{"role": "user", "content": prompt.text}]
        else:
            body["prompt"] = list(prompt.token_ids) or prompt.text
        body |= self.extra
        return json.dumps(body, separators=(",", ":")).encode()

    def open_reader(self, max_tokens: int) -> DocumentReader | StreamReader:
        """Return the reader of one answer."""
        reader = StreamReader if self.stream else DocumentReader
        return reader(self.chat, max_tokens)


class DocumentReader:
    """Reads an answer that is one JSON document; it has no first token."""

    __slots__ = ("_chat", "_max_tokens", "_parts")

    def __init__(self, chat: bool, max_tokens: int) -> None:
        self._chat = chat
        self._max_tokens = max_tokens
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> bool:
        """Take bytes of the body; always returns False."""
        self._parts.append(data)
        return False

    @property
    def first(self) -> Answer:
        """Empty."""
        return Answer("", 0)

    def finish(self) -> Answer:
        """Return the answer; raises ``BadAnswer``."""
        document = parse_object(b"".join(self._parts))
        choice = read_choice(document)
        if choice is None:
            raise BadAnswer("an answer with empty choices, but should hold one")
        text = read_text(choice, chat=self._chat, part="message")
        tokens = read_token_count(document)
        if tokens is None:
            raise BadAnswer(
                "an answer without usage.completion_tokens, but should say how many "
                "tokens it has; switch the server's usage on"
            )
        check_token_count(tokens, self._max_tokens, 0)
        reason = str(choice.get("finish_reason") or "")
        check_finish_reason(reason)
        return Answer(text, tokens, read_token_ids(choice), reason)


class StreamReader:
    """Reads an answer that comes as server-sent events.

    Events are parsed as they arrive up to the first token. Later ones are parsed
    together at the end, in one call of the parser instead of one a token; only a
    server's error is searched for in every piece.
    """

    __slots__ = (
        "_chat",
        "_done",
        "_events",
        "_has_begun",
        "_ids",
        "_later",
        "_later_size",
        "_max_tokens",
        "_reason",
        "_texts",
        "_usage",
    )  # fmt: skip

    def __init__(self, chat: bool, max_tokens: int) -> None:
        self._chat = chat
        self._max_tokens = max_tokens
        self._events = EventReader()
        self._texts: list[str] = []
        self._ids: list[int] = []
        self._later: list[bytes] = []
        self._later_size = 0
        self._usage: int | None = None
        self._reason = ""
        self._done = False
        self._has_begun = False

    def feed(self, data: bytes) -> bool:
        """Take bytes of the stream; return True when they hold the first token.

        Raises ``BadAnswer``.
        """
        if self._has_begun:
            self._later.append(data)
            self._later_size += len(data)
            if self._later_size > MOST_UNREAD or b'"error"' in data:
                self._parse_rest()
            return False
        events = self._split(data)
        for place, event in enumerate(events, 1):
            self._take(parse_object(event))
            if self._texts or self._ids:
                self._take_all(events[place:])
                break
        # An id without text is a token. An answer without any text has its first token
        # at the end: LoadGen needs one, and reads undefined memory otherwise.
        self._has_begun = bool(self._texts or self._ids or self._done)
        return self._has_begun

    def _parse_rest(self) -> None:
        """Parse the events that were held back."""
        data = b"".join(self._later)
        self._later.clear()
        self._later_size = 0
        self._take_all(self._split(data))

    def _split(self, data: bytes) -> list[bytes]:
        """Return the whole events, without the closing ``[DONE]``."""
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
        for document in parse_objects(events):
            self._take(document)

    def _take(self, document: dict[str, Any]) -> None:
        # Most chunks have neither usage nor ids.
        tokens = read_token_count(document) if document.get("usage") else None
        if tokens is not None:
            self._usage = tokens
        choice = read_choice(document)
        if choice is None:
            # The closing chunk with the usage has none.
            if tokens is None:
                raise BadAnswer("a chunk with empty choices and no usage")
            return
        if text := read_text(choice, chat=self._chat, part="delta"):
            self._texts.append(text)
        may_have_ids = "token_ids" in choice or choice.get("logprobs")
        if may_have_ids and (ids := read_token_ids(choice)):
            self._ids += ids
        if reason := choice.get("finish_reason"):
            self._reason = str(reason)

    @property
    def first(self) -> Answer:
        """The first token; with the text of its event, which may hold more tokens."""
        text = self._texts[0] if self._texts else ""
        return Answer(text, 1, tuple(self._ids[:1]) or None)

    def finish(self) -> Answer:
        """Return the answer once the body has ended; raises ``BadAnswer``."""
        self._parse_rest()
        if not self._done:
            last = "in the middle of an event" if self._events.is_partial else "early"
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
        check_token_count(tokens, self._max_tokens, len(self._texts))
        check_finish_reason(self._reason)
        ids = tuple(self._ids) or None
        return Answer("".join(self._texts), tokens, ids, self._reason)
