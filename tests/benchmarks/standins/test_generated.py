"""Performance-only workloads: true shapes, labelled, and without an accuracy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.benchmarks.standins import generated
from pytest_mlperf.benchmarks.standins.graphs import BertSize
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.types import KIND_LABELS

SMALL = BertSize(2, 64, 128, heads=2, vocabulary=1500, positions=384)


def test_lengths_are_those_of_squad() -> None:
    """10,833 windows, 180 tokens on average, none longer than 384."""
    found = generated.draw_lengths()

    assert len(found) == generated.WINDOWS
    assert found.mean() == pytest.approx(180, abs=2)
    assert (found.min(), found.max()) == (40, 384)


def test_the_defaults_are_the_published_architectures() -> None:
    """BERT-large: 24 layers of 1,024 with 16 heads."""
    assert BertSize() == BertSize(24, 1024, 4096, 16, 30522, 512)


def test_a_generated_bert_runs_in_onnxruntime(tmp_path: Path) -> None:
    """The graph is valid ONNX, and padding does not change an answer."""
    ort = pytest.importorskip("onnxruntime")
    workload = generated.open_bert(SMALL, 20, tmp_path)
    session = ort.InferenceSession(workload.model.path)
    names = list(workload.model.outputs)
    shorter, longer = (int(i) for i in np.argsort(workload.dataset.lengths)[[0, -1]])
    alone = session.run(names, workload.dataset.gather([shorter]))
    both = session.run(names, workload.dataset.gather([longer, shorter]))
    answers, sizes, _ = workload.respond(both, [longer, shorter])
    length = int(workload.dataset.lengths[shorter])

    assert workload.kind == "generated"
    assert workload.title.startswith("performance only")
    assert sizes == [8 * int(n) for n in workload.dataset.lengths[[longer, shorter]]]
    assert alone[0][0] == pytest.approx(answers[1, :length, 0], abs=1e-5)


def test_a_generated_model_is_written_once(tmp_path: Path) -> None:
    """The second session finds the file, and the same numbers in it."""
    first = generated.open_bert(SMALL, 4, tmp_path)
    written = first.model.path.stat().st_mtime_ns
    again = generated.open_bert(SMALL, 4, tmp_path)

    assert first.digest == again.digest
    assert written == again.model.path.stat().st_mtime_ns


def test_a_user_without_a_home_has_a_folder_of_generated_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that runs as a number knows none: the cache is beside the session."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "~no-such-user/cache")

    assert generated.cache_folder().is_relative_to(tmp_path / ".cache")


def test_another_size_is_another_build(tmp_path: Path) -> None:
    """The digest covers architecture and sample count."""
    digests = {generated.open_bert(SMALL, count, tmp_path).digest for count in (4, 5)}

    assert len(digests) == 2


def test_calibration_pictures_are_none_of_the_workload(tmp_path: Path) -> None:
    """Ranges are not read off what is measured."""
    workload = generated.open_resnet50(8, tmp_path)
    assert workload.model.calibration is not None
    batches = list(workload.model.calibration())
    measured = {row.tobytes() for row in workload.dataset.gather(range(8))["pictures"]}
    used = {row.tobytes() for batch in batches for row in batch["pictures"]}

    assert len(used) == 128
    assert not measured & used


def test_every_result_of_a_generated_workload_says_so() -> None:
    """The label is among the session's, beside ``fast``."""
    assert Options(workload="generated", fast=True).labels == (
        "performance only",
        "fast",
    )
    assert KIND_LABELS["generated"] == "performance only"
