"""A score's share of a reference's, with an interval that holds what it says."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.core.paired_scores import KEPT
from pytest_mlperf.core.paired_scores import LOST
from pytest_mlperf.core.paired_scores import OPEN
from pytest_mlperf.core.paired_scores import PairedScores

SCORES = st.lists(st.sampled_from([0.0, 50.0, 66.7, 100.0]), min_size=1, max_size=60)


@pytest.mark.parametrize(("worse", "better"), [(0.001, 0.001), (0.02, 0.015), (0.1, 0)])
def test_the_interval_holds_the_truth_as_often_as_it_says(
    worse: float, better: float
) -> None:
    """Of 400 sets of 500 questions, at least 93 % of the intervals: 95 % less noise."""
    draw = random.Random(17)
    truth = (0.9 * (1 - worse) + 0.1 * better) / 0.9
    held = 0
    for _ in range(400):
        reference = [100.0 * (draw.random() < 0.9) for _ in range(500)]
        scores = [
            100.0 * (draw.random() >= worse)
            if one
            else 100.0 * (draw.random() < better)
            for one in reference
        ]
        paired = PairedScores.compare(scores, reference)
        held += paired.low <= truth <= paired.high
    assert held >= 0.93 * 400


def test_no_changed_answer_of_few_questions_proves_nothing() -> None:
    """544 questions and no change: 99 % is kept, 99.9 % is open; 10,570 show both."""
    few = PairedScores.compare([100.0] * 544, [100.0] * 544)
    many = PairedScores.compare([100.0] * 10570, [100.0] * 10570)

    assert (few.ratio, few.better, few.worse) == (1.0, 0, 0)
    assert (few.judge(0.99), few.judge(0.999)) == (KEPT, OPEN)
    assert (many.judge(0.99), many.judge(0.999)) == (KEPT, KEPT)
    assert few.questions < (few.questions_to_tell(0.999) or 0) < 10570


def test_a_lost_share_is_called_lost() -> None:
    """Every tenth answer gone, of a thousand."""
    reference = [100.0] * 1000
    scores = [0.0 if number % 10 == 0 else 100.0 for number in range(1000)]
    paired = PairedScores.compare(scores, reference)

    assert paired.ratio == pytest.approx(0.9)
    assert (paired.better, paired.worse) == (0, 100)
    assert paired.judge(0.99) == LOST
    assert paired.questions_to_tell(0.9) is None


@given(reference=SCORES, data=st.data())
def test_the_ratio_lies_inside_and_changes_are_counted(
    reference: list[float], data: st.DataObject
) -> None:
    """Whatever the scores; and a reference of nothing is refused."""
    count = len(reference)
    others = st.sampled_from([0.0, 50.0, 100.0])
    scores = data.draw(st.lists(others, min_size=count, max_size=count))
    if not sum(reference):
        with pytest.raises(ValueError, match="nothing to keep"):
            PairedScores.compare(scores, reference)
        return
    paired = PairedScores.compare(scores, reference)

    assert paired.low < paired.ratio < paired.high
    assert paired.ratio == pytest.approx(sum(scores) / sum(reference))
    same = sum(a == b for a, b in zip(scores, reference, strict=True))
    assert paired.better + paired.worse + same == count


def test_other_questions_are_refused() -> None:
    """Scores of one set beside those of another."""
    with pytest.raises(ValueError, match="scores of 2 and 3 questions"):
        PairedScores.compare([0.0, 1.0], [0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="one at least"):
        PairedScores.compare([], [])
