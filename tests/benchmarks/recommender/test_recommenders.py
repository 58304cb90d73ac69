"""dlrm and dlrm-v2: their embedded workloads, and the official layout."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.api.benchmark import Benchmark
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.api.workload import model_file
from pytest_mlperf.benchmarks.dlrm import DLRM
from pytest_mlperf.benchmarks.dlrm_v2 import DLRM_V2
from pytest_mlperf.benchmarks.recommender import official
from pytest_mlperf.benchmarks.recommender.benchmark import RecommenderBenchmark
from pytest_mlperf.benchmarks.recommender.embedded import open_embedded
from pytest_mlperf.benchmarks.recommender.workload import RecommenderWorkload
from pytest_mlperf.engines.onnxruntime import ONNXRUNTIME
from tests.support.recommenders import write_official

BOTH = (DLRM, DLRM_V2)


@pytest.fixture(scope="module", params=BOTH, ids=lambda one: one.name)
def embedded(request: pytest.FixtureRequest) -> RecommenderWorkload:
    return open_embedded(request.param.name)


@pytest.fixture(scope="module")
def scores(
    embedded: RecommenderWorkload, tmp_path_factory: pytest.TempPathFactory
) -> Array:
    """All pairs' probabilities by the engine, with a cache of a tenth."""
    request = BuildRequest(embedded, "fp32", tmp_path_factory.mktemp("cache"))
    engine = ONNXRUNTIME.open(ONNXRUNTIME.build(request), 1)
    found = []
    for first in range(0, embedded.dataset.total, 16):
        indices = [*range(first, min(first + 16, embedded.dataset.total))]
        found.append(engine.infer(embedded.dataset.gather(indices), len(indices))[0])
    engine.close()
    return np.concatenate(found)


def answer_all(workload: RecommenderWorkload, scores: Array) -> dict[int, bytes]:
    """Return each sample's answer as LoadGen would have it."""
    starts = workload.dataset.starts
    answers = {}
    for index in range(workload.dataset.total):
        part = scores[starts[index] : starts[index + 1]]
        rows, sizes, _ = workload.respond([part], [index])
        answers[index] = rows[0].tobytes()[: sizes[0] if sizes else None]
    return answers


def test_a_recommender_satisfies_the_protocols(embedded: RecommenderWorkload) -> None:
    """The contract of workload.py, checked by mypy and by use."""
    benchmarks: list[Benchmark] = [*BOTH]
    workload: TensorWorkload = embedded

    assert [one.metric for one in benchmarks] == ["AUC", "AUC"]
    assert isinstance(workload, TensorWorkload)


def test_the_engine_reaches_the_reference(
    embedded: RecommenderWorkload, scores: Array
) -> None:
    """With most rows outside the cache, answers are still exact."""
    found = embedded.score(answer_all(embedded, scores))

    assert found["AUC"] == pytest.approx(embedded.reference["AUC"], abs=0.001)
    assert embedded.accuracy_text(found).startswith(f"AUC={found['AUC']:.3f}%, ")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda scores: np.roll(scores, 1),
        lambda scores: scores[::-1].copy(),
        lambda scores: np.full_like(scores, 0.5),
        lambda scores: 1 - scores,
    ],
    ids=["shifted by a pair", "reversed", "constant", "inverted"],
)
def test_wrong_answers_miss_both_targets(
    embedded: RecommenderWorkload, scores: Array, spoil: Callable[[Array], Array]
) -> None:
    """99 % of the reference is not reached by answers of other pairs."""
    found = embedded.score(answer_all(embedded, spoil(scores)))

    assert found["AUC"] < 0.99 * embedded.reference["AUC"]


def test_rows_of_other_keys_miss_both_targets(
    embedded: RecommenderWorkload, tmp_path: Path
) -> None:
    """An engine that looks up the wrong rows is caught by the accuracy limit."""
    engine = ONNXRUNTIME.open(
        ONNXRUNTIME.build(BuildRequest(embedded, "fp32", tmp_path)), 1
    )
    tables = embedded.model.embedding
    assert tables is not None
    sizes = np.repeat(tables.sizes, tables.hotness)
    indices = [*range(embedded.dataset.total)]
    batch = embedded.dataset.gather(indices)
    batch["keys"] = ((batch["keys"] + 1) % sizes).astype(np.int32)
    found = engine.infer(batch, len(indices))[0]
    engine.close()

    score = embedded.score(answer_all(embedded, found))["AUC"]

    assert score < 0.99 * embedded.reference["AUC"]


