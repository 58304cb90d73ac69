"""Shared by several test modules."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import Model
from pytest_mlperf.engines.tensorrt.profiles import spans
from pytest_mlperf.engines.tensorrt.runtime import Plan
from tests.support.lazy_cuda import INPUT
from tests.support.lazy_cuda import OUTPUT
from tests.support.lazy_cuda import FakeEngine
from tests.support.lazy_cuda import LazyCuda
from tests.support.lazy_cuda import fake_trt


def plan_of(
    cuda: LazyCuda, shape: tuple[int, ...], most: int, longest: int, *, graphs: bool
) -> Plan:
    engine = FakeEngine(cuda, shape, spans(most, longest))
    with cuda.current():
        return Plan.of(fake_trt(engine), cuda, b"plan", graphs=graphs)


def model(*, dynamic: bool) -> Model:
    return Model(Path("x.onnx"), (INPUT,), (OUTPUT,), dynamic_length=dynamic)


def batch_of(size: int, *rest: int) -> Batch:
    random = np.random.default_rng(size)
    return {INPUT: random.random((size, *rest)).astype(np.float32)}
