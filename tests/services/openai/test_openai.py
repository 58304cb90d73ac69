"""OpenAI answers and event streams, whole and broken."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.api.errors import BadAnswer
from pytest_mlperf.api.samples import Prompt
from pytest_mlperf.services.http.sse import BadStream
from pytest_mlperf.services.http.sse import EventReader
from pytest_mlperf.services.openai import stream_reader
from pytest_mlperf.services.openai.protocol import Dialect
from pytest_mlperf.services.openai.protocol import DocumentReader
from pytest_mlperf.services.openai.stream_reader import StreamReader


def event(document: dict[str, Any] | str) -> bytes:
    text = document if isinstance(document, str) else json.dumps(document)
    return f"data: {text}\n\n".encode()


def delta(text: str, **more: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}, **more}]})


def usage(tokens: object) -> bytes:
    return event({"choices": [], "usage": {"completion_tokens": tokens}})


DONE = event("[DONE]")


@given(
    texts=st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=8),
    places=st.lists(st.integers(0, 2000), max_size=12),
    crlf=st.booleans(),
)
def test_a_stream_gives_the_same_answer_however_it_is_cut(
    texts: list[str], places: list[int], crlf: bool
) -> None:
    """The first token is reported exactly once, and the text is whole."""
    data = b": a comment\n\n" + b"".join(map(delta, texts)) + usage(len(texts)) + DONE
    data = data.replace(b"\n", b"\r\n") if crlf else data
    stream = StreamReader(chat=True, max_tokens=99)
    edges = sorted({0, len(data), *(p % len(data) for p in places)})
    firsts = [
        stream.feed(data[a:b]) for a, b in itertools.pairwise(edges)
    ]  # fmt: skip
    answer = stream.finish()

    assert sum(firsts) == 1
    assert "".join(texts) == answer.text
    assert len(texts) == answer.tokens
    assert texts[0] == stream.first.text


def test_a_role_alone_is_no_first_token() -> None:
    """Chat streams begin with a chunk that has no content."""
    stream = StreamReader(chat=True, max_tokens=9)

    assert not stream.feed(event({"choices": [{"delta": {"role": "assistant"}}]}))
    assert stream.feed(delta("a"))
    assert not stream.feed(delta("b"))


def test_an_answer_without_text_has_its_first_token_at_its_end() -> None:
    """A special token alone has no text; LoadGen has to hear of it all the same."""
    stream = StreamReader(chat=True, max_tokens=9)
    before = stream.feed(delta("", finish_reason="stop") + usage(1))

    assert not before
    assert stream.feed(DONE)
    assert (stream.first.text, stream.finish().tokens) == ("", 1)


def test_a_token_whose_text_is_still_to_come_is_the_first() -> None:
    """Half a letter has an id and no text yet; it came no later for that."""
    stream = StreamReader(chat=True, max_tokens=9)

    assert stream.feed(delta("", token_ids=[5]))
    assert (stream.first.text, stream.first.token_ids) == ("", (5,))
    assert not stream.feed(delta("a", token_ids=[6]))


@pytest.mark.parametrize("name", ["content", "reasoning_content", "reasoning"])
def test_reasoning_is_text_under_either_of_its_names(name: str) -> None:
    """Its tokens are in the usage, so its first one is the answer's."""
    stream = StreamReader(chat=True, max_tokens=9)

    assert stream.feed(event({"choices": [{"delta": {name: "hm"}}]}))


def test_several_tokens_in_one_event_are_counted_by_the_usage() -> None:
    """Servers put several into one where they stream at intervals."""
    stream = StreamReader(chat=True, max_tokens=9)
    stream.feed(delta("a b c") + delta(" d", finish_reason="stop") + usage(7) + DONE)
    answer = stream.finish()

    assert answer.tokens == 7
    assert answer.finish == "stop"


def test_token_ids_of_a_server_that_sends_them_are_read() -> None:
    """Official accuracy logs hold token ids."""
    stream = StreamReader(chat=True, max_tokens=9)
    stream.feed(delta("a", token_ids=[5]) + delta("b", token_ids=[6]) + DONE)
    answer = stream.finish()

    assert stream.first.token_ids == (5,)
    assert (answer.token_ids, answer.tokens) == ((5, 6), 2)


