"""Events that are recognized by their bytes yield what the parser finds in them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.api.errors import BadAnswer
from pytest_mlperf.services.openai.event_template import EventTemplate
from pytest_mlperf.services.openai.stream_reader import StreamReader

HEAD = {"id": "cmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


class PlainReader(StreamReader):
    """Parses every event."""

    __slots__ = ()

    def __init__(self, chat: bool, max_tokens: int) -> None:
        super().__init__(chat, max_tokens)
        self._lessons = 0


def format_event(document: Any, *, ascii_only: bool = False) -> bytes:
    text = json.dumps(document, ensure_ascii=ascii_only, separators=(",", ":"))
    return f"data: {text}\n\n".encode()


def chat_event(delta: Any, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return format_event({**HEAD, "choices": [choice], **more})


TEXTS = st.sampled_from(
    ["a", " b", "xy", "", "content", "cmpl-1", "m", '"', "\\", "\n", "\r\n", "é", "😀"]
) | st.text(max_size=3).map(lambda t: t.encode("utf-8", "replace").decode())
PLAIN_EVENTS = TEXTS.map(lambda text: chat_event({"content": text}))
ODD_EVENTS = st.one_of(
    st.builds(lambda t: chat_event({"reasoning_content": t}), TEXTS),
    st.builds(lambda t, u: chat_event({"reasoning": t, "content": u}), TEXTS, TEXTS),
    st.builds(lambda t: chat_event({"content": t}, "stop"), TEXTS),
    st.builds(lambda t: chat_event({"content": t}, usage=None), TEXTS),
    st.builds(
        lambda t, n: chat_event({"content": t}, usage={"completion_tokens": n}),
        TEXTS,
        st.integers(-1, 9),
    ),
    st.builds(
        lambda t: format_event(
            {**HEAD, "choices": [{"delta": {"content": t}}]}, ascii_only=True
        ),
        TEXTS,
    ),
    st.sampled_from(
        [
            chat_event({"role": "assistant", "content": ""}),
            chat_event({"tool_calls": [{"index": 0}]}),
            chat_event({"content": 5}),
            chat_event({"content": "a"}, error={"message": "full"}),
            format_event({"choices": [], "usage": {"completion_tokens": 3}}),
            format_event({"choices": [{"text": "of the other interface"}]}),
            b": a comment\n\n",
            b"event: ping\ndata: {}\n\n",
            b"event: error\ndata: full\n\n",
            b"data: {}\ndata: \n\n",
            b"data: [DONE]\n\n",
        ]
    ),
)
STREAMS = st.lists(
    st.one_of(PLAIN_EVENTS, PLAIN_EVENTS, PLAIN_EVENTS, ODD_EVENTS), max_size=12
).map(b"".join)
CLOSING = (
    chat_event({}, "stop")
    + format_event({"choices": [], "usage": {"completion_tokens": 12}})
    + b"data: [DONE]\n\n"
)
PLACES = st.lists(st.integers(0, 5000), max_size=4)
EDITS = st.lists(
    st.tuples(
        st.integers(0, 5000),
        st.integers(0, 2),
        st.sampled_from([b"", b'"', b"\\", b"\n", b"\r", b"\x00", b"\xff", b"}", b"x"]),
    ),
    max_size=2,
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def read(reader: StreamReader, pieces: list[bytes]) -> list[Any]:
    """Return all that a reader tells of a stream, or its error."""
    found: list[Any] = []
    try:
        found += [reader.feed(piece) for piece in pieces]
        found += [reader.first if any(found) else None, reader.finish()]
    except BadAnswer as error:
        found.append(str(error))
    return [*found, reader.events, reader.event_tokens, reader.passed_over]


@given(stream=STREAMS, edits=EDITS, places=PLACES)
@example(
    stream=chat_event({"reasoning_content": "a", "content": "b", "x": "ab"})
    + chat_event({"reasoning_content": "a", "content": "b", "x": "cd"}),
    edits=[],
    places=[],
)
@example(
    stream=chat_event({"content": "a"}, "stop")
    + chat_event({"content": "b"}, "abort")
    + chat_event({"content": "c"}, "stop"),
    edits=[],
    places=[],
)
@example(  # as long as the others, with an error where theirs is null
    stream=chat_event({"content": "a"}, error=None)
    + chat_event({"content": "b"}, error="ab")
    + chat_event({"content": "c"}, error=None),
    edits=[],
    places=[],
)
def test_the_template_and_the_parser_find_the_same(
    stream: bytes, edits: list[tuple[int, int, bytes]], places: list[int]
) -> None:
    """Answers and errors, also of streams with wrong bytes in them, however cut."""
    data = stream + CLOSING
    for place, removed, added in edits:
        at = place % len(data)
        data = data[:at] + added + data[at + removed :]
    pieces = cut(data, places)

    assert read(StreamReader(True, 99), pieces) == read(PlainReader(True, 99), pieces)


@given(texts=st.lists(TEXTS.filter(bool), min_size=1, max_size=12), places=PLACES)
def test_an_answer_is_its_texts_however_it_is_cut(
    texts: list[str], places: list[int]
) -> None:
    """Whatever is quoted, escaped or split in them."""
    data = b"".join(chat_event({"content": text}) for text in texts) + CLOSING
    reader = StreamReader(True, 99)

    assert sum(map(reader.feed, cut(data, places))) == 1
    answer = reader.finish()
    assert (answer.text, answer.finish, reader.events) == (
        "".join(texts), "stop", len(texts)
    )  # fmt: skip


def test_events_of_the_usual_form_are_not_parsed() -> None:
    """The first is, a second one where it has an escape, and those that close it."""
    taken = []

    class CountingReader(StreamReader):
        def _take(self, document: dict[str, Any], event: bytes) -> None:
            taken.append(event)
            super()._take(document, event)

    texts = ["\n", "a", 'b"', "é", "d"]
    reader = CountingReader(True, 99)
    for text in texts:
        reader.feed(chat_event({"content": text}))
    reader.feed(CLOSING)

    assert reader.finish().text == "".join(texts)
    assert [b'"content"' in event for event in taken] == [True, True, False, False]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (b'{"id":"ab","text":"ab"}', "ab"),
        (b'{"id":"\\u0061b","text":"ab"}', "ab"),
        (b'{"text":"\\n"}', "\n"),
        (b'{"text":"ab"}', "b"),
    ],
)
def test_an_event_with_two_places_for_its_text_teaches_nothing(
    event: bytes, text: str
) -> None:
    assert EventTemplate.learn(event, text) is None


def test_what_differs_elsewhere_does_not_fit() -> None:
    """One byte beside the text is enough."""
    template = EventTemplate.learn(b'{"id":1,"text":"ab"}', "ab")
    assert template is not None
    usual = b'{"id":1,"text":"%b"}'

    assert template.read_texts([usual % b"x", usual % b"y z"]) == ("xy z", 2)
    for other in (
        b'{"id":2,"text":"x"}',
        b'{"id":1,"text":"x"} ',
        b'{"id":1,"text":""}',
        b'{"id":1,"text":"x","text":"y"}',
        b'{"id":1,"text":"\xff"}',
        b'{"id":1,"text":"\t"}',
        b'{"id":1,"text":"\\x"}',
        b'{"id":1,"text":"}',
    ):
        found = template.read_texts([usual % b"x", other, usual % b"y"])
        assert found == ("x", 1)
    escaped = usual % b'\\"\\u00e9\xc3\xa9'
    assert template.read_texts([escaped]) == ('"éé', 1)
