"""Server-sent events, without sockets: bytes in, data of whole events out.

As the WHATWG's HTML standard parses them ("Server-sent events", 9.2.6): lines end in
CR, LF or both, a byte-order mark may come first, and what nobody knows is passed over.
"""

from __future__ import annotations

LONGEST_EVENT = 1 << 24
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UNNAMED = (b"", b"message")
"""The names of events that a client which knows no others listens to."""


class BadStream(Exception):
    """The bytes are no event stream; the text shows them."""


class EventReader:
    """Joins events that arrive in pieces."""

    __slots__ = ("_has_begun", "_rest", "_skips_lf", "error", "passed_over")

    def __init__(self) -> None:
        self._rest = b""
        self._has_begun = False
        self._skips_lf = False
        """The last byte was a CR, which a LF belongs to."""
        self.error: bytes | None = None
        """The data of an event that is called an error."""
        self.passed_over = 0
        """Fields that nobody knows, events by other names, events without data."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of every event that is complete now.

        Events by other names and without data are counted. Raises ``BadStream`` for an
        event that is too long.
        """
        if self._skips_lf and data:
            data = data.removeprefix(b"\n")
            self._skips_lf = False
        if not self._has_begun and not (data := self._begin(data)):
            return []
        if b"\r" in data:
            self._skips_lf = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        data = self._rest + data if self._rest else data
        end = data.rfind(b"\n\n")
        if end >= 0 and data.startswith(b"data: "):
            # The usual form: one line an event, so that all line ends are between them.
            lines = data[6:end].split(b"\n\ndata: ")
            if b"\n" not in b"".join(lines) and b"" not in lines:
                self._rest = data[end + 2 :]
                self._check_size()
                return lines
        *whole, self._rest = data.split(b"\n\n")
        self._check_size()
        return [found for event in whole if (found := self._read_data(event))]

    def _begin(self, data: bytes) -> bytes:
        """Return the stream's beginning without its mark; nothing while it may come."""
        data, self._rest = self._rest + data, b""
        if len(data) < len(BYTE_ORDER_MARK) and BYTE_ORDER_MARK.startswith(data):
            self._rest = data
            return b""
        self._has_begun = True
        return data.removeprefix(BYTE_ORDER_MARK)

    def _check_size(self) -> None:
        if len(self._rest) > LONGEST_EVENT:
            raise BadStream(f"an event of more than {LONGEST_EVENT:,} bytes")

    @property
    def is_partial(self) -> bool:
        """True when the stream ended in the middle of an event."""
        return bool(self._rest.strip())

    def _read_data(self, event: bytes) -> bytes:
        """Return an event's data; nothing for one that is not dispatched."""
        parts, named = [], b""
        for line in event.split(b"\n"):
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                parts.append(value)
            elif name == b"event":
                named = value
            elif name == b"error":
                self.error = value  # llama.cpp names the field so
            elif name not in (b"", b"id", b"retry"):
                self.passed_over += 1
        data = b"\n".join(parts)
        if named == b"error":
            self.error = data
        elif named not in UNNAMED or (parts and not data):
            self.passed_over += 1
        elif data:
            return data
        return b""