def make_logprobs(*ids: int) -> dict[str, Any]:
    """Return token ids as llama.cpp sends them: with their probabilities."""
    return {"content": [{"id": i, "token": "x", "prob": 1.0} for i in ids]}


def test_token_ids_with_probabilities_are_read() -> None:
    """llama.cpp sends them nowhere else; its last chunk has none."""
    stream = StreamReader(chat=True, max_tokens=9)
    stream.feed(
        delta("a", logprobs=make_logprobs(5)) + delta("b", logprobs=make_logprobs(6, 7))
    )
    stream.feed(delta("", logprobs=None, finish_reason="length") + usage(3) + DONE)

    assert stream.first.token_ids == (5,)
    assert stream.finish().token_ids == (5, 6, 7)


@pytest.mark.parametrize(
    "logprobs",
    [{"content": None}, {"content": [{"token": "a"}]}, {"tokens": ["a"]}, [1]],
)
def test_probabilities_without_ids_are_no_token_ids(logprobs: object) -> None:
    """Others than llama.cpp answer the same field in their own way."""
    stream = StreamReader(chat=True, max_tokens=9)
    stream.feed(delta("a", logprobs=logprobs) + usage(1) + DONE)

    assert stream.finish().token_ids is None


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (delta("a"), "ended early, after 1 chunk,"),
        (delta("a") + b"data: {", "in the middle of an event"),
        (event("{not json") + DONE, "but should be a JSON object"),
        (b"nonsense\n\n" + DONE, "its body begins with 'nonsense"),
        (event({"choices": []}) + DONE, "no event of an answer"),
        (event({"error": {"message": "no such model"}}), "no such model"),
        (usage(0) + DONE, "without a token"),
        (delta("a") + usage(100) + DONE, "max_tokens allows 9"),
        (delta("a") + delta("b") + usage(1) + DONE, "2 chunks with text"),
        (delta("a") + usage("three") + DONE, "no count"),
        (delta("a") + usage(-1) + DONE, "no count"),
        (delta("a") + DONE + delta("b"), "after [DONE]"),
        (event({"choices": ["x"]}), "no JSON object"),
        (event({"choices": [{"text": "a"}]}), "is this a chat endpoint"),
        (event({"choices": [{"delta": {"content": 5}}]}), "should be text"),
        (event("[" * 100_000), "should be a JSON object"),
        (delta("a") + DONE, "1 chunk without usage.completion_tokens"),
        (delta("a", finish_reason="abort") + usage(1) + DONE, "broke off"),
    ],
)
def test_a_broken_stream_is_no_answer(data: bytes, found: str) -> None:
    """Each says what it found."""

    def read() -> None:
        stream = StreamReader(chat=True, max_tokens=9)
        stream.feed(data)
        stream.finish()

    with pytest.raises(BadAnswer) as caught:
        read()

    assert found in str(caught.value)


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"choices": [], "usage": {"completion_tokens": 1}}, "empty choices"),
        ({"choices": [{"text": "a"}]}, "without usage"),
        ({"choices": [{"text": "a"}], "usage": {"completion_tokens": 0}}, "a token"),
        ({"error": "overloaded"}, "overloaded"),
        (
            {
                "choices": [{"text": "a", "finish_reason": "timeout"}],
                "usage": {"completion_tokens": 1},
            },
            "finish_reason 'timeout'",
        ),
        ([], "should be a JSON object"),
    ],
)
def test_a_broken_document_is_no_answer(document: object, found: str) -> None:
    """An answer that is not streamed comes as one document."""
    whole = DocumentReader(chat=False, max_tokens=9)
    whole.feed(json.dumps(document).encode())
    with pytest.raises(BadAnswer) as caught:
        whole.finish()

    assert found in str(caught.value)


def test_a_whole_answer_has_text_and_tokens() -> None:
    """The text of a completion, and the usage's count."""
    whole = DocumentReader(chat=False, max_tokens=9)
    usage = {"completion_tokens": 3}
    data = json.dumps({"choices": [{"text": "abc"}], "usage": usage}).encode()
    first = [whole.feed(data[:20]), whole.feed(data[20:])]

    assert first == [False, False]
    assert (whole.finish().text, 3) == ("abc", 3)


