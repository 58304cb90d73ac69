"""The torch engine's recommenders on a real GPU: AUC, hit rates, keys out of range.

Skipped without one. There: ``pytest tests/gpu/test_recommender.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import facts_of_streams
from pytest_mlperf.benchmarks.dlrm_v2 import DLRM_V2
from pytest_mlperf.benchmarks.recommender.embedded import open_embedded
from pytest_mlperf.benchmarks.recommender.generated import open_generated
from pytest_mlperf.benchmarks.recommender.pairs import PairDataset
from pytest_mlperf.engines.onnxruntime import ONNXRUNTIME
from pytest_mlperf.engines.torch.host_fetch import REGISTERED
from pytest_mlperf.engines.torch.provider import TORCH
from pytest_mlperf.sut.completion import batch_gatherer

MISSING = TORCH.unavailable()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("name", ["dlrm", "dlrm-v2"])
def test_two_streams_over_one_cache_reach_the_reference(
    name: str, precision: str, tmp_path: Path
) -> None:
    """Batches of one to nine samples: most rows miss at first, then they hit."""
    workload = open_embedded(name)
    options = {"gpucacheper": "0.1"}
    build = TORCH.build(BuildRequest(workload, precision, tmp_path, options))
    streams = [TORCH.open(build, 1) for _ in range(2)]
    answers: dict[int, bytes] = {}
    first = turn = 0
    while first < workload.dataset.total:
        indices = [*range(first, min(first + 1 + turn % 9, workload.dataset.total))]
        stream = streams[turn % 2]
        outputs = stream.infer(workload.dataset.gather(indices), len(indices))
        rows, sizes, _ = workload.respond(outputs, indices)
        for place, index in enumerate(indices):
            answers[index] = rows[place].tobytes()[: sizes[place] if sizes else None]
        first, turn = indices[-1] + 1, turn + 1

    score = workload.score(answers)["AUC"]

    assert score == pytest.approx(workload.reference["AUC"], rel=1e-3)
    assert "hit rate" in facts_of_streams(streams)["embedding cache"]
    for stream in streams:
        stream.close()


@pytest.mark.parametrize("gpucacheper", ["1", "0.2"])
def test_generated_tables_answer_what_the_cpu_answers(
    gpucacheper: str, tmp_path: Path
) -> None:
    """The official shapes of dlrm-v2 with small tables: whole on the device, or not."""
    workload = open_generated(DLRM_V2.official, tmp_path, cap=1000, groups=12)
    options = {"gpucacheper": gpucacheper}
    outputs = []
    for provider in (TORCH, ONNXRUNTIME):
        build = provider.build(BuildRequest(workload, "fp32", tmp_path, options))
        stream = provider.open(build, 1)
        indices = range(12)
        (scores,) = stream.infer(workload.dataset.gather(indices), 12)
        outputs.append(np.array(scores))
        stream.close()

    assert outputs[0] == pytest.approx(outputs[1], abs=1e-3)


def test_pairs_that_the_device_fetches_are_those_that_the_host_gathers(
    tmp_path: Path,
) -> None:
    """By address where they are in memory, else by one copy into pinned memory."""
    workload = open_generated(DLRM_V2.official, tmp_path, cap=1000, groups=12)
    whole = workload.dataset
    build = TORCH.build(BuildRequest(workload, "fp16", tmp_path))
    stream = TORCH.open(build, 1)
    groups = len(whole.starts) - 1
    indices = [groups - 1, 3, 4, groups, 0]  # sample ``groups`` is the first one again
    (expected,) = stream.infer(whole.gather(indices), 5)
    expected = np.array(expected)
    pieces = PairDataset(
        whole.dense, np.split(whole.keys[0], [3], axis=1), whole.starts, groups
    )

    for dataset, has_address in ((whole, True), (pieces, False)):
        gather = batch_gatherer(stream, dataset)
        picked = [index % groups for index in indices]
        (scores,) = stream.infer(gather(picked), 5)

        assert (REGISTERED.arrays is dataset.arrays) == has_address
        assert np.array(scores).tolist() == expected.tolist()
    stream.close()


def test_a_key_outside_its_table_ends_the_run(tmp_path: Path) -> None:
    """The kernel reads no other table's row."""
    workload = open_embedded("dlrm")
    build = TORCH.build(BuildRequest(workload, "fp16", tmp_path))
    stream = TORCH.open(build, 1)
    batch = workload.dataset.gather([0])
    keys = batch["keys"].copy()
    keys[3, 1] = np.int32(99)

    with pytest.raises(ValueError, match="1 keys are outside their tables"):
        stream.infer({**batch, "keys": keys}, 1)
    stream.close()
