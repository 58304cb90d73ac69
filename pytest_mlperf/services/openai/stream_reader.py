"""Reads an OpenAI answer that comes as server-sent events.

What the standards say to ignore is passed over and counted: events without a choice,
by another name or without data, fields that nobody knows. What makes an answer one is
strict: its text, its count of tokens, its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_mlperf.api.errors import BadAnswer
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.services.openai.answer_events import AnswerEventReader
from pytest_mlperf.services.openai.answers import check_finish_reason
from pytest_mlperf.services.openai.answers import check_start
from pytest_mlperf.services.openai.answers import check_token_count
from pytest_mlperf.services.openai.answers import describe
from pytest_mlperf.services.openai.answers import has_one_text
from pytest_mlperf.services.openai.answers import has_tool_calls
from pytest_mlperf.services.openai.answers import parse_object
from pytest_mlperf.services.openai.answers import parse_objects
from pytest_mlperf.services.openai.answers import read_choice
from pytest_mlperf.services.openai.answers import read_text
from pytest_mlperf.services.openai.answers import read_token_count
from pytest_mlperf.services.openai.answers import read_token_ids
from pytest_mlperf.services.openai.event_template import EventTemplate

LESSONS = 4
"""Events with text that are looked at for a template, at most."""
MOST_UNREAD = 1 << 20
"""Bytes of a stream that are held back to be parsed together, at most."""
MOST_FOREIGN = 1 << 16
"""Bytes of a body that is no stream which are read to find out what it is, at most."""


class StreamReader:
    """Reads one answer.

    Events are parsed as they arrive up to the first token. Later ones are parsed
    together at the end: those that differ from an earlier one in their text alone are
    recognized by their bytes, the others parsed in one call instead of one a token.
    Only a server's error is searched for in every piece.
    """

    __slots__ = (
        "_chat", "_counted", "_counts_along", "_events", "_has_begun",
        "_has_field", "_ids", "_later", "_later_size", "_lessons", "_max_tokens",
        "_reason", "_start", "_template", "_text_events", "_texts", "_usage",
        "event_tokens", "events", "passed_over",
    )  # fmt: skip

    def __init__(self, chat: bool, max_tokens: int) -> None:
        self._chat = chat
        self._max_tokens = max_tokens
        self._events = AnswerEventReader()
        self._texts: list[str] = []
        self._text_events = 0
        """Events that brought text."""
        self._template: EventTemplate | None = None
        self._lessons = LESSONS
        self._ids: list[int] = []
        self._start = b""
        """The body, until its first event."""
        self._later: list[bytes] = []
        self._later_size = 0
        self._usage: int | None = None
        self._counted = 0
        """Tokens so far, as the events themselves count them."""
        self._counts_along: bool | None = None
        """The events count; None until one has brought a token."""
        self._reason = ""
        self._has_begun = False
        self._has_field = False
        """An event has had the text's field, be it empty."""
        self.events = 0
        """Events that brought tokens."""
        self.event_tokens: list[int] = []
        """How many each of them brought, where the server counts or tells them."""
        self.passed_over = 0
        """Events and fields that are no part of an answer."""

    def feed(self, data: bytes) -> bool:
        """Take bytes of the stream; return True when they hold the first token.

        Raises ``BadAnswer``.
        """
        if self._has_begun:
            self._later.append(data)
            self._later_size += len(data)
            if self._later_size > MOST_UNREAD or b"error" in data:
                self._parse_rest()
            return False
        events = self._events.read(data)
        if not self.events:
            self._note_start(data, events)
        for place, event in enumerate(events, 1):
            self._take(parse_object(event), event)
            if self.events:
                self._take_all(events[place:])
                break
        # An id without text is a token, as is one that only the count shows. An answer
        # without any has its first token at the end: LoadGen needs one, and reads
        # undefined memory otherwise.
        self._has_begun = bool(self.events or self._events.is_done)
        return self._has_begun

    def _note_start(self, data: bytes, events: Sequence[bytes]) -> None:
        """Keep the body's beginning; raise ``BadAnswer`` once it shows no stream."""
        if len(self._start) < MOST_FOREIGN:
            self._start += data
        if not events:
            check_start(self._start.lstrip())

    def _parse_rest(self) -> None:
        """Parse the events that were held back."""
        if not self._later:
            return
        data = b"".join(self._later)
        self._later.clear()
        self._later_size = 0
        self._take_all(self._events.read(data))

    def _take_all(self, events: Sequence[bytes]) -> None:
        place, most = 0, len(events)
        while self._template is None and self._lessons and place < most:
            self._take(parse_object(events[place]), events[place])
            place += 1
        if self._template is not None and place < most:
            # What ``_take`` would do: these have nothing but their texts.
            text, count = self._template.read_texts(events[place:])
            self._texts.append(text)
            self._text_events += count
            self.events += count
            place += count
        if place < most:
            rest = events[place:]
            for document, event in zip(parse_objects(rest), rest, strict=True):
                self._take(document, event)

    def _take(self, document: dict[str, Any], event: bytes) -> None:
        # Most chunks have neither usage nor ids.
        tokens = read_token_count(document) if document.get("usage") else None
        if tokens is not None:
            self._usage = tokens
        choice = read_choice(document)
        if choice is None:
            # The closing chunk with the usage has none; others are a gateway's notes.
            self.passed_over += tokens is None
            return
        text = read_text(choice, chat=self._chat, part="delta")
        if text is not None or has_role(choice):
            # An answer may have nothing to show: special tokens alone.
            self._has_field = True
        if text:
            self._texts.append(text)
            self._text_events += 1
        may_have_ids = "token_ids" in choice or choice.get("logprobs")
        ids = read_token_ids(choice) if may_have_ids else None
        if ids:
            self._ids += ids
        if reason := choice.get("finish_reason"):
            self._reason = str(reason)
        if self._counts_along is None and (text or ids or tokens):
            # A count in the last chunk alone says nothing of the others.
            self._counts_along = bool(tokens)
        brought = (tokens or 0) - self._counted if self._counts_along else 0
        self._counted += max(brought, 0)
        if text or ids or brought > 0 or has_tool_calls(choice):
            self.events += 1
            if brought > 0 or ids:
                self.event_tokens.append(brought if brought > 0 else len(ids or ()))
        elif not reason and tokens is None and not has_role(choice):
            self.passed_over += 1
        if text and self._template is None and self._lessons:
            self._lessons -= 1
            if not (tokens or reason or may_have_ids) and has_one_text(choice):
                self._template = EventTemplate.learn(event, text)

    @property
    def first(self) -> Answer:
        """The first token; with the text of its event, which may hold more tokens."""
        text = self._texts[0] if self._texts else ""
        return Answer(text, 1, tuple(self._ids[:1]) or None)

    def describe(self) -> str:
        """Return what of the answer was read, for a message."""
        if self.events:
            return f"after {self._count_chunks()}"
        return f"its body begins with {describe(self._start)}" if self._start else ""

    def _count_chunks(self) -> str:
        return f"{self.events} chunk{'s' * (self.events != 1)}"

    def finish(self, *, is_delimited: bool = True) -> Answer:
        """Return the answer once the body has ended; raises ``BadAnswer``.

        ``is_delimited``: something else than the closed connection tells its end.
        """
        self._parse_rest()
        self._check_end(is_delimited)
        tokens = len(self._ids) if self._usage is None else self._usage
        if self._usage is None and not self._ids:
            raise BadAnswer(
                f"a stream of {self._count_chunks()} without "
                "usage.completion_tokens, but should say how many tokens it has, as "
                "stream_options asks; switch the server's usage on"
            )
        check_token_count(tokens, self._max_tokens, self._text_events)
        check_finish_reason(self._reason)
        if not self._has_field and not self._ids and tokens > 0:
            field = "delta.content" if self._chat else "text"
            raise BadAnswer(f"a stream of {tokens} tokens without {field}")
        self.passed_over += self._events.passed_over
        ids = tuple(self._ids) or None
        return Answer("".join(self._texts), tokens, ids, self._reason)

    def _check_end(self, is_delimited: bool) -> None:
        """Raise ``BadAnswer`` for a stream that is not whole.

        ``[DONE]`` tells, or all else that does: a reason, the count, the message's end.
        """
        if not self.events and not self._reason and self._usage is None:
            found = self.describe() or "its body is empty"
            raise BadAnswer(f"no event of an answer, but should be a stream; {found}")
        if self._events.is_done:
            return
        has_ended = self._reason and self._usage is not None and is_delimited
        if has_ended and not self._events.is_partial:
            return
        last = "in the middle of an event" if self._events.is_partial else "early"
        raise BadAnswer(
            f"a stream that ended {last}, after {self._count_chunks()}, but should "
            "end with data: [DONE], or with finish_reason and usage"
        )


def has_role(choice: dict[str, Any]) -> bool:
    """Return whether a choice is a conversation's opening one."""
    inner = choice.get("delta")
    return isinstance(inner, dict) and "role" in inner
