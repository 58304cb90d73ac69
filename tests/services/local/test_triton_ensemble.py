"""A recommender as an ensemble on a real tritonserver: sparse and dense in a row.

Skipped where it is not installed; the tox environment ``triton`` has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.request_batch import send_all
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.benchmarks.recommender.embedded import open_embedded
from pytest_mlperf.benchmarks.recommender.workload import RecommenderWorkload
from pytest_mlperf.engines.onnxruntime import ONNXRUNTIME
from pytest_mlperf.machine.server_process import LocalServer
from pytest_mlperf.machine.server_process import start_server
from pytest_mlperf.services.kserve.provider import TritonService
from pytest_mlperf.services.local import triton

pytestmark = pytest.mark.skipif(
    triton.unavailable() is not None, reason=str(triton.unavailable())
)
SERVICE = TritonService()
GROUPS = 8


@pytest.fixture(scope="module")
def workload() -> RecommenderWorkload:
    return open_embedded("dlrm-v2")


@pytest.fixture(scope="module")
def server(
    workload: RecommenderWorkload, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalServer]:
    """A server whose cache has half of the rows."""
    folder = tmp_path_factory.mktemp("triton")
    options = {"gpucacheper": "0.5"}
    recipe = SERVICE.embedded_server(workload, "fp32", folder, (0, 1), options)
    with start_server(recipe, folder / "server.log") as made:
        yield made
    log = (folder / "server.log").read_text(encoding="utf-8")
    assert "embedding cache: 50.0% of all rows" in log


def test_its_answers_are_the_engines(
    workload: RecommenderWorkload, server: LocalServer, tmp_path: Path
) -> None:
    """Groups of 100 to 700 pairs, alone and eight in a request."""
    target = ServiceTarget((server.url,), timeout_s=60)
    target, facts = SERVICE.check(target, workload, lambda: None)
    build = ONNXRUNTIME.build(BuildRequest(workload, "fp32", tmp_path))
    engine = ONNXRUNTIME.open(build, 1)
    answers, wanted = [], []
    for size in (1, GROUPS):
        requests = SERVICE.batched_requests(target, workload, size)
        requests.load([0, 1, 2])
        found = send_all(
            partial(SERVICE.open, target, requests),
            [0, 1, 2], outstanding=1, count=3, beat=lambda: None,
        )  # fmt: skip
        for index, answer in enumerate(found.answers):
            assert answer.outputs is not None
            answers.append(answer.outputs[0].reshape(-1))
            indices = requests.samples_of(index)
            wanted.append(engine.infer(workload.dataset.gather(indices), size)[0])
            workload.respond(answer.outputs, indices)
    engine.close()

    assert target.model == triton.MODEL
    assert facts["model served"] == f"{triton.MODEL}, ensemble"
    assert [len(one) for one in answers] == [len(one) for one in wanted]
    np.testing.assert_allclose(
        np.concatenate(answers), np.concatenate(wanted), atol=1e-5
    )


def test_a_wrong_key_is_an_error_of_the_server(
    workload: RecommenderWorkload, server: LocalServer
) -> None:
    """The store's own words reach the client, and the next request is answered."""
    target = ServiceTarget((server.url,), timeout_s=60, model=triton.MODEL)
    requests = SERVICE.requests(target, workload)
    requests.load([0, 1])
    keys = workload.dataset.gather([0])["keys"]
    good = requests.bodies[0]
    first = keys.tobytes()
    wrong = keys.copy()
    wrong[3, 1] = 99
    requests.bodies[0] = good.replace(first, wrong.tobytes())

    with pytest.raises(Exception, match="key 99 of pair 3 is outside table 1"):
        send_all(
            partial(SERVICE.open, target, requests),
            [0], outstanding=1, count=1, beat=lambda: None,
        )  # fmt: skip
    found = send_all(
        lambda listener: SERVICE.open(target, requests, listener),
        [1], outstanding=1, count=1, beat=lambda: None,
    )  # fmt: skip

    assert found.answers[0].outputs is not None
