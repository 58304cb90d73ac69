"""mAP from LoadGen's answers."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pytest_mlperf.benchmarks.detection import scores
from pytest_mlperf.benchmarks.detection import synthetic
from pytest_mlperf.benchmarks.detection.scores import Floats

PICTURES = 6


def make_rows() -> Floats:
    """Return the true objects of a few pictures as answers have them."""
    boxes, labels, confidence = synthetic.make_objects(np.arange(PICTURES))
    index = np.arange(PICTURES, dtype=np.float32).repeat(synthetic.OBJECTS)
    columns = (index[:, None], boxes.reshape(-1, 4), confidence.reshape(-1, 1))
    return np.concatenate([*columns, labels.reshape(-1, 1)], axis=1)


def score(rows: Floats, categories: np.ndarray | None = None) -> float:
    truth = synthetic.make_annotations(PICTURES)
    return scores.compute_map(rows, truth, categories)


def test_true_boxes_score_100() -> None:
    """Every one of them, at every overlap."""
    assert score(make_rows()) == pytest.approx(100.0)


def test_nothing_found_scores_0() -> None:
    """No detection at all is a score, and no error."""
    assert score(make_rows()[:0]) == 0.0


def test_lost_pictures_cost_their_share() -> None:
    """The official script leaves out pictures that the log lacks; here all count."""
    rows = make_rows()
    half = score(rows[rows[:, 0] < PICTURES / 2])

    assert 30 < half < 70


def test_boxes_that_are_off_lose_the_strict_overlaps() -> None:
    """A tenth of the width: right at overlap 0.5 to 0.8, wrong beyond."""
    rows = make_rows()
    rows[:, [2, 4]] += 0.1 * (rows[:, 4] - rows[:, 2])[:, None]

    assert score(rows) == pytest.approx(70.0)


def test_labels_are_mapped_to_category_ids() -> None:
    """The reference's --use-inv-map: labels count the categories from 1."""
    rows = make_rows()
    shifted = rows.copy()
    shifted[:, 6] += 1
    table = np.array([0, 0, *range(1, synthetic.CLASSES + 1)])

    assert score(shifted) < 20
    assert score(shifted, table) == pytest.approx(100.0)


@pytest.mark.parametrize("label", [-3, 0, 21, 1e9])
def test_labels_of_no_category_are_wrong(label: float) -> None:
    """With and without a table; the true ones among them still count."""
    rows = make_rows()
    rows[rows[:, 0] < PICTURES / 2, 6] = label
    table = np.array([0, *range(1, synthetic.CLASSES + 1)])

    assert 0 < score(rows) < 80
    assert score(rows) == score(rows, table)


def test_answers_are_read_back() -> None:
    """Float32 rows of seven, empty ones too."""
    rows = make_rows()
    answers = {i: rows[rows[:, 0] == i].tobytes() for i in reversed(range(PICTURES))}
    answers[3] = b""
    read = scores.read_answers(answers, PICTURES)

    assert read.tolist() == rows[rows[:, 0] != 3].tolist()


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        ({6: b""}, "there is an answer for sample 6, but the samples should be 0 to 5"),
        ({0: bytes(29)}, "sample 0 has 29 bytes, but should have 28 an object"),
        ({1: bytes(28)}, "the answer for sample 1 is of sample 0, but both should be"),
    ],
)
def test_answers_of_something_else_are_refused(
    answers: dict[int, bytes], text: str
) -> None:
    """The official script prints the mix-up and goes on; here nothing is scored."""
    with pytest.raises(ValueError, match=re.escape(text)):
        scores.read_answers(answers, PICTURES)
