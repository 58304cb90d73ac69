"""The generated recommenders: official shapes, a stated size, keys by a power law."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.benchmarks.dlrm import DLRM
from pytest_mlperf.benchmarks.dlrm_v2 import DLRM_V2
from pytest_mlperf.benchmarks.recommender import generated
from pytest_mlperf.benchmarks.recommender.official import DIMENSION
from pytest_mlperf.benchmarks.recommender.official import NUMBERS
from pytest_mlperf.benchmarks.recommender.workload import RecommenderWorkload
from pytest_mlperf.embedding.bare import sum_rows
from pytest_mlperf.engines.onnxruntime import ONNXRUNTIME

CAP, GROUPS = 1000, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generated")


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of fewer rows than the tables have, and a dense part of thin layers."""
    monkeypatch.setattr(generated, "FILE_ROWS", 5000)
    monkeypatch.setattr(generated, "BOTTOM", (NUMBERS, 16, DIMENSION))
    monkeypatch.setattr(generated, "TOP", (32, 1))
    monkeypatch.setattr(generated, "CROSS_RANK", 16)


def open_small(name: str, folder: Path) -> RecommenderWorkload:
    benchmark = DLRM_V2 if name == "dlrm-v2" else DLRM
    return generated.open_generated(benchmark.official, folder, CAP, GROUPS)


def test_a_batch_has_the_official_shapes_and_an_engine_answers_it(
    folder: Path, tmp_path: Path
) -> None:
    """Rows of a short file repeat; the vectors are those of the model's rows."""
    workload = open_small("dlrm-v2", folder)
    tables = workload.model.embedding
    assert tables is not None
    indices = [0, GROUPS + 3, 204_799]
    batch = workload.dataset.gather(indices)
    build = ONNXRUNTIME.build(BuildRequest(workload, "fp32", tmp_path))
    stream = ONNXRUNTIME.open(build, 1)
    outputs = stream.infer(batch, len(indices))
    vectors = stream.store.lookup_batch(batch["keys"])  # type: ignore[union-attr]
    stream.close()
    responses = workload.respond(outputs, indices)

    stored = np.load(tables.path).astype(np.float32)
    assert (batch["keys"].shape[1], batch["dense"].shape[1]) == (214, 13)
    assert len(stored) < tables.rows
    assert vectors == pytest.approx(sum_rows(stored, tables, batch["keys"]), abs=1e-6)
    assert np.std(outputs[0]) > 0.001
    assert len(responses.rows) == 3
    assert f"{tables.rows:,} rows of 128 in 26 tables" in workload.title


def test_samples_repeat_the_groups(folder: Path) -> None:
    """As many samples as the official set, of few groups."""
    dataset = open_small("dlrm", folder).dataset
    groups = len(dataset.starts) - 1

    first, again = dataset.gather([5]), dataset.gather([5 + 3 * groups])
    counts = dataset.count_pairs([5, 5 + groups])

    assert (dataset.total, dataset.performance_count) == (204_800, 204_800)
    assert (first["keys"] == again["keys"]).all()
    assert counts[0] == counts[1] == len(first["keys"])


@pytest.mark.parametrize(
    ("gibibytes", "cap"), [(128, 40_000_000), (64, 20_000_000), (4, 1_000_000)]
)
def test_the_rows_take_at_most_half_of_the_memory(gibibytes: int, cap: int) -> None:
    """Of a machine with 128 GiB all rows of Criteo, in float16."""
    assert generated.choose_cap(gibibytes << 30) == cap


def test_keys_follow_the_power_law() -> None:
    """The share of the most frequent keys is that of the law's own sums."""
    random = np.random.default_rng(1)
    keys = generated.draw_power_law(10_000, (200_000,), random)
    law = np.arange(1.0, 10_001) ** -generated.EXPONENT
    counts = np.sort(np.bincount(keys, minlength=10_000))[::-1]

    # A key is drawn where a continuous law's rank is cut off: not exactly the sums.
    assert (keys.min() >= 0, keys.max() < 10_000) == (True, True)
    assert counts[:100].sum() / 200_000 == pytest.approx(
        law[:100].sum() / law.sum(), abs=0.05
    )
