"""A built engine as a model that a server offers: forms of its tensors, and streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.engine import open_streams
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.served_model import ANY
from pytest_mlperf.api.served_model import ServedModel
from pytest_mlperf.api.served_model import TensorForm
from pytest_mlperf.api.workload import RunsModel
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.core.errors import RunRefused


@dataclass(frozen=True, slots=True)
class ServedEngine:
    """What is served: an engine's build, over how many streams, up to which batch."""

    name: str
    platform: str
    provider: EngineProvider
    build: Build
    streams: Streams
    max_batch: int

    @property
    def workload(self) -> TensorWorkload:
        return self.build.request.workload

    @contextmanager
    def open(self) -> Iterator[ServedModel]:
        """Open and warm up the streams.

        Raises ``RunRefused`` for a batch that the engine does not take.
        """
        with open_streams(self.provider, self.build, self.streams) as engines:
            samples = list(range(min(self.max_batch, self.workload.dataset.total)))
            self.workload.dataset.load(samples)
            single = self.workload.dataset.gather(samples[:1])
            full = self.workload.dataset.gather(samples)
            self.workload.dataset.unload(samples)
            for engine in engines:
                outputs = self._warm_up(engine, single, 1)
                self._warm_up(engine, full, len(samples))
            yield self._describe(single, outputs, engines)

    def _warm_up(self, engine: Engine, batch: Batch, size: int) -> list[Array]:
        try:
            return [np.asarray(one) for one in engine.infer(batch, size)]
        except Exception as error:
            raise RunRefused(
                f"{self.name}: the engine cannot run a batch of {size} "
                f"({type(error).__name__}: {error}); choose a smaller --batch"
            ) from error

    def _describe(
        self, single: Batch, outputs: list[Array], engines: list[Engine]
    ) -> ServedModel:
        model = self.workload.model
        pads = bool(model and model.dynamic_length)
        names = model.outputs if model else [f"output_{i}" for i in range(len(outputs))]
        length = next(iter(single.values())).shape[1] if pads else ANY
        return ServedModel(
            self.name,
            self.platform,
            {name: form_of(array, length) for name, array in single.items()},
            {
                name: form_of(array, length)
                for name, array in zip(names, outputs, strict=True)
            },
            [engine.infer for engine in engines],
            self.max_batch,
            pads,
        )


def form_of(array: Array, length: int) -> TensorForm:
    """Return the form of arrays like this one; axis 1 is open where it is ``length``,
    a sequence's.
    """
    shape = (ANY, *array.shape[1:])
    if len(shape) > 1 and shape[1] == length:
        shape = (ANY, ANY, *shape[2:])
    return TensorForm(array.dtype, shape)


def require_served(workload: object, name: str) -> TensorWorkload:
    """Return a workload whose samples are one request each.

    Raises ``RunRefused`` for another one.
    """
    if isinstance(workload, RunsModel):
        raise RunRefused(
            f"{name}: a sample takes several runs of its model, but a server is asked "
            "once a sample; serve bert, resnet50 or another benchmark of one run"
        )
    if not isinstance(workload, TensorWorkload):
        raise RunRefused(
            f"{name} has prompts, but this server takes tensors; serve it by an "
            "OpenAI-compatible server (service endpoint)"
        )
    if workload.model and workload.model.embedding:
        raise RunRefused(
            f"{name}: a recommender's sample has several rows, which this server does "
            "not batch; serve it by Triton: pytest-mlperf triton export"
        )
    return workload
