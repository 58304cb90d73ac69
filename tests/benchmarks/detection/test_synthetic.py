"""A rehearsal's detection data."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from pytest_mlperf.benchmarks.detection import synthetic
from pytest_mlperf.benchmarks.detection.workload import DetectionWorkload
from pytest_mlperf.core.logs.accuracy import read_accuracy_txt


@pytest.fixture(scope="module")
def workload() -> DetectionWorkload:
    return synthetic.open_synthetic("retinanet", 40, 16)


def answers_of(workload: DetectionWorkload, indices: list[int]) -> dict[int, bytes]:
    outputs = list(workload.dataset.gather(indices).values())
    rows, sizes, _ = workload.respond(outputs, indices)
    assert sizes is not None
    return {i: rows[k].tobytes()[: sizes[k]] for k, i in enumerate(indices)}


def test_the_oracles_answers_score_100(
    workload: DetectionWorkload, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Through the same reading, suppression and mAP as any engine's answers."""
    metrics = workload.score(answers_of(workload, list(range(40))))
    folder = tmp_path_factory.mktemp("accuracy")
    (folder / "accuracy.txt").write_text(workload.accuracy_text(metrics) + "\n")

    assert metrics["mAP"] == pytest.approx(100.0)
    assert read_accuracy_txt(folder).metrics == {"mAP": pytest.approx(100.0)}


def test_a_mixed_up_answer_costs(workload: DetectionWorkload) -> None:
    """One sample's objects under another's name."""
    answers = answers_of(workload, list(range(40)))
    rows = np.frombuffer(answers[1], "<f4").reshape(-1, 7).copy()
    rows[:, 0] = 0

    assert workload.score({**answers, 0: rows.tobytes()})["mAP"] < 99.5


def test_an_answer_is_the_same_in_every_batch(workload: DetectionWorkload) -> None:
    """TEST01 compares two runs that batch differently."""
    together = answers_of(workload, [5, 3, 17])

    assert answers_of(workload, [17]) == {17: together[17]}
    assert len(set(together.values())) == 3


def test_the_data_are_the_same_on_every_machine(workload: DetectionWorkload) -> None:
    """Another numpy must not make others unnoticed."""
    whole = b"".join(answers_of(workload, list(range(40))).values())

    assert hashlib.sha256(whole).hexdigest()[:16] == "c5827f463db616b9"
