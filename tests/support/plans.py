"""Plans and streams on a ``LazyCuda``, and batches for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.engines.tensorrt.runtime import Plan
from pytest_mlperf.engines.tensorrt.settings import choose_profiles
from pytest_mlperf.engines.tensorrt.stream import TensorrtStream
from pytest_mlperf.engines.tensorrt.stream import open_stream
from tests.support.lazy_cuda import INPUT
from tests.support.lazy_cuda import OUTPUT
from tests.support.lazy_cuda import FakeEngine
from tests.support.lazy_cuda import LazyCuda
from tests.support.lazy_cuda import fake_trt


def plan_of(
    cuda: LazyCuda, shape: tuple[int, ...], most: int, longest: int, *, graphs: bool
) -> Plan:
    engine = FakeEngine(cuda, shape, choose_profiles(most, longest))
    trt = fake_trt(engine)
    with cuda.current():
        return Plan.deserialize(trt, cuda, b"plan", cuda_graphs=graphs)


def stream_of(
    cuda: LazyCuda, shape: tuple[int, ...], most: int, longest: int, *, graphs: bool
) -> TensorrtStream:
    plan = plan_of(cuda, shape, most, longest, graphs=graphs)
    return open_stream(plan, model(dynamic=bool(longest)))


def model(*, dynamic: bool) -> ModelFile:
    return ModelFile(Path("x.onnx"), (INPUT,), (OUTPUT,), dynamic_length=dynamic)


def batch_of(size: int, *rest: int) -> Batch:
    random = np.random.default_rng(size)
    return {INPUT: random.random((size, *rest)).astype(np.float32)}
