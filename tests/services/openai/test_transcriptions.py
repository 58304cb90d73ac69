"""Recordings that are sent to a server, and the transcripts that come back."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_mlperf.api.errors import BadAnswer
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.request_batch import send_all
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.benchmarks import whisper
from pytest_mlperf.benchmarks.speech.workload import SpeechWorkload
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.services.openai.provider import OpenAIEndpoint
from pytest_mlperf.services.openai.transcriptions import TranscriptReader
from tests.support import speech
from tests.support import transcriber

ENDPOINT = OpenAIEndpoint()
SAID = ("hello", " hello hello ", "")


def transcribe(sound: NDArray[np.int16]) -> str:
    """Tell the clips of ``speech.write_whisper_tree`` by their lengths and samples."""
    number = len(sound) - speech.RATE
    assert np.array_equal(sound, speech.make_sound(len(sound), number))
    return SAID[number]


@pytest.fixture
def workload(tmp_path: Path) -> SpeechWorkload:
    return whisper.open_official(speech.write_whisper_tree(tmp_path), count=3)


def test_a_servers_transcripts_are_answers(workload: SpeechWorkload) -> None:
    """The clips arrive whole; tokens are counted with the one that ends each."""
    with transcriber.serve(transcribe) as url:
        target, facts = ENDPOINT.check(ServiceTarget((url,)), workload, lambda: None)
        requests = ENDPOINT.requests(target, workload)
        requests.load(range(3))
        answers = send_all(
            partial(ENDPOINT.open, target, requests),
            range(3), outstanding=1, count=3, beat=lambda: None,
        ).answers  # fmt: skip
        with pytest.raises(RunRefused, match="does not serve the model 'other'"):
            ENDPOINT.check(ServiceTarget((url,), "other"), workload, lambda: None)
    logged = [
        workload.respond(one.outputs or (), [n]).rows[0].tobytes()
        for n, one in enumerate(answers)
    ]

    assert facts["model served"] == transcriber.MODEL
    assert [answer.tokens for answer in answers] == [2, 3, 1]
    assert [workload.alphabet.decode(raw) for raw in logged] == [
        "hello", "hello hello", " ",
    ]  # fmt: skip


def test_a_server_that_serves_other_things_is_refused(workload: SpeechWorkload) -> None:
    """Its own words, and what it should serve."""

    def fail(_: object) -> str:
        raise ValueError("no decoder")

    with (
        transcriber.serve(fail) as url,
        pytest.raises(RunRefused, match=r"no decoder.*should serve /v1/audio/transcr"),
    ):
        ENDPOINT.check(ServiceTarget((url,)), workload, lambda: None)


@pytest.mark.parametrize("body", [b"hello", b'{"words": []}', b'{"text": 1}'])
def test_an_answer_that_is_no_transcript_is_refused(
    workload: SpeechWorkload, body: bytes
) -> None:
    """It counts as nothing."""
    reader = TranscriptReader(workload)
    reader.feed(body)
    with pytest.raises(BadAnswer, match=r"but should be a (transcript|JSON object)"):
        reader.finish()


def test_no_server_of_ones_own_is_started(
    workload: SpeechWorkload, tmp_path: Path
) -> None:
    """Nor are recordings made up: there are none of a rehearsal."""
    with pytest.raises(RunRefused, match="with --mlperf-endpoint URL"):
        ENDPOINT.embedded_server(workload, "f16", tmp_path, (0,), {})
    with pytest.raises(RequirementMissing, match="has no recordings to send"):
        whisper.WHISPER.open_workload("synthetic", None).recording(0)
