"""The tensorrt engine's GPU side on a real GPU: all of it but TensorRT.

Skipped without pycuda and a device. With them:
``pytest tests/gpu/test_pycuda.py -p no:cacheprovider``.
"""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pytest_mlperf.api.device_dataset import DeviceDataset
from pytest_mlperf.api.timeline import summarize
from pytest_mlperf.api.workload import ArrayDataset
from pytest_mlperf.engines.tensorrt import cuda
from pytest_mlperf.engines.tensorrt.cuda import CudaDevice
from pytest_mlperf.engines.tensorrt.cuda import CudaError
from pytest_mlperf.engines.tensorrt.cuda import PyCuda
from pytest_mlperf.engines.tensorrt.device_samples import PlanSampleStore
from pytest_mlperf.engines.tensorrt.settings import choose_profiles
from pytest_mlperf.engines.tensorrt.stream import open_stream
from tests.support.cuda_plan import kernel_plan
from tests.support.lazy_cuda import INPUT
from tests.support.plans import batch_of
from tests.support.plans import model


def _missing() -> str:
    if importlib.util.find_spec("pycuda") is None:
        return "pycuda is not installed"
    found = cuda.find_device()
    return found if isinstance(found, str) else ""


MISSING = _missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def test_the_device_names_itself() -> None:
    """Name, compute capability and memory of the first visible GPU."""
    found = cuda.find_device()

    assert isinstance(found, CudaDevice)
    assert found.memory > 1 << 30
    assert found.capability >= (5, 0)
    assert str(found).endswith(f"{found.capability[0]}.{found.capability[1]}")


@pytest.mark.parametrize("graphs", [False, True])
def test_batches_of_many_sizes_come_back_right(graphs: bool) -> None:
    """Chunks, padding and slots, compared with the CPU; graphs are recorded."""
    plan = kernel_plan((-1, 3000), choose_profiles(16), graphs=graphs)
    stream = open_stream(plan, model(dynamic=False))
    for size in (1, 5, 16, 17, 40, 3, 16, 33):
        batch = batch_of(size, 3000)
        (found,) = stream.infer(batch, size)

        assert np.array_equal(2 * batch[INPUT] + 1, found), size
    said = plan.graph_report
    stream.close()

    assert said == ("5 a slot" if graphs else "off")
    assert plan.closed


def test_batches_of_many_lengths_come_back_as_long() -> None:
    """Recorded lengths pad; what they pad is cut off again."""
    plan = kernel_plan((-1, -1), choose_profiles(8, 200), graphs=True)
    stream = open_stream(plan, model(dynamic=True))
    for size, length in ((1, 1), (8, 200), (3, 65), (7, 64), (8, 130)):
        batch = batch_of(size, length)
        (found,) = stream.infer(batch, size)

        assert np.array_equal(2 * batch[INPUT] + 1, found), (size, length)
    stream.close()


def test_streams_of_several_threads_share_one_context() -> None:
    """Each thread enters it; the last stream closes it."""
    plan = kernel_plan((-1, 3000), choose_profiles(16), graphs=True)
    streams = [open_stream(plan, model(dynamic=False)) for _ in range(3)]

    def work(number: int) -> bool:
        right = True
        for size in range(1, 20):
            batch = batch_of(size + number, 3000)
            (found,) = streams[number].infer(batch, size + number)
            right = right and np.array_equal(2 * batch[INPUT] + 1, found)
        return right

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(work, range(3)))
    for stream in streams:
        stream.close()

    assert answers == [True] * 3
    assert plan.closed


def test_times_are_the_devices_own() -> None:
    """Events around copy in, compute and copy out; the kernel takes its time."""
    plan = kernel_plan((-1, 3000), choose_profiles(16), graphs=True)
    stream = open_stream(plan, model(dynamic=False))
    for _ in range(5):
        stream.infer(batch_of(16, 3000), 16)
    rows = stream.timeline.rows
    facts = summarize([stream.timeline])
    stream.close()

    assert len(rows) == 5
    assert all(copy_in > 0 and out > 0 for _, copy_in, _, out, _ in rows)
    # 200,000 clocks are 50 us and more at any clock that a GPU has.
    assert all(compute > 0.05 for _, _, compute, _, _ in rows)
    assert "compute" in facts["device ms p50 / p99"]


@pytest.mark.parametrize("graphs", [False, True])
def test_samples_that_lie_on_the_device_are_copied_there(graphs: bool) -> None:
    """By index, in any order; the host's arrays may change meanwhile."""
    plan = kernel_plan((-1, 3000), choose_profiles(16), graphs=graphs)
    values = np.random.default_rng(1).random((300, 3000)).astype(np.float32)
    dataset = ArrayDataset({INPUT: values.copy()}, 300)
    samples = DeviceDataset(dataset, PlanSampleStore(lambda: plan, False, 0))
    samples.load(list(range(300)))
    dataset.arrays[INPUT][:] = -1
    stream = open_stream(plan, model(dynamic=False))
    chosen = [5, 6, 7, 299, 0, 0, *range(40, 70)]
    (found,) = stream.infer(samples.gather(chosen), len(chosen))
    right = np.array_equal(2 * values[chosen] + 1, found)
    stream.close()
    samples.unload([])

    assert right
    assert plan.closed


def test_memory_that_runs_out_is_told_in_words() -> None:
    """The context lives on, and what was taken comes back with it."""
    cuda = PyCuda()
    with cuda.current():
        with pytest.raises(CudaError, match="out of memory: 1,125,899,906,842,624"):
            cuda.allocate(1 << 50)
        address = cuda.allocate(1 << 20)
        cuda.free(address)
    cuda.close()


def test_a_failed_recording_leaves_the_stream_usable() -> None:
    """Nothing may wait while it is recorded; afterwards all is as before."""
    import pycuda.driver

    cuda = PyCuda()
    with cuda.current():
        stream, event = cuda.stream(), cuda.event()
        with pytest.raises(pycuda.driver.Error, match="captur"):
            cuda.capture(stream, stream.synchronize)
        cuda.record(event, stream)
        cuda.finish(event)
        del stream, event
    cuda.close()
