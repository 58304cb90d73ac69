"""The question-answering workload: batches, answers and scores."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_mlperf.benchmarks.bert import EMBEDDED
from pytest_mlperf.benchmarks.bert import open_embedded
from pytest_mlperf.benchmarks.squad import windows
from pytest_mlperf.benchmarks.squad.workload import SquadDataset
from pytest_mlperf.benchmarks.squad.workload import SquadWorkload
from tests.support import squad

# MLCommons' submission checker takes F1 from accuracy.txt with this.
OFFICIAL_PATTERN = r"^{[\"']exact_match[\"']\:\s*[\d\.]+,\s*[\"']f1[\"']\:\s*([\d\.]+)}"


@pytest.fixture(scope="module")
def embedded() -> SquadWorkload:
    return open_embedded()


def packed(logits: dict[int, NDArray[Any]]) -> dict[int, bytes]:
    return {i: row.astype("<f4").tobytes() for i, row in logits.items()}


@settings(max_examples=50)
@given(picked=st.lists(st.integers(0, 400), min_size=1, max_size=9))
def test_gather_equals_naive_padding(
    embedded: SquadWorkload, picked: list[int]
) -> None:
    """A batch is padded to its own longest, contiguous and int64."""
    features = embedded.features
    longest = max(int(features.lengths[i]) for i in picked)
    naive = np.zeros((3, len(picked), longest), np.int64)
    for row, i in enumerate(picked):
        n = int(features.lengths[i])
        naive[0, row, :n] = features.ids[i, :n]
        naive[1, row, :n] = 1
        naive[2, row, int(features.heads[i]) : n] = 1

    batch = embedded.dataset.gather(picked)

    assert list(batch) == list(embedded.model.inputs)
    for expected, actual in zip(naive, batch.values(), strict=True):
        assert np.array_equal(expected, actual)
        assert actual.flags.c_contiguous
        assert actual.dtype == np.dtype(np.int64)


def test_a_graph_of_fixed_length_gets_full_rows() -> None:
    """Every row has the graph's length and integer type, zeros behind the text."""
    features = windows.tokenize(windows.read_questions(squad.SAMPLE)[3:5], squad.VOCAB)

    batch = SquadDataset(features, squad.INPUTS, 384, np.dtype(np.int32)).gather([1])

    assert {array.shape for array in batch.values()} == {(1, 384)}
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int32)}
    assert batch["input_mask"].sum() == features.lengths[1]


def test_respond_leaves_the_padding_out(embedded: SquadWorkload) -> None:
    """Sizes are eight bytes a token of each sample's own length."""
    lengths = embedded.dataset.lengths[[0, 5]]
    start = np.arange(2 * lengths.max(), dtype=np.float32).reshape(2, -1)

    predictions, sizes, _ = embedded.respond([start, -start], [0, 5])

    assert sizes == (8 * lengths).tolist()
    assert predictions.flags.c_contiguous
    assert np.array_equal(np.stack([start, -start], axis=-1), predictions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, e: [s, e * np.nan], "NaN or infinity in 2 of 2 answers"),
        (lambda s, e: [s / 0.0, e], "NaN or infinity"),
        (lambda s, e: [s[:1], e[:1]], "but should be two"),
        (lambda s, e: [s[:, :9], e[:, :9]], "at least"),
        (lambda s, e: [s, e[:, :-1]], "have the shapes"),
        (lambda s, _: [s], "start and end logits"),
        (lambda s, e: [s[..., None], e[..., None]], "have the shapes"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_respond_refuses_what_is_not_an_answer(
    embedded: SquadWorkload, change: Any, message: str
) -> None:
    """The message holds what was found, what should be and what to do."""
    good = np.ones((2, int(embedded.dataset.lengths[:2].max())), np.float32)

    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        embedded.respond(change(good, good), [0, 1])

    assert "should be" in str(caught.value)


def test_perfect_answers_score_100_and_wrong_ones_fail(
    embedded: SquadWorkload,
) -> None:
    """The gate can tell a right engine from a wrong one and from a blank one."""
    right = squad.make_perfect_logits(
        embedded.features, squad.read_answer_starts(EMBEDDED / "evaluation.json.gz")
    )
    wrong = {i: np.roll(row, 9, axis=0) for i, row in right.items()}
    blank = dict.fromkeys(right, embedded.blank.tobytes())

    assert embedded.score(packed(right)) == {"F1": 100.0, "exact_match": 100.0}
    assert embedded.score(packed(wrong))["F1"] < 40
    assert embedded.score(blank)["F1"] < 40


@pytest.mark.parametrize(
    ("answers", "message"),
    [({0: b"1234"}, "4 bytes for sample 0"), ({99999: bytes(8)}, "sample 99999")],
)
def test_score_refuses_bytes_that_are_not_logits(
    embedded: SquadWorkload, answers: dict[int, bytes], message: str
) -> None:
    """The message names the sample and the log."""
    with pytest.raises(ValueError, match=message):
        embedded.score(answers)


def test_the_accuracy_line_is_what_the_official_checker_reads(
    embedded: SquadWorkload,
) -> None:
    """Exact match comes first, and the pattern captures F1."""
    text = embedded.accuracy_text({"F1": 90.874, "exact_match": 83.7})
    found = re.match(OFFICIAL_PATTERN, text)

    assert found is not None
    assert found[1] == "90.874"