def test_a_request_is_greedy_and_asks_for_the_usage() -> None:
    """MLPerf's language models answer greedily; the count comes from the server."""
    dialect = Dialect("m", extra={"seed": 1})
    made = json.loads(dialect.request(Prompt("hi", max_tokens=5, stop=("\n",))))

    assert made["temperature"] == 0
    assert made["stream_options"] == {"include_usage": True}
    assert (
        made["prompt"], made["max_tokens"], made["stop"], made["seed"],
    ) == ("hi", 5, ["\n"], 1)  # fmt: skip
    assert dialect.path == "/v1/completions"


def test_token_ids_are_sent_instead_of_text() -> None:
    """Official datasets are tokenised; the server must not do it another way."""
    made = json.loads(Dialect("m").request(Prompt("hi", token_ids=(1, 2))))

    assert made["prompt"] == [1, 2]


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_event_reader(data: bytes) -> None:
    """They are events, or a stream that is none."""
    try:
        found = EventReader().feed(data)
    except BadStream:
        return

    assert all(isinstance(one, bytes) for one in found)


def test_an_event_may_have_several_lines_of_data() -> None:
    """They are joined with line breaks; names and ids are passed over."""
    data = b"event: message\nid: 1\ndata: a\ndata:b\n\n"

    assert EventReader().feed(data) == [b"a\nb"]


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=8).map(
                lambda data: b"data: " + data.replace(b"\r", b"")
            ),
            st.sampled_from([b"data:x", b"data: a\ndata: b", b": note", b"id: 7", b""]),
        ),
        max_size=8,
    ),
    st.sampled_from([b"\n\n", b"\r\n\r\n", b"\n\n\n"]),
)
def test_events_are_the_same_together_and_one_by_one(
    events: list[bytes], end: bytes
) -> None:
    """What is quick for events of one line changes nothing."""

    def read(pieces: list[bytes]) -> list[bytes] | None:
        reader = EventReader()
        try:
            return [one for piece in pieces for one in reader.feed(piece)]
        except BadStream:
            return None

    data = b"".join(event + end for event in events)
    together, alone = read([data]), read([bytes([byte]) for byte in data])

    assert alone == together


def test_a_servers_error_is_raised_at_once() -> None:
    """The server may leave the connection open and send nothing else."""
    stream = StreamReader(chat=True, max_tokens=9)
    stream.feed(delta("a"))
    stream.feed(delta("b"))

    with pytest.raises(BadAnswer, match="the server's error out of blocks"):
        stream.feed(event({"error": "out of blocks"}))


def test_an_error_that_arrives_in_pieces_is_raised_at_the_end() -> None:
    """The error is the cause, not the early end of the stream."""
    stream = StreamReader(chat=True, max_tokens=9)
    data = event({"error": "out of blocks"})
    for piece in (delta("a"), data[:10], data[10:]):
        stream.feed(piece)

    with pytest.raises(BadAnswer, match="the server's error out of blocks"):
        stream.finish()


@pytest.mark.parametrize(
    "later",
    [
        # Objects only when they are put together.
        b'data: {"choices": [{"delta": {"content": "x\n\ndata: y"}}]}\n\n',
        b'data: {"choices": []}, {"choices": []}\n\n',
        b'data: {"choices": [{"delta": {"content": "x"}}]}]junk\n\n',
        b'data: {"choices": [{"delta": {"content": "x"}}]}] \n\ndata: [\n\n',
    ],
)
def test_events_that_are_objects_only_together_are_refused(later: bytes) -> None:
    """Each event has to be one, though they are parsed at one go."""
    stream = StreamReader(chat=True, max_tokens=9)
    stream.feed(delta("a"))
    stream.feed(later + DONE)

    with pytest.raises(BadAnswer, match="but should be a JSON object"):
        stream.finish()


def test_a_stream_without_end_is_parsed_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bytes that are held back are bounded."""
    monkeypatch.setattr(stream_reader, "MOST_UNREAD", 1000)
    stream = StreamReader(chat=True, max_tokens=9)
    stream.feed(delta("a"))

    def read() -> None:
        for _ in range(100):
            stream.feed(event("what is this"))

    with pytest.raises(BadAnswer, match="should be a JSON object"):
        read()
