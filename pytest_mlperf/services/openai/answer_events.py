"""The events of an answer that comes as a stream: what comes before ``[DONE]``."""

from __future__ import annotations

from pytest_mlperf.api.errors import BadAnswer
from pytest_mlperf.core.redaction import cut
from pytest_mlperf.services.http.sse import BadStream
from pytest_mlperf.services.http.sse import EventReader
from pytest_mlperf.services.openai.answers import SHOWN
from pytest_mlperf.services.openai.answers import parse_object
from pytest_mlperf.services.openai.answers import read_choice

DONE = b"[DONE]"


class AnswerEventReader(EventReader):
    """Reads events up to ``[DONE]``, which nothing of the answer may follow."""

    __slots__ = ("is_done",)

    def __init__(self) -> None:
        super().__init__()
        self.is_done = False

    def read(self, data: bytes) -> list[bytes]:
        """Return the whole events before the closing ``[DONE]``.

        Raises ``BadAnswer`` for what is no stream, and for a server's error.
        """
        try:
            events = self.feed(data)
        except BadStream as error:
            raise BadAnswer(f"a malformed event stream: {error}") from None
        if self.error is not None:
            shown = cut(self.error, SHOWN)
            raise BadAnswer(f"the server's error {shown or 'event, without a word'}")
        if not self.is_done and DONE not in events:
            return events
        end = 0 if self.is_done else events.index(DONE)
        closing, self.is_done = int(not self.is_done), True
        for late in events[end:]:
            if late != DONE and read_choice(parse_object(late)):
                raise BadAnswer("an event after [DONE], but should be the last")
        self.passed_over += len(events) - end - closing
        return events[:end]
