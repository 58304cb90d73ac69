"""The OpenAI interface, without sockets: requests out, answers in.

``/v1/completions`` and ``/v1/chat/completions``, whole or streamed, as trtllm-serve,
vLLM, SGLang and llama.cpp speak it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from pytest_mlperf.api.errors import BadAnswer
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.samples import Prompt
from pytest_mlperf.core.redaction import cut
from pytest_mlperf.services.openai.answers import check_finish_reason
from pytest_mlperf.services.openai.answers import check_token_count
from pytest_mlperf.services.openai.answers import describe
from pytest_mlperf.services.openai.answers import parse_object
from pytest_mlperf.services.openai.answers import read_choice
from pytest_mlperf.services.openai.answers import read_text
from pytest_mlperf.services.openai.answers import read_token_count
from pytest_mlperf.services.openai.answers import read_token_ids
from pytest_mlperf.services.openai.stream_reader import StreamReader


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a request is written, and how its answer is read."""

    model: str
    chat: bool = False
    stream: bool = True
    counts_tokens: bool = False
    """Every event is asked to say how many tokens there are so far."""
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
            if self.counts_tokens:
                body["stream_options"]["continuous_usage_stats"] = True
        if prompt.stop:
            body["stop"] = list(prompt.stop)
        if self.chat:
            body["messages"] = [{"role": "user", "content": prompt.text}]
        else:
            body["prompt"] = list(prompt.token_ids) or prompt.text
        body |= self.extra
        if not self.stream or self.extra.get("stream_options", body) is None:
            body.pop("stream_options", None)
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

    events = passed_over = 0
    event_tokens = ()
    """It has no events."""

    def describe(self) -> str:
        """Return what of the answer was read, for a message."""
        data = b"".join(self._parts)
        return f"its body begins with {describe(data)}" if data else ""

    def finish(self, *, is_delimited: bool = True) -> Answer:  # noqa: ARG002 - one shape
        """Return the answer; raises ``BadAnswer``."""
        document = parse_object(b"".join(self._parts))
        choice = read_choice(document)
        if choice is None:
            raise BadAnswer("an answer with empty choices, but should hold one")
        text = read_text(choice, chat=self._chat, part="message")
        ids = read_token_ids(choice)
        if text is None and ids is None:
            field = "message.content" if self._chat else "text"
            raise BadAnswer(f"a choice without {field}: {cut(str(choice), 120)}")
        tokens = read_token_count(document)
        if tokens is None:
            raise BadAnswer(
                "an answer without usage.completion_tokens, but should say how many "
                "tokens it has; switch the server's usage on"
            )
        check_token_count(tokens, self._max_tokens, 0)
        reason = str(choice.get("finish_reason") or "")
        check_finish_reason(reason)
        return Answer(text or "", tokens, ids, reason)
