"""The formats in which a workload's model is written for Triton."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlperf.api import registry
from pytest_mlperf.api.embedded_server import WritesTorchScript
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import WritesOnnx
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.config.shape_options import format_shapes
from pytest_mlperf.services.kserve.deployment import Deployment
from pytest_mlperf.services.kserve.model_comparison import check_outputs
from pytest_mlperf.services.kserve.model_comparison import pick_batches
from pytest_mlperf.services.kserve.model_comparison import run_model
from pytest_mlperf.services.kserve.model_config import TensorSpec
from pytest_mlperf.services.kserve.profile_shapes import choose_shapes
from pytest_mlperf.services.kserve.profile_shapes import find_longest
from pytest_mlperf.services.kserve.tensors import DATATYPES

WRITER = "onnxruntime"
"""The engine that writes ONNX files in other precisions."""
ONNX_DOMAINS = ("", "ai.onnx")
"""Of the operators that an opset counts."""
TORCHSCRIPT = (
    "TorchScript for the device of its instance_group; the pytorch backend calls the "
    "outputs NAME__0, NAME__1 …, so that --mlperf-triton does not find them by name"
)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """What is written."""

    workload: TensorWorkload
    model: ModelFile
    precision: str


@dataclass(frozen=True, slots=True)
class WrittenModel:
    """A model's file, and the tensors that config.pbtxt names."""

    path: Path
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    differences: Mapping[str, float] = field(default_factory=dict)
    """Output -> how far it is from the source's; empty where it was not compared."""
    note: str = ""


def write_onnx(
    source: ModelSource, deployment: Deployment, folder: Path
) -> WrittenModel:
    """Write ``model.onnx``, of another opset where one is asked for.

    Raises ``BuildFailed``.
    """
    model, precision = source.model, source.precision
    writer = registry.load("engine", WRITER)
    if not isinstance(writer, WritesOnnx):
        raise BuildFailed(f"the engine {WRITER} writes no ONNX files; update it")
    path, opset = folder / "model.onnx", deployment.onnx_opset
    with tempfile.TemporaryDirectory(prefix="pytest-mlperf-opset-") as scratch:
        converted = model.path
        if opset is not None:
            converted = Path(scratch) / model.path.name
            convert_opset(model.path, opset, converted)
        writer.write_onnx(replace(model, path=converted), precision, path)
    batches = pick_batches(source.workload)
    wanted = run_model(model.path, model.outputs, batches)
    actual = run_model(path, model.outputs, batches)
    differences = check_outputs(model, path, precision, actual, wanted)
    return WrittenModel(path, *read_specs(path, model.outputs), differences)


def convert_opset(source: Path, opset: int, target: Path) -> None:
    """Write an ONNX file of another opset; raises ``BuildFailed``."""
    import onnx
    from onnx import version_converter

    model = onnx.load(str(source))
    own = max(one.version for one in model.opset_import if one.domain in ONNX_DOMAINS)
    try:
        converted = version_converter.convert_version(model, opset)
    except Exception as error:
        line = str(error).strip().partition("\n")[0]
        raise BuildFailed(
            f"onnx_opset={opset}, but the onnx package cannot convert {source.name} "
            f"from its opset {own}: {line}; leave it out, or choose another"
        ) from error
    onnx.save(converted, str(target))


def write_plan(
    source: ModelSource, deployment: Deployment, folder: Path
) -> WrittenModel:
    """Build the TensorRT engine's plan for this machine: ``model.plan``.

    It has one profile, because Triton takes the first where no instance names another.
    Inputs and outputs are those of the source model. Raises ``BuildFailed``.
    """
    provider = registry.load("engine", "tensorrt")
    inputs, outputs = read_specs(source.model.path, source.model.outputs)
    shapes = choose_shapes(
        deployment, inputs, find_longest(source.workload.dataset.lengths)
    )
    options = {
        kind.replace("_", "-"): format_shapes(value)
        for kind, value in asdict(shapes).items()
    }
    if deployment.max_workspace_size_bytes:
        options["workspace-mib"] = str(deployment.max_workspace_size_bytes >> 20)
    path = folder / "model.plan"
    with tempfile.TemporaryDirectory(prefix="pytest-mlperf-plan-") as cache:
        request = BuildRequest(
            source.workload, source.precision, Path(cache), options,
            deployment.max_batch_size,
        )  # fmt: skip
        build = provider.build(request)
        assert build.path is not None, "a build of TensorRT is a plan"
        shutil.copyfile(build.path, path)
    note = (
        f"a plan of {build.facts.get('tensorrt', 'TensorRT')} for "
        f"{format_shapes(shapes.min_shapes)} to {format_shapes(shapes.max_shapes)}, at "
        f"its best at {format_shapes(shapes.opt_shapes)}; for this machine's kind "
        "of GPU and a server with this version; it was not compared with its source, "
        "which takes that GPU: run the accuracy test against the server"
    )
    return WrittenModel(path, inputs, outputs, note=note)


def write_torchscript(
    source: ModelSource, deployment: Deployment, folder: Path
) -> WrittenModel:
    """Trace or script the model: ``model.pt``.

    A batch of two is compared too, because a trace may have fixed the batch. Raises
    ``BuildFailed``.
    """
    model, precision = source.model, source.precision
    writer = registry.load("engine", "torch")
    if not isinstance(writer, WritesTorchScript):
        raise BuildFailed("the engine torch writes no TorchScript; update it")
    path, batches = folder / "model.pt", pick_batches(source.workload)
    on_gpu = deployment.instance_group_kind == "KIND_GPU"
    example = batches[0] if deployment.format == "ts-trace" else None
    run = writer.write_torchscript(model, precision, example, path, on_gpu=on_gpu)
    twice = {name: np.concatenate([one, one]) for name, one in batches[-1].items()}
    batches = [*batches, twice]
    wanted = run_model(model.path, model.outputs, batches)
    differences = check_outputs(model, path, precision, map(run, batches), wanted)
    inputs, outputs = read_specs(model.path, model.outputs)
    outputs.sort(key=lambda one: model.outputs.index(one.name))
    if deployment.backend != "pytorch":
        return WrittenModel(path, inputs, outputs, differences)
    # The backend knows the outputs of a tuple by their place in it.
    numbered = [replace(o, name=f"{o.name}__{n}") for n, o in enumerate(outputs)]
    return WrittenModel(path, inputs, numbered, differences, TORCHSCRIPT)


Write = Callable[[ModelSource, Deployment, Path], WrittenModel]
WRITERS: dict[str, Write] = {
    "onnx": write_onnx,
    "trt": write_plan,
    "ts-trace": write_torchscript,
    "ts-script": write_torchscript,
}
"""Format -> what writes it into a folder."""


def read_specs(
    path: Path, outputs: Sequence[str]
) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Return a graph's inputs, and these outputs, without their batch axis.

    Raises ``BuildFailed`` for a graph whose batch is fixed.
    """
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    chosen = [value for value in graph.output if value.name in outputs]
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        if not dims or dims[0].HasField("dim_value"):
            raise BuildFailed(
                f"{path}: input {value.name} has no free batch axis, which dynamic "
                "batching needs; export the model with a dynamic first axis"
            )
    return [_spec_of(v) for v in inputs], [_spec_of(v) for v in chosen]


def _spec_of(value: Any) -> TensorSpec:
    import onnx

    kind = value.type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    dims = [one.dim_value or -1 for one in kind.shape.dim]
    return TensorSpec(value.name, DATATYPES[str(dtype)], tuple(dims[1:]))
