"""Server-sent events, without sockets: bytes in, data of whole events out."""

from __future__ import annotations

from pytest_mlperf.core.redaction import cut

LONGEST_EVENT = 1 << 24


class BadStream(Exception):
    """The bytes are no event stream; the text shows them."""


class EventReader:
    """Joins events that arrive in pieces."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of every event that is complete now.

        Comments and other fields are ignored. Raises ``BadStream`` for a line that is
        no field, and for an event that is too long.
        """
        data = self._rest + data if self._rest else data
        if b"\r" in data:
            # A lone CR at the end may be half of a CRLF.
            tail = b"\r" if data.endswith(b"\r") else b""
            data = data[: len(data) - len(tail)].replace(b"\r\n", b"\n") + tail
        end = data.rfind(b"\n\n")
        if end >= 0 and data.startswith(b"data: "):
            # The usual form: one line an event, so that all line ends are between them.
            lines = data[6:end].split(b"\n\ndata: ")
            if data.count(b"\n", 0, end) == 2 * (len(lines) - 1):
                self._rest = data[end + 2 :]
                self._check_size()
                return lines
        *whole, self._rest = data.split(b"\n\n")
        self._check_size()
        return [
            found for event in whole if (found := self._read_data(event)) is not None
        ]

    def _check_size(self) -> None:
        if len(self._rest) > LONGEST_EVENT:
            raise BadStream(f"an event of more than {LONGEST_EVENT:,} bytes")

    @property
    def is_partial(self) -> bool:
        """True when the stream ended in the middle of an event."""
        return bool(self._rest.strip())

    @staticmethod
    def _read_data(event: bytes) -> bytes | None:
        if event.startswith(b"data: ") and b"\n" not in event:
            return event[6:]
        parts = []
        for line in event.split(b"\n"):
            name, colon, value = line.partition(b":")
            if not line or (colon and not name):
                continue
            if name == b"data":
                parts.append(value.removeprefix(b" "))
            elif name not in (b"event", b"id", b"retry"):
                raise BadStream(f"{cut(line, 60)!r} instead of an event's field")
        return b"\n".join(parts) if parts else None
