"""The torch engine: PyTorch on one CUDA device, fp32 down to fp8.

Encoders run packed (``bert.stream``), Whisper with a cache (``whisper``), every other
graph padded (``padded``). All are checked at build time: their outputs are compared
with those in fp32.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mlperf.api.device_dataset import DeviceDataset
from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.embedding import options as embedding
from pytest_mlperf.engines.torch import kernel_options

if TYPE_CHECKING:
    from pytest_mlperf.engines.torch.model import LoadedModel

FP8_CAPABILITY = (8, 9)
"""Compute capability from which matrix units take fp8: Ada and Hopper."""
RECIPE = 4
"""Counts up when builds of the same model would differ."""


@dataclass(frozen=True, slots=True)
class TorchProvider:
    """Builds into device memory: a build lives as long as its process."""

    precisions: tuple[str, ...] = ("fp16", "bf16", "fp32", "fp8")
    batches: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    answers: bool = False
    on_device: frozenset[str] = frozenset({"start_from_device", "end_on_device"})
    checks_in_own_process: bool = True
    options: Mapping[str, str] = field(
        default_factory=lambda: {**embedding.OPTIONS, **kernel_options.OPTIONS}
    )
    settle_s: float = 4.0
    """A card at its power limit is a twentieth faster for its first seconds."""
    precision_for: Mapping[str, str] = field(
        default_factory=lambda: {"int8": "fp16", "fp32": "fp16"}
    )
    """Benchmark's default precision -> this engine's, with the same accuracy target."""
    _models: dict[str, LoadedModel] = field(default_factory=dict, repr=False)

    def unavailable(self) -> str | None:
        if not importlib.util.find_spec("torch"):
            return (
                "the engine torch needs PyTorch with CUDA: "
                "pip install 'pytest-mlperf[torch]'"
            )
        import torch

        if torch.cuda.is_available():
            return None
        built = torch.version.cuda or "no CUDA at all"
        return (
            f"the engine torch needs a CUDA device, and PyTorch {torch.__version__} "
            f"(built for {built}) finds none: see that nvidia-smi lists one and that "
            "CUDA_VISIBLE_DEVICES does not hide it; on a CPU use "
            "--mlperf-engine onnxruntime"
        )

    def check_options(self, given: Mapping[str, str]) -> None:
        embedding.parse_options(given)
        kernel_options.read_kernels(given)

    def build(self, request: BuildRequest) -> Build:
        import torch

        from pytest_mlperf.engines.torch.model import load_model

        name = torch.cuda.get_device_name()
        _check_precision(request.precision, name, torch.cuda.get_device_capability())
        digest = content_hash(
            {
                "engine": "torch",
                "version": torch.__version__,
                "device": name,
                "precision": request.precision,
                "workload": request.workload.digest,
                "options": sorted(request.options.items()),
                "recipe": RECIPE,
            }
        )
        started = time.monotonic()
        if digest not in self._models:
            # One model at a time: it may be most of the device's memory.
            self._models.clear()
            torch.cuda.empty_cache()
            try:
                self._models[digest] = load_model(request)
            except torch.OutOfMemoryError as error:
                raise BuildFailed(
                    f"the model does not fit into the memory of {name}: {error}; try "
                    "--mlperf-precision fp16, or free the device (nvidia-smi)"
                ) from error
        model = self._models[digest]
        seconds = time.monotonic() - started
        facts = {
            "torch": str(torch.__version__),
            **model.facts,
        }
        report = f"built {digest[:12]} in {seconds:.1f} s"
        return Build(digest, None, request, report, facts, device=name)

    def open(self, build: Build, threads: int) -> Engine:  # noqa: ARG002 - protocol
        from pytest_mlperf.engines.torch.padded import PaddedModel

        model = self._models[build.digest]
        if not build.request.residency.end:
            return model.open()
        if not isinstance(model, PaddedModel):
            raise BuildFailed(
                "results of an encoder, a recommender or Whisper do not stay on the "
                "device: the engine torch puts them together on the host; leave "
                "--mlperf-end-on-device away"
            )
        return model.open(ends_on_device=True)

    def write_torchscript(
        self,
        model: ModelFile,
        precision: str,
        batch: Batch | None,
        path: Path,
        *,
        on_gpu: bool,
    ) -> Callable[[Batch], list[Array]]:
        """Trace or script a model; return what runs it. A GPU is needed if asked."""
        if not importlib.util.find_spec("torch"):
            raise BuildFailed(
                "TorchScript needs PyTorch: pip install 'pytest-mlperf[torch]'"
            )
        from pytest_mlperf.engines.torch import torchscript

        device = torchscript.choose_device(on_gpu=on_gpu)
        torchscript.write_torchscript(model, precision, batch, path, device)
        return partial(torchscript.run_torchscript, path, model.inputs, device)

    def place(self, build: Build) -> DeviceDataset:
        """Return the dataset as one whose samples lie on the device."""
        from pytest_mlperf.engines.torch.recommender.stream import RecommenderModel
        from pytest_mlperf.engines.torch.whisper.stream import LoadedWhisper

        dataset, model = build.request.workload.dataset, self._models[build.digest]
        if isinstance(model, RecommenderModel):
            raise BuildFailed(
                "samples of a recommender do not stay on the device: they are pairs of "
                "varying number; leave --mlperf-start-from-device away"
            )
        if isinstance(model, LoadedWhisper):
            raise BuildFailed(
                "recordings do not stay on the device: their features are made on the "
                "host in the measured time; leave --mlperf-start-from-device away"
            )
        return DeviceDataset(dataset, model.store())

    def largest_batch(self, build: Build, streams: int) -> int | None:
        """Return how many clips Whisper's caches have memory for."""
        from pytest_mlperf.engines.torch.whisper.stream import LoadedWhisper

        model = self._models[build.digest]
        return (
            model.largest_batch(streams) if isinstance(model, LoadedWhisper) else None
        )

    def layouts(self, cpus: int) -> tuple[Streams, ...]:
        # While one stream's batch is copied, packed and answered, another computes.
        counts = (2, 3, 1)
        return tuple(Streams(n, max(1, cpus // n)) for n in counts)


def _check_precision(precision: str, name: str, capability: tuple[int, int]) -> None:
    if precision == "fp8" and capability < FP8_CAPABILITY:
        raise BuildFailed(
            f"{name} has compute capability {capability[0]}.{capability[1]}, but fp8 "
            "needs 8.9 (Ada, Hopper) or later: use --mlperf-precision fp16"
        )


TORCH = TorchProvider()
