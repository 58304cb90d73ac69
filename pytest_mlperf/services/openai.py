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

from pytest_mlperf.service import Answer
from pytest_mlperf.services.sse import BadStream
from pytest_mlperf.services.sse import Events

DONE = b"[DONE]"
MOST_UNREAD = 1 << 20
"""Bytes of a stream that are kept to be parsed together."""
SCAN = json.JSONDecoder().raw_decode
"""The parser alone: ``json.loads`` takes as long again to look for an encoding."""
BROKEN_OFF = ("abort", "cancelled", "content_filter", "error", "timeout")
"""Reasons to end with which a server says that an answer is not whole: vLLM's and
SGLang's, TensorRT-LLM's, OpenAI's."""


class BadAnswer(Exception):
    """An answer that does not count; the text says what was found and expected."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a request asks."""

    text: str = ""
    token_ids: tuple[int, ...] = ()
    """Instead of the text, for completions."""
    max_tokens: int = 128
    stop: tuple[str, ...] = ()


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


def parse(data: bytes) -> dict[str, Any]:
    """Return the JSON object; ``BadAnswer`` for anything else, or a server's error."""
    try:
        text = data.decode().strip()
        found, end = SCAN(text)
    except (ValueError, RecursionError):
        raise BadAnswer(f"{data[:80]!r}, but should be a JSON object") from None
    if type(found) is not dict or end != len(text):
        raise BadAnswer(f"{data[:80]!r}, but should be a JSON object")
    if "error" in found:
        raise BadAnswer(f"the server's error {str(found['error'])[:200]}")
    return found


def parse_all(events: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return the JSON object of each event; ``BadAnswer`` as ``parse`` has it."""
    try:
        text = f"[{b','.join(events).decode()}]"
        found, end = SCAN(text)
    except (ValueError, RecursionError):
        found, end, text = [], -1, ""
    # Events that are objects only together are not what they should be.
    alike = end == len(text) and len(found) == len(events)
    if alike and all(type(one) is dict and "error" not in one for one in found):
        return found  # type: ignore[no-any-return]
    return [parse(event) for event in events]


def first_choice(document: dict[str, Any]) -> dict[str, Any] | None:
    """Return the first choice, or None where there is none."""
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices:
        return None
    if not isinstance(choices[0], dict):
        raise BadAnswer(f"a choice that is {str(choices[0])[:60]!r}, no JSON object")
    return choices[0]


def content(choice: dict[str, Any], *, chat: bool, part: str) -> str:
    """Return the text of a choice or of its delta; reasoning counts as text."""
    if not chat:
        found = choice.get("text")
    else:
        inner = choice.get(part)
        if not isinstance(inner, dict):
            raise BadAnswer(f"a choice without {part}; is this a chat endpoint?")
        found = inner.get("content")
        # vLLM's name for it changed to the second.
        found = found or inner.get("reasoning_content") or inner.get("reasoning")
    if found is None:
        return ""
    if not isinstance(found, str):
        raise BadAnswer(f"content that is {type(found).__name__}, but should be text")
    return found


def usage(document: dict[str, Any]) -> int | None:
    """Return usage.completion_tokens where the document has it."""
    found = document.get("usage")
    tokens = found.get("completion_tokens") if isinstance(found, dict) else None
    if tokens is not None and (type(tokens) is not int or tokens < 0):
        raise BadAnswer(f"usage.completion_tokens {str(tokens)[:40]!r}, no count")
    return tokens


def token_ids(choice: dict[str, Any]) -> tuple[int, ...] | None:
    """Return the token ids that a service tells on request.

    vLLM and others as ``token_ids``; llama.cpp beside the probability of each token.
    """
    found = choice.get("token_ids")
    if found is None and isinstance(beside := choice.get("logprobs"), dict):
        tokens = beside.get("content")
        if isinstance(tokens, list) and all(isinstance(t, dict) for t in tokens):
            found = [token.get("id") for token in tokens]
    if not isinstance(found, Sequence) or not all(type(i) is int for i in found):
        return None
    return tuple(found)


def check_tokens(tokens: int, most: int, chunks: int) -> None:
    """Raise ``BadAnswer`` for a count of tokens that cannot be."""
    if tokens < 1:
        raise BadAnswer("an answer without a token, but should have one at least")
    if tokens > most:
        raise BadAnswer(f"{tokens} tokens, but max_tokens allows {most}")
    if chunks > tokens:
        raise BadAnswer(f"{tokens} tokens by its usage, but {chunks} chunks with text")


def check_reason(reason: str) -> None:
    """Raise ``BadAnswer`` for an answer that the server broke off."""
    if reason in BROKEN_OFF:
        raise BadAnswer(
            f"an answer that the server broke off (finish_reason {reason!r}), but "
            "should be whole"
        )
