"""The client's part of HTTP/1.1, without sockets: request heads and response bodies.

This is the hot path: a response that arrives in one piece costs one search and one
slice. Malformed responses raise ``BadResponse``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pytest_mlperf.core.redaction import cut

LONGEST_HEAD = 1 << 16
SWITCHING_PROTOCOLS = 101
BODILESS = (SWITCHING_PROTOCOLS, 204, 304)
"""Statuses whose responses have no body."""
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
_KEEPS = re.compile(rb"\r\nconnection:[^\r]*keep-alive", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;.*)?$", re.DOTALL)


class BadResponse(Exception):
    """The bytes are no HTTP response; the text shows them."""


def format_head(method: str, path: str, host: str, headers: Mapping[str, str]) -> bytes:
    """Return a request's head, up to the headers of the body.

    Raises ``ValueError`` for a header with a line break.
    """
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Accept-Encoding: identity"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    for line in lines:
        if "\r" in line or "\n" in line:
            name = line.partition(":")[0]
            raise ValueError(f"header {name!r} has a line break in it; remove it")
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


def format_body(content: bytes) -> bytes:
    """Return what follows the head: the body's headers and the body."""
    return (
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content)
    ) + content


_KNOWN: dict[bytes, int] = {}
"""Cache of size lines: the chunks of answers have much the same sizes."""
_MOST_KNOWN = 1024


def _parse_size(line: bytes) -> int:
    """Return a chunk's size; raises ``BadResponse``."""
    match = _SIZE.match(line)
    if match is None:
        raise BadResponse(f"{cut(line, 40)!r} instead of a chunk's size")
    length = int(match[1], 16)
    if len(_KNOWN) < _MOST_KNOWN:
        _KNOWN[line] = length
    return length


class ResponseReader:
    """Reads the responses of a connection, one after another."""

    __slots__ = (
        "_data", "_in_trailer", "_last", "_last_fields", "_left", "chunked",
        "ended", "fields", "keep", "status",
    )  # fmt: skip

    _data: bytes
    _left: int | None
    """Bytes of the body or chunk still to come; None: until the connection closes."""
    status: int
    fields: bytes
    """The head of the response that came last, interim ones too."""

    def __init__(self) -> None:
        self._last_fields = b""
        """The head of the last response, and what it says."""
        self._last: tuple[int, bool, bool, int | None] = (0, True, False, 0)
        self.begin()

    def begin(self) -> None:
        """Prepare for the next response."""
        self._data = b""
        self._left = 0
        self._in_trailer = False
        self.status = 0
        self.fields = b""
        self.ended = False
        self.keep = True
        self.chunked = False

    @property
    def started(self) -> bool:
        """True once a byte of the response has arrived."""
        return bool(self.fields or self._data)

    def feed(self, data: bytes) -> bytes:
        """Return the bytes of the body in ``data``; sets ``ended``.

        Raises ``BadResponse`` for malformed HTTP and for bytes after the end.
        """
        if self.status:
            return self._body(data)
        rest = self._head(data)
        return b"" if rest is None else self._body(rest)

    def _body(self, data: bytes) -> bytes:
        if self.chunked:
            return self._chunks(data)
        if self._left is None:
            return data
        self._left -= len(data)
        if self._left < 0:
            raise BadResponse(f"{-self._left} bytes more than Content-Length says")
        self.ended = self._left == 0
        return data

    def close(self) -> bool:
        """Note that the connection has closed; return whether that is the end."""
        if self.status and self._left is None and not self.chunked:
            self.ended = True
        return self.ended

    @property
    def is_delimited(self) -> bool:
        """False where nothing but the closed connection ends the body."""
        return self.chunked or self._left is not None

    def _head(self, data: bytes) -> bytes | None:
        """Read the head; return what follows it, or None while incomplete."""
        data = self._data + data if self._data else data
        last = self._last_fields
        if last and data.startswith(last) and data.startswith(b"\r\n", len(last)):
            # Servers repeat themselves.
            self._data, self.fields = b"", last
            self.status, self.keep, self.chunked, self._left = self._last
            return data[len(last) + 2 :]
        while data:
            end = data.find(b"\r\n\r\n")
            if not b"HTTP/1.".startswith(data[:7]) or max(end, 0) > LONGEST_HEAD:
                raise BadResponse(f"{cut(data, 60)!r} instead of an HTTP/1.1 response")
            if end < 0:
                if len(data) > LONGEST_HEAD:
                    raise BadResponse("a head without end")
                break
            match = _STATUS.match(data)
            if match is None:
                raise BadResponse(f"{cut(data, 60)!r} instead of an HTTP/1.1 response")
            self.fields, data = data[: end + 2], data[end + 4 :]
            status = int(match[1])
            # RFC 9110, 15.2: any number of interim responses may come before.
            if status >= 200 or status == SWITCHING_PROTOCOLS:
                self._data = b""
                self._take_head(status, self.fields)
                self._last_fields = self.fields
                self._last = (status, self.keep, self.chunked, self._left)
                return data
        self._data = data
        return None

    def _take_head(self, status: int, fields: bytes) -> None:
        self.status = status
        self.keep = not _CLOSE.search(fields)
        if fields.startswith(b"HTTP/1.0"):
            self.keep = bool(_KEEPS.search(fields))
        if _CHUNKED.search(fields):
            self.chunked = True
        elif length := _LENGTH.search(fields):
            self._left = int(length[1])
        elif status not in BODILESS:
            self._left, self.keep = None, False

    def _whole_chunks(self, data: bytes) -> bytes | None:
        """Return the content of chunks that are all here; None where it is not plain.

        Between line ends are sizes and contents in turn where each content has its
        size: one without line ends, as those of events usually are.
        """
        lines = data.split(b"\r\n")
        if len(lines) % 2 == 0:
            return None
        contents = lines[1::2]
        sizes = list(map(_KNOWN.get, lines[:-1:2]))
        if sizes != list(map(len, contents)):
            return None
        if 0 in sizes:
            if sizes.index(0) != len(sizes) - 1:
                return None
            self.ended = self._in_trailer = True
        return contents[0] if len(contents) == 1 else b"".join(contents)

    def _chunks(self, data: bytes) -> bytes:
        data = self._data + data if self._data else data
        self._data = b""
        if not self._left and not self._in_trailer and data.endswith(b"\r\n"):
            whole = self._whole_chunks(data)
            if whole is not None:
                return whole
        parts: list[bytes] = []
        spot, size = 0, len(data)
        while spot < size:
            if self._left:
                # Bytes of the chunk and its closing CRLF.
                take = min(self._left, size - spot)
                content = min(take, max(self._left - 2, 0))
                parts.append(data[spot : spot + content])
                spot += take
                self._left -= take
                continue
            end = data.find(b"\r\n", spot)
            if end < 0:
                self._data = data[spot:]
                if len(self._data) > LONGEST_HEAD:
                    raise BadResponse("a chunk's size line without end")
                break
            line = data[spot:end]
            spot = end + 2
            if self._in_trailer:
                if not line:
                    self.ended = True
                    if spot < size:
                        raise BadResponse(f"{size - spot} bytes after the last chunk")
                continue
            length = _KNOWN.get(line, -1)
            if length < 0:
                length = _parse_size(line)
            if not length:
                self._in_trailer = True
            elif (stop := spot + length) + 2 <= size:
                # The whole chunk is here, as most are.
                parts.append(data[spot:stop])
                spot = stop + 2
            else:
                self._left = length + 2
        return b"".join(parts) if len(parts) != 1 else parts[0]