def test_a_batch_of_unequal_samples_is_cut_behind_their_last_pairs(
    embedded: RecommenderWorkload,
) -> None:
    """No answer has the padding of another's length."""
    indices = [0, 5, 2]
    counts = embedded.dataset.count_pairs(indices)
    scores = np.arange(counts.sum(), dtype=np.float32)

    rows, sizes, _ = embedded.respond([scores], indices)

    assert sizes is not None
    parts = [
        np.frombuffer(row.tobytes()[:size], np.float32)
        for row, size in zip(rows, sizes, strict=True)
    ]
    assert np.concatenate(parts).tolist() == scores.tolist()


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (np.zeros(7, np.float32), r"has the shape \[7\], but should be \[\d+\]"),
        (None, r"is nan \(sample 1\), but should be a finite number"),
    ],
)
def test_malformed_outputs_are_refused(
    embedded: RecommenderWorkload, outputs: Array | None, message: str
) -> None:
    """Too few rows and NaN never become an answer."""
    if outputs is None:
        counts = embedded.dataset.count_pairs([0, 1])
        outputs = np.zeros(int(counts.sum()), np.float32)
        outputs[counts[0]] = np.nan

    with pytest.raises(ValueError, match=message):
        embedded.respond([outputs], [0, 1])


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({-1: b""}, "answer for sample -1, but the samples should be 0 to"),
        ({0: b"1234"}, "has 4 bytes, but should have .* a float32 for each"),
    ],
)
def test_answers_of_another_log_are_refused(
    embedded: RecommenderWorkload, answers: dict[int, bytes], message: str
) -> None:
    """A score is only of this dataset's samples."""
    with pytest.raises(ValueError, match=message):
        embedded.score(answers)


def test_an_engine_without_a_lookup_is_refused(embedded: RecommenderWorkload) -> None:
    """The dense part alone would be another model."""
    with pytest.raises(BuildFailed, match="embedding tables beside its ONNX file"):
        model_file(embedded, "tensorrt")


@pytest.mark.parametrize("benchmark_", BOTH, ids=lambda one: one.name)
def test_official_files_are_named_where_they_are_missing(
    benchmark_: RecommenderBenchmark, tmp_path: Path
) -> None:
    """A skip says which files, from whom, where."""
    with pytest.raises(RequirementMissing) as caught:
        benchmark_.open_workload("official", tmp_path)

    text = str(caught.value)
    assert f"models/{benchmark_.name}/tables.npy" in text
    assert "day_23_labels.npy" in text


@pytest.mark.parametrize("benchmark_", BOTH, ids=lambda one: one.name)
def test_official_files_are_read_as_the_reference_reads_them(
    benchmark_: RecommenderBenchmark,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first half of the day, keys of all tables side by side."""
    monkeypatch.setattr(official, "SIZES", (9,) * 26)
    dense, keys, labels = write_official(tmp_path, benchmark_.official, pairs=801)

    workload = benchmark_.open_workload("official", tmp_path)

    count = int(workload.dataset.starts[-1])
    batch = workload.dataset.gather([0, 1])
    end = int(workload.dataset.starts[2])
    assert count == 401
    assert batch["dense"].tolist() == dense[:end].tolist()
    assert batch["keys"].tolist() == keys[:end].tolist()
    assert workload.labels.tolist() == labels[:401, 0].tolist()


def test_a_compressed_archive_of_keys_is_refused(tmp_path: Path) -> None:
    """It cannot be mapped, and unpacked it is larger than most memories."""
    path = tmp_path / "keys.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.npy", b"")

    with pytest.raises(ValueError, match=r"is compressed, but should be stored"):
        official.read_columns(path)
