"""The torch engine: PyTorch on one CUDA device, fp32 down to fp8.

Encoders run packed (``torch_packed``), every other graph padded (``torch_padded``).
Both are proved at build time: their answers are compared with the graph's in fp32.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import TYPE_CHECKING

from pytest_mlperf.api.device_dataset import DeviceDataset
from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.errors import BuildFailed

if TYPE_CHECKING:
    from pytest_mlperf.engines.torch.bert.stream import PackedModel
    from pytest_mlperf.engines.torch.padded import PaddedModel

    Model = PackedModel | PaddedModel

FP8_CAPABILITY = (8, 9)
"""Compute capability from which matrix units take fp8: Ada and Hopper."""
RECIPE = 2
"""Counts up when builds of the same model would differ."""


@dataclass(frozen=True, slots=True)
class TorchProvider:
    """Builds into device memory: a build lives as long as its process."""

    precisions: tuple[str, ...] = ("fp16", "bf16", "fp32", "fp8")
    batches: tuple[int, ...] = (16, 32, 64, 128, 256)
    answers: bool = False
    on_device: frozenset[str] = frozenset({"start_from_device", "end_on_device"})
    settle_s: float = 4.0
    """A card at its power limit is a twentieth faster for its first seconds."""
    precision_for: Mapping[str, str] = field(
        default_factory=lambda: {"int8": "fp16", "fp32": "fp16"}
    )
    """Benchmark's default precision -> this engine's, held to the same accuracy."""
    _models: dict[str, Model] = field(default_factory=dict, repr=False)

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

    def build(self, request: BuildRequest) -> Build:
        import torch

        name = torch.cuda.get_device_name()
        _check_precision(request.precision, name, torch.cuda.get_device_capability())
        digest = content_hash(
            {
                "engine": "torch",
                "version": torch.__version__,
                "device": name,
                "precision": request.precision,
                "workload": request.workload.digest,
                "recipe": RECIPE,
            }
        )
        started = time.monotonic()
        if digest not in self._models:
            # One model at a time: it may be most of the device's memory.
            self._models.clear()
            torch.cuda.empty_cache()
            try:
                self._models[digest] = made(request)
            except torch.OutOfMemoryError as error:
                raise BuildFailed(
                    f"the model does not fit into the memory of {name}: {error}; try "
                    "--mlperf-precision fp16, or free the device (nvidia-smi)"
                ) from error
        model = self._models[digest]
        seconds = time.monotonic() - started
        facts = {
            "device": name,
            "torch": str(torch.__version__),
            **model.facts,
        }
        report = f"built {digest[:12]} in {seconds:.1f} s"
        return Build(digest, None, request, report, facts)

    def open(self, build: Build, threads: int) -> Engine:  # noqa: ARG002 - protocol
        from pytest_mlperf.engines.torch.padded import PaddedModel

        model = self._models[build.digest]
        engine: Engine
        if build.request.residency.end:
            if not isinstance(model, PaddedModel):
                raise BuildFailed(
                    "results of an encoder do not stay on the device: the engine "
                    "torch packs them on the host; leave --mlperf-end-on-device away"
                )
            engine = model.open(ends=True)
        else:
            engine = model.open()
        return engine

    def place(self, build: Build) -> DeviceDataset:
        """Return the dataset as one that is kept on the device."""
        dataset = build.request.workload.dataset
        return DeviceDataset(dataset, self._models[build.digest].store())

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


def made(request: BuildRequest) -> Model:
    """Read the graph and put the model on the device, packed where it is a BERT."""
    import torch

    from pytest_mlperf.engines.torch import fuse
    from pytest_mlperf.engines.torch import host_fetch
    from pytest_mlperf.engines.torch import onnx_graph
    from pytest_mlperf.engines.torch import padded
    from pytest_mlperf.engines.torch import verify
    from pytest_mlperf.engines.torch.bert import recognise
    from pytest_mlperf.engines.torch.bert import stream
    from pytest_mlperf.engines.torch.bert.encoder import Bert
    from pytest_mlperf.engines.torch.conv import fp8
    from pytest_mlperf.engines.torch.conv import stem
    from pytest_mlperf.engines.torch.conv import tail

    # Not the process's defaults: fp32 is to be fp32, whatever an environment says.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    device = torch.device("cuda")
    model = request.workload.model
    graph = onnx_graph.read(model.path, model.inputs, model.outputs)
    samples = verify.samples(request.workload)
    reference = onnx_graph.Program(graph, device, torch.float32)
    wanted = verify.answers(reference, samples)
    # Timing every algorithm takes half a minute in fp32, which nobody measures.
    torch.backends.cudnn.benchmark = request.precision != "fp32"
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    kind = kinds.get(request.precision, torch.float16)
    weights = recognise.bert(graph) if request.precision != "fp32" else None
    names = recognise.roles(model.inputs)
    made: Model
    if weights is not None and names is not None:
        made = stream.PackedModel(Bert(weights, kind, False, device), names)
        if request.precision == "fp8":
            made.calibrate()
        verify.on_device(stream.tensors_of(made))
        verify.agree(made, samples, wanted, request.precision)
        made.facts["path"] = "packed encoder"
        return made
    program, said = reference, {}
    if request.precision != "fp32":
        graph, more = fuse.fused(graph), fuse.operators()
        if request.precision == "fp8":
            if model.calibration is None:
                raise BuildFailed(
                    f"{model.path.name} is no encoder that the engine torch knows, and "
                    "its workload has no calibration samples, which fp8 needs: use "
                    "--mlperf-precision fp16"
                )
            batches = model.calibration()
            graph, count = fp8.calibrated(graph, device, batches, more)
            said = {"calibration": f"{count} samples that are in no evaluation"}
            more = {
                **more,
                **fp8.operators(),
                **stem.operators(),
                **tail.operators(),
            }
        program = onnx_graph.Program(graph, device, kind, more)
    fixed = not model.dynamic_length
    copies = host_fetch.copier() if fixed else None
    if copies is not None:
        said["samples fetched by"] = copies.name
    made = padded.PaddedModel(program, fixed, facts=said)
    verify.on_device(padded.tensors_of(made))
    farthest = verify.FARTHEST_PICTURES
    verify.agree(made, samples, wanted, request.precision, farthest)
    made.facts["path"] = "padded graph"
    return made


TORCH = TorchProvider()
