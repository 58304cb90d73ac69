"""Groups of pairs: the official trace, and gathers without padding."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.api.workload import RaggedDataset
from pytest_mlperf.benchmarks.recommender.auc import measure_auc
from pytest_mlperf.benchmarks.recommender.auc import measure_loss
from pytest_mlperf.benchmarks.recommender.pairs import PairDataset
from pytest_mlperf.benchmarks.recommender.pairs import draw_groups
from pytest_mlperf.benchmarks.recommender.pairs import find_runs
from pytest_mlperf.run.bare_engine import split_units

TRACE_MD5 = "3db90209564316f2506c99cc994ad0b2"
"""Of dlrm_trace_of_aggregated_samples.txt: README.md of recommendation/dlrm_v2."""
TEST_PAIRS = 89_137_319
"""The first half of day 23, by the same page."""


def test_the_groups_of_day_23_are_the_official_trace() -> None:
    """Byte for byte, by the checksum that the reference publishes."""
    starts = draw_groups(TEST_PAIRS).tolist()
    lines = [
        f"{begin}, {end}, {end - begin}\n" for begin, end in itertools.pairwise(starts)
    ]
    digest = hashlib.md5("".join(lines).encode(), usedforsecurity=False)

    assert (len(lines), digest.hexdigest()) == (330_067, TRACE_MD5)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=20))
def test_a_gathered_batch_has_the_pairs_of_its_samples_in_order(
    indices: list[int],
) -> None:
    """Whatever runs of neighbors the batch has."""
    starts = np.array([0, 2, 3, 7, 8, 12, 13, 15, 20])
    pairs = np.arange(20, dtype=np.int32)
    dataset = PairDataset(
        dense=pairs[:, None].astype(np.float32),
        keys=[pairs[:, None], np.stack([pairs + 100, pairs + 200], 1)],
        starts=starts,
        performance_count=8,
    )

    batch = dataset.gather(indices)

    expected = [p for i in indices for p in range(starts[i], starts[i + 1])]
    assert batch["dense"][:, 0].tolist() == expected
    assert batch["keys"].tolist() == [[p, p + 100, p + 200] for p in expected]
    assert dataset.count_pairs(indices).sum() == len(expected)


def test_neighbors_are_gathered_without_a_copy() -> None:
    """One run is a view of the dataset."""
    dense = np.zeros((10, 1), np.float32)
    dataset = PairDataset(dense, [dense], np.array([0, 5, 10]), 2)

    assert find_runs([3, 4, 5, 9, 2, 3]).tolist() == [[3, 5], [9, 9], [2, 3]]
    assert np.shares_memory(dataset.gather([0, 1])["dense"], dense)


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_batch_is_copied_once_to_where_it_is_wanted(pieces: int) -> None:
    """Keys in one array, or of some tables in each; what lies behind stays."""
    random = np.random.default_rng(3)
    dense = random.random((40, 2), np.float32)
    keys = random.integers(0, 99, (40, 6), np.int32)
    dataset = PairDataset(
        dense, np.split(keys, pieces, axis=1), np.array([0, 9, 12, 30, 40]), 4
    )
    spans = dataset.find_spans([3, 0, 1])
    out = {
        "dense": np.full((30, 2), 7, np.float32),
        "keys": np.full((30, 6), -1, np.int32),
    }
    dataset.copy_spans(spans, out)
    rows = [*range(30, 40), *range(12)]

    assert spans.tolist() == [[30, 40], [0, 12]]
    assert out["dense"].tolist() == [*dense[rows].tolist(), *[[7, 7]] * 8]
    assert out["keys"].tolist() == [*keys[rows].tolist(), *[[-1] * 6] * 8]
    assert {name: a.tolist() for name, a in dataset.gather([3, 0, 1]).items()} == {
        "dense": dense[rows].tolist(),
        "keys": keys[rows].tolist(),
    }
    assert isinstance(dataset, RaggedDataset)
    assert [*dataset.arrays] == (["dense", "keys"] if pieces == 1 else [])


def test_a_deployments_batch_is_of_pairs() -> None:
    """A range of pairs is a view too, and each is a sample of its own."""
    dense = np.arange(10, dtype=np.float32)[:, None]
    pairs = PairDataset(dense, [dense], np.array([0, 4, 10]), 2).in_pairs()

    assert (pairs.total, pairs.performance_count) == (10, 10)
    assert pairs.gather(range(3, 8))["dense"].ravel().tolist() == [3, 4, 5, 6, 7]
    assert pairs.gather([9, 0, 1])["dense"].ravel().tolist() == [9, 0, 1]
    assert pairs.count_pairs(range(3, 8)).tolist() == [1] * 5
    assert split_units(10, 4) == [range(4), range(4, 8)]
    assert split_units(10, 11) == []


def test_the_loss_is_the_mean_of_minus_log() -> None:
    """In nats; a certain answer that is wrong is not infinite."""
    labels = np.array([1, 0, 0])
    scores = np.array([0.5, 0.25, 1], np.float32)

    assert measure_loss(labels[:2], scores[:2]) == pytest.approx(
        (np.log(2) + np.log(4 / 3)) / 2
    )
    assert measure_loss(labels[2:], scores[2:]) == pytest.approx(15.94, abs=0.01)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2))
def test_the_area_counts_pairs_in_the_right_order(
    pairs: list[tuple[int, int]],
) -> None:
    """Against the definition: wins of positives over negatives, ties are half."""
    labels = np.array([label for label, _ in pairs])
    scores = np.array([score for _, score in pairs], np.float32)
    if labels.all() or not labels.any():
        with pytest.raises(ValueError, match="labels are 1"):
            measure_auc(labels, scores)
        return
    good, bad = scores[labels == 1], scores[labels == 0]
    wins = (good[:, None] > bad).sum() + (good[:, None] == bad).sum() / 2

    found = measure_auc(labels, scores)

    assert found == pytest.approx(wins / (len(good) * len(bad)))


def test_the_area_is_scikit_learns() -> None:
    """The reference's script calls ``roc_auc_score``."""
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(5)
    labels = random.integers(0, 2, 5000)
    scores = random.integers(0, 300, 5000).astype(np.float32) / 300

    assert measure_auc(labels, scores) == pytest.approx(
        metrics.roc_auc_score(labels, scores)
    )
