"""The HTTP reader: however the bytes arrive, the same body comes out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.services.http.http1 import BadResponse
from pytest_mlperf.services.http.http1 import ResponseReader
from pytest_mlperf.services.http.http1 import format_body
from pytest_mlperf.services.http.http1 import format_head

pieces = st.lists(st.binary(max_size=40), max_size=6)
cuts = st.lists(st.integers(0, 400), max_size=12)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return the data in pieces, none of them empty."""
    edges = sorted({0, len(data), *(p % (len(data) + 1) for p in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def chunked(parts: list[bytes]) -> bytes:
    """Return the parts in chunked coding, with an extension and a trailer."""
    coded = b"".join(b"%x;a=b\r\n%s\r\n" % (len(p), p) for p in parts if p)
    return coded + b"0\r\nX-Trailer: 1\r\n\r\n"


@given(parts=pieces, places=cuts)
def test_a_chunked_body_comes_out_whole_however_it_is_cut(
    parts: list[bytes], places: list[int]
) -> None:
    """The network may cut anywhere, in the middle of a chunk's size too."""
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    reader = ResponseReader()
    found = b"".join(reader.feed(p) for p in cut(start + chunked(parts), places))

    assert b"".join(parts) == found
    assert reader.ended
    assert reader.keep


EDITS = st.sampled_from([b"", b"\r\n", b"0", b"1", b"0\r\n\r\n"])
CONTENTS = st.sampled_from([b"a", b"bc\n\n", b"\r\n", b"\r", b"0"])


class LoopReader(ResponseReader):
    """Reads chunk by chunk."""

    def _whole_chunks(self, data: bytes) -> None:  # noqa: ARG002
        return None


@given(
    parts=st.lists(CONTENTS, max_size=6),
    edits=st.lists(
        st.tuples(cuts, st.integers(0, 3), EDITS),
        max_size=2,
    ),
    places=cuts,
)
@example(parts=[b"a"], edits=[([0], 0, b"0\r\n\r\n")], places=[])
@example(parts=[], edits=[([1], 0, b"\r\n")], places=[5])
def test_chunks_read_together_are_those_read_one_by_one(
    parts: list[bytes], edits: list[tuple[list[int], int, bytes]], places: list[int]
) -> None:
    """Also where the framing is wrong."""
    data = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"
    for at, removed, added in edits:
        place = sum(at) % len(data)
        data = data[:place] + added + data[place + removed :]
    found = []
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    ResponseReader().feed(head + b"1\r\na\r\n2\r\nab\r\n4\r\nabcd\r\n0\r\n\r\n")
    for reader in (ResponseReader(), LoopReader()):
        reader.feed(head)
        taken: list[object] = []
        try:
            taken += [reader.feed(piece) for piece in cut(data, places)]
        except BadResponse as error:
            taken.append(str(error))
        found.append([*taken, reader.ended])

    assert found[0] == found[1]


def test_a_head_like_the_last_one_is_read_alike() -> None:
    """Also one that only begins like it."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
    reader = ResponseReader()
    for more, keeps in ((b"", True), (b"", True), (b"Connection: close\r\n", False)):
        assert reader.feed(head + more + b"\r\nab") == b"ab"
        assert (reader.status, reader.ended, reader.keep) == (200, True, keeps)
        assert reader.fields == head + more
        reader.begin()


@given(content=st.binary(max_size=200), places=cuts)
def test_a_sized_body_comes_out_whole_however_it_is_cut(
    content: bytes, places: list[int]
) -> None:
    """The length may come in any case of letters."""
    start = b"HTTP/1.1 200 OK\r\nconTENT-length: %d\r\n\r\n" % len(content)
    reader = ResponseReader()
    found = b"".join(reader.feed(p) for p in cut(start + content, places))

    assert content == found
    assert reader.ended


@given(noise=st.binary(min_size=1, max_size=200), places=cuts)
def test_noise_is_a_bad_response_or_no_response_yet(
    noise: bytes, places: list[int]
) -> None:
    """Nothing but HTTP ends as an answer, and nothing raises anything else."""
    reader = ResponseReader()
    try:
        for piece in cut(noise, places):
            reader.feed(piece)
    except BadResponse:
        return

    assert not reader.ended or noise.startswith(b"HTTP/1.")


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nmore",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc",
    ],
)
def test_what_is_no_http_is_refused(data: bytes) -> None:
    """The text shows what came instead."""
    with pytest.raises(BadResponse):
        ResponseReader().feed(data)


def test_a_second_response_follows_on_the_same_connection() -> None:
    """Keep-alive connections carry one response after the other."""
    reader = ResponseReader()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
    first = reader.feed(answer + b"a")
    reader.begin()

    assert not reader.started
    assert first == b"a"
    assert reader.feed(answer + b"b") == b"b"


def test_a_body_without_length_ends_with_the_connection() -> None:
    """HTTP/1.0 servers do that; such a connection is not reused."""
    reader = ResponseReader()
    found = reader.feed(b"HTTP/1.0 200 OK\r\n\r\nab")

    assert not reader.ended
    assert reader.close()
    assert found == b"ab"
    assert not reader.keep


def test_a_connection_that_closes_in_a_chunked_body_is_no_end() -> None:
    """Half an answer must not count as one."""
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")

    assert not reader.close()


def test_a_response_that_asks_to_close_is_not_kept() -> None:
    """``Connection: close`` holds for this connection."""
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    assert reader.ended
    assert not reader.keep


@given(st.lists(st.sampled_from([100, 102, 103, 199]), max_size=5000), cuts)
def test_interim_responses_are_passed_over(
    statuses: list[int], places: list[int]
) -> None:
    """RFC 9110, 15.2: any number of them, of any kind."""
    reader = ResponseReader()
    interim = b"".join(b"HTTP/1.1 %d x\r\nLink: y\r\n\r\n" % s for s in statuses)
    whole = interim + b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
    found = b"".join(reader.feed(piece) for piece in cut(whole, places))

    assert found == b"x"
    assert reader.status == 200


def test_an_interim_response_begins_the_answer() -> None:
    """The server has the request: to send it again would be a second one."""
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 102 Processing\r\n\r\n")

    assert reader.started
    assert not reader.close()


def test_another_protocol_is_an_answer_without_a_body() -> None:
    """Nobody asked for it."""
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n")

    assert (reader.status, reader.ended) == (101, True)


@pytest.mark.parametrize(("field", "keeps"), [(b"", False), (b"keep-alive", True)])
def test_an_old_server_keeps_a_connection_only_where_it_says_so(
    field: bytes, keeps: bool
) -> None:
    """RFC 9112, 9.3: HTTP/1.0 closes after each answer."""
    reader = ResponseReader()
    said = b"Connection: %s\r\n" % field if field else b""
    reader.feed(b"HTTP/1.0 200 OK\r\n%sContent-Length: 0\r\n\r\n" % said)

    assert reader.ended
    assert reader.keep is keeps


def test_a_request_says_host_length_and_headers() -> None:
    """The body's headers follow the head."""
    made = format_head(
        "POST", "/v1/completions", "host:8000", {"Authorization": "Bearer t"}
    )

    assert made + format_body(b"{}") == (
        b"POST /v1/completions HTTP/1.1\r\nHost: host:8000\r\n"
        b"Accept-Encoding: identity\r\n"
        b"Authorization: Bearer t\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )


def test_a_header_with_a_line_break_is_refused_without_its_value() -> None:
    """A token with a newline would smuggle a header; its value stays secret."""
    with pytest.raises(ValueError, match="'Authorization' has a line break") as caught:
        format_head("POST", "/", "host", {"Authorization": "Bearer sec\nret"})

    assert "sec" not in str(caught.value)
