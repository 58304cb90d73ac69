"""``/v1/audio/transcriptions``, without sockets: recordings out, transcripts in.

The interface of OpenAI's that speaches, vLLM, transformers serve and others have: the
recording is uploaded as a form, and the answer is a JSON document with ``text``. The
server tells no tokens; the workload's own tokenizer counts them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

import numpy as np

from pytest_mlperf.api.errors import BadAnswer
from pytest_mlperf.api.recordings import HasRecordings
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.core.redaction import cut
from pytest_mlperf.services.openai.answers import describe
from pytest_mlperf.services.openai.answers import parse_object
from pytest_mlperf.services.openai.protocol import DocumentReader

PATH = "/v1/audio/transcriptions"
FORM: Mapping[str, str] = {
    "language": "en",
    "response_format": "json",
    "temperature": "0",
}
"""What is asked for beside model and recording: the reference's prompt is English, and
it decodes greedily."""


def format_form(fields: Mapping[str, str], recording: bytes) -> bytes:
    """Return what follows a request's head: ``multipart/form-data`` (RFC 7578)."""
    # No line of a recording can be this by accident.
    boundary = hashlib.sha256(recording).hexdigest()
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        f"{value}\r\n".encode()
        for name, value in fields.items()
    ]
    parts += [
        f'--{boundary}\r\nContent-Disposition: form-data; name="file";'
        ' filename="recording.wav"\r\nContent-Type: audio/wav\r\n\r\n'.encode(),
        recording,
        f"\r\n--{boundary}--\r\n".encode(),
    ]
    body = b"".join(parts)
    head = (
        f"Content-Type: multipart/form-data; boundary={boundary}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class TranscriptReader(DocumentReader):
    """Reads one transcript."""

    __slots__ = ("_workload",)

    def __init__(self, workload: HasRecordings) -> None:
        super().__init__(chat=False, max_tokens=0)
        self._workload = workload

    def finish(self, *, is_delimited: bool = True) -> Answer:  # noqa: ARG002 - one shape
        """Return the answer; raises ``BadAnswer``."""
        data = b"".join(self._parts)
        text = parse_object(data).get("text")
        if not isinstance(text, str):
            raise BadAnswer(
                f"{describe(data)}, but should be a transcript: a JSON object with text"
            )
        tokens = self._workload.tokenize(text)
        rows, counts = np.array([tokens], np.int32), np.array([len(tokens)], np.int32)
        return Answer(cut(text, 200), len(tokens), outputs=(rows, counts))


@dataclass(slots=True)
class TranscriptionRequests:
    """The forms of the recordings that are loaded."""

    workload: TensorWorkload
    recordings: HasRecordings
    """The same workload."""
    model: str
    bodies: dict[int, bytes] = field(default_factory=dict)
    path: str = PATH

    @property
    def total(self) -> int:
        return self.workload.dataset.total

    @property
    def performance_count(self) -> int:
        return self.workload.dataset.performance_count

    def load(self, indices: Sequence[int]) -> None:
        """Read these recordings and write their requests."""
        absent = [index for index in indices if index not in self.bodies]
        self.workload.dataset.load(absent)
        for index in absent:
            fields = {"model": self.model, **FORM}
            self.bodies[index] = format_form(fields, self.recordings.recording(index))
        self.workload.dataset.unload(absent)

    def unload(self, indices: Sequence[int]) -> None:
        """Forget the requests of these recordings."""
        for index in indices:
            self.bodies.pop(index, None)

    def open_reader(self, sample: int) -> TranscriptReader:  # noqa: ARG002 - one shape
        """Return the reader of one answer."""
        return TranscriptReader(self.recordings)
