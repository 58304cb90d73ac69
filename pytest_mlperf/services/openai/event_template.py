"""Recognizes the events of a stream that differ from an earlier one in their text.

Most events of an answer repeat all else, byte by byte. A JSON document in which one
string stands in the place of another is known without parsing it again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from pytest_mlperf.services.openai.answers import SCAN

BETWEEN = b"\r"
"""No event holds it, because it ends a line."""
_HAS_SPECIAL = re.compile(rb'[\x00-\x1f"\\]').search
"""Bytes that no string of JSON holds as they are."""


class EventTemplate:
    """What comes before and after the text of an event."""

    __slots__ = ("_begin", "_between", "_end", "_first", "_last")

    def __init__(self, begin: bytes, end: bytes) -> None:
        self._begin, self._end = begin, end
        self._first, self._last = len(begin), -len(end)
        self._between = end + BETWEEN + begin

    @classmethod
    def learn(cls, event: bytes, text: str) -> EventTemplate | None:
        """Return the template of an event with a text; None where it is not certain.

        Without an escape in the event every string is there as it is read, so that the
        only place of the quoted text is the text's.
        """
        if b"\\" in event:
            return None
        quoted = b'"%b"' % text.encode()
        begin, _, end = event.partition(quoted)
        if not end or quoted in end:
            return None
        return cls(begin + b'"', b'"' + end)

    def read_texts(self, events: Sequence[bytes]) -> tuple[str, int]:
        """Return the joined texts of the first events that fit, and their number.

        Texts that are empty do not fit: they are no tokens.
        """
        count = len(events)
        while count and not events[count - 1].endswith(self._end):
            count -= 1  # the closing ones
        alike = events[:count]
        first, last = self._first, self._last
        raw = [event[first:last] for event in alike]
        rebuilt = self._begin + self._between.join(raw) + self._end
        if BETWEEN.join(alike) != rebuilt:
            raw = [event[first:last] for event in takewhile(self._fits, alike)]
        if b"" in raw:
            del raw[raw.index(b"") :]
        whole = b"".join(raw)
        if whole.isascii() and not _HAS_SPECIAL(whole):
            return whole.decode(), len(raw)
        texts = read_strings(raw)
        return "".join(texts), len(texts)

    def _fits(self, event: bytes) -> bool:
        # Where both overlap, the text between them is empty.
        return event.startswith(self._begin) and event.endswith(self._end)


def read_strings(raw: Sequence[bytes]) -> list[str]:
    """Return what JSON strings hold, up to the first that is none."""
    texts = []
    for one in raw:
        try:
            quoted = f'"{one.decode()}"'
            text, end = SCAN(quoted)
        except ValueError:
            break
        if end != len(quoted):
            break
        texts.append(text)
    return texts
