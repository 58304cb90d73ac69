"""The corpus of streams: each yields what it must, however its bytes arrive."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.api.errors import BadAnswer
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.services.openai.stream_reader import StreamReader
from tests.support.stream_corpus import LEGAL
from tests.support.stream_corpus import REFUSED
from tests.support.stream_corpus import Stream

each_legal = pytest.mark.parametrize("stream", LEGAL, ids=lambda one: one.name)
each_refused = pytest.mark.parametrize("stream", REFUSED, ids=lambda one: one.name)


@each_legal
def test_a_legal_stream_is_read_whole(stream: Stream) -> None:
    """Text, count, ids, reason, and the event that brought the first token."""
    reader = StreamReader(stream.chat, max_tokens=9)
    firsts = [reader.feed(piece) for piece in stream.pieces()]
    answer = reader.finish()

    assert answer == Answer(stream.text, stream.tokens, stream.ids, stream.finish)
    assert [place for place, is_first in enumerate(firsts) if is_first] == [
        stream.first
    ]
    assert tuple(reader.event_tokens) == stream.event_tokens
    assert reader.passed_over == stream.passed_over


AFTER_THE_END = next(one for one in LEGAL if one.name == "gateway-note-after-the-end")


@given(stream=st.sampled_from(LEGAL), places=st.lists(st.integers(0, 5000), max_size=9))
@example(AFTER_THE_END, [len(b"".join(AFTER_THE_END.pieces())) - 9])
def test_a_legal_stream_is_the_same_however_it_is_cut(
    stream: Stream, places: list[int]
) -> None:
    """The network cuts anywhere, in the middle of a line's end too."""
    data = b"".join(stream.pieces())
    edges = sorted({0, len(data), *(place % len(data) for place in places)})
    reader = StreamReader(stream.chat, max_tokens=9)
    firsts = [reader.feed(data[a:b]) for a, b in itertools.pairwise(edges)]

    assert reader.finish().text == stream.text
    assert sum(firsts) == 1
    assert tuple(reader.event_tokens) == stream.event_tokens
    assert reader.passed_over == stream.passed_over


@each_refused
@pytest.mark.parametrize("together", [True, False])
def test_what_is_no_answer_is_refused_in_the_servers_own_words(
    stream: Stream, *, together: bool
) -> None:
    """In one piece, or event by event."""
    pieces = stream.pieces()

    def read() -> None:
        reader = StreamReader(stream.chat, max_tokens=9)
        for piece in [b"".join(pieces)] if together else pieces:
            reader.feed(piece)
        reader.finish()

    with pytest.raises(BadAnswer) as caught:
        read()

    assert stream.refused in str(caught.value)


def test_a_stream_that_only_the_closed_connection_ends_needs_its_done() -> None:
    """It may have been cut off in the middle."""
    (whole,) = [one for one in LEGAL if one.name == "no-done-but-all-else"]
    reader = StreamReader(whole.chat, max_tokens=9)
    for piece in whole.pieces():
        reader.feed(piece)

    with pytest.raises(BadAnswer, match="ended early"):
        reader.finish(is_delimited=False)
