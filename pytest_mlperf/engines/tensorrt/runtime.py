"""A plan on the device: one CUDA context, weights once, and streams that share them.

Written against the documented API of TensorRT 10 and later (named tensors,
``execute_async_v3``); every call into CUDA goes through ``tensorrt_cuda.Cuda``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from pytest_mlperf.api.workload import Model
from pytest_mlperf.engines.tensorrt.cuda import Cuda
from pytest_mlperf.engines.tensorrt.cuda import CudaError
from pytest_mlperf.engines.tensorrt.cuda import PyCuda
from pytest_mlperf.engines.tensorrt.library import load_library
from pytest_mlperf.engines.tensorrt.profiles import Shape
from pytest_mlperf.engines.tensorrt.profiles import Shapes

if TYPE_CHECKING:
    from pytest_mlperf.engines.tensorrt.stream import TensorrtStream


class RunFailed(Exception):
    """TensorRT or CUDA refused something at run time; the text names the call."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a plan."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape
    """As in the graph; -1 varies."""

    def bytes(self, shape: Shape) -> int:
        return int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(slots=True)
class Plan:
    """An engine in device memory, in a context of its own."""

    trt: Any
    cuda: Cuda
    engine: Any
    graphs: bool
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    tops: tuple[Shapes, ...]
    """Largest input shapes of each profile; one entry for a plan without profiles."""
    closed: bool = False
    graphs_said: str = "off"
    """What became of CUDA graphs, for the run's facts."""
    _streams: int = field(default=0)
    _keep: tuple[Any, ...] = field(default=())

    @classmethod
    def load(cls, path: Path, *, graphs: bool) -> Plan:
        """Read a plan into the device's memory. Raises ``RunFailed``."""
        library = load_library()
        with failing("loading the plan"):
            cuda = PyCuda()
            try:
                with cuda.current():
                    return cls.of(
                        library.module, cuda, path.read_bytes(), graphs=graphs
                    )
            except BaseException:
                cuda.close()
                raise

    @classmethod
    def of(cls, trt: Any, cuda: Cuda, content: bytes, *, graphs: bool) -> Plan:
        """Deserialise a plan in the current context."""
        logger = trt.Logger(trt.Logger.WARNING)
        runtime = trt.Runtime(logger)
        engine = runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise RunFailed(
                "TensorRT does not take it on this device; it was built for another "
                "one or by another version"
            )
        inputs: list[Port] = []
        outputs: list[Port] = []
        for number in range(engine.num_io_tensors):
            name = engine.get_tensor_name(number)
            kind = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
            port = Port(name, kind, tuple(engine.get_tensor_shape(name)))
            into = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            (inputs if into else outputs).append(port)
        tops = tuple(
            {p.name: _top(engine, p, number) for p in inputs}
            for number in range(engine.num_optimization_profiles)
        )
        # The logger and the runtime must outlive the engine.
        keep = (logger, runtime)
        return cls(
            trt, cuda, engine, graphs, tuple(inputs), tuple(outputs), tops, _keep=keep
        )

    def open(self, model: Model) -> TensorrtStream:
        """Open one more stream. Raises ``RunFailed``."""
        from pytest_mlperf.engines.tensorrt.stream import TensorrtStream

        with failing("opening a stream"), self.cuda.current():
            stream = TensorrtStream(self, model.outputs, dynamic=model.dynamic_length)
        self._streams += 1
        return stream

    def hold(self) -> None:
        """Keep the plan open beyond its streams, until ``release``."""
        self._streams += 1

    def release(self) -> None:
        """Forget one stream; the last one takes engine and context with it."""
        self._streams -= 1
        if not self._streams:
            self.closed = True
            with self.cuda.current():
                self.engine, self._keep = None, ()
            self.cuda.close()

    def context(self) -> Any:
        """Return an execution context that is given its workspace from outside."""
        strategy = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self.engine.create_execution_context(strategy)
        if context is None:
            raise RunFailed("no execution context: TensorRT's log above says why")
        return context

    @property
    def most(self) -> int:
        """Rows of the largest batch."""
        return max(shape[0] for top in self.tops for shape in top.values())

    @property
    def longest(self) -> int:
        """Largest axis 1 of any input with one."""
        tops = [shape for top in self.tops for shape in top.values()]
        return max((shape[1] for shape in tops if len(shape) > 1), default=0)


def _top(engine: Any, port: Port, profile: int) -> Shape:
    if all(size >= 0 for size in port.shape):
        return port.shape
    _, _, top = engine.get_tensor_profile_shape(port.name, profile)
    return tuple(top)


@contextmanager
def failing(doing: str) -> Iterator[None]:
    """Turn what CUDA raises into ``RunFailed`` that says what was going on."""
    try:
        yield
    except RunFailed:
        raise
    except (CudaError, RuntimeError, MemoryError) as error:
        text = f"{doing}: {type(error).__name__}: {error}"
        raise RunFailed(text) from error


def trial(path: Path, *, graphs: bool) -> dict[str, str]:
    """Open a plan as a run would, and run its largest batch of zeros once.

    Memory that runs out here would run out in a run. Raises what went wrong.
    """
    plan = Plan.load(path, graphs=graphs)
    names = tuple(port.name for port in plan.outputs)
    model = Model(path, tuple(p.name for p in plan.inputs), names)
    stream = plan.open(model)
    try:
        top = plan.tops[-1]
        batch = {p.name: np.zeros(top[p.name], p.dtype) for p in plan.inputs}
        stream.infer(batch, plan.most)
        return {"trial": f"a batch of {plan.most} ran on the device"}
    finally:
        stream.close()
