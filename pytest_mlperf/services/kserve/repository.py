"""Writes a workload's model into a Triton model repository, and verifies it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlperf.api import registry
from pytest_mlperf.api.embedded_server import ExportedModel
from pytest_mlperf.api.embedded_server import WritesTorchScript
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import WritesOnnx
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.api.workload import model_file
from pytest_mlperf.config.shape_options import KINDS
from pytest_mlperf.config.shape_options import format_shapes
from pytest_mlperf.embedding.bare import sum_rows
from pytest_mlperf.services.kserve import ensemble
from pytest_mlperf.services.kserve import python_backend
from pytest_mlperf.services.kserve.deployment import Deployment
from pytest_mlperf.services.kserve.model_config import TensorSpec
from pytest_mlperf.services.kserve.model_config import format_config
from pytest_mlperf.services.kserve.profile_shapes import ProfileShapes
from pytest_mlperf.services.kserve.profile_shapes import choose_shapes
from pytest_mlperf.services.kserve.profile_shapes import list_lengths
from pytest_mlperf.services.kserve.tensors import DATATYPES

WRITER = "onnxruntime"
"""The engine that writes ONNX files in other precisions."""
VERSION = "1"
ONNX = "model.onnx"
ONNX_DOMAINS = ("", "ai.onnx")
"""Of the operators that an opset counts."""
FORMAT_FILES = {"ts-trace": "model.pt", "ts-script": "model.pt", "trt": "model.plan"}
TOLERANCES = {"fp32": 1e-4, "fp16": 0.01, "int8": 0.3}
"""Precision -> how far an output may be from the source model's, as a share of that
output's largest value. NVIDIA's scripts allow 5 of about 10 (BERT's logits)."""
TORCHSCRIPT = (
    "TorchScript for the device of its instance_group; the pytorch backend calls the "
    "outputs NAME__0, NAME__1 …, so that --mlperf-triton does not find them by name"
)
SAMPLES = 4
"""Samples that are compared."""


def export_model(
    workload: TensorWorkload,
    name: str,
    precision: str,
    deployment: Deployment,
    repository: Path,
) -> ExportedModel:
    """Write ``repository/name``: config.pbtxt and version 1.

    A recommender is an ensemble of that name over the models ``sparse`` and ``dense``.
    Raises ``BuildFailed`` for a workload without an ONNX file, a precision that cannot
    be written, and an export that does not compute what its source computes.
    """
    model = model_file(workload, "triton", has_lookup=True)
    tables = model.embedding
    if tables is not None:
        deployment = ensemble.widen_batch(deployment)
    folder = repository / (name if tables is None else ensemble.DENSE)
    version = folder / VERSION
    version.mkdir(parents=True, exist_ok=True)
    path = version / ONNX
    if deployment.format in FORMAT_FILES:
        path = version / FORMAT_FILES[deployment.format]
    differences: dict[str, float] = {}
    note = ""
    if deployment.format == "trt":
        inputs, outputs = read_specs(model.path, model.outputs)
        shapes = choose_shapes(deployment, inputs, longest_of(workload))
        note = write_plan(workload, precision, deployment, shapes, path)
    elif deployment.format in {"ts-trace", "ts-script"}:
        deployment = place_torchscript(deployment)
        batches = pick_batches(workload)
        differences = write_torchscript(model, precision, deployment, path, batches)
        inputs, outputs = read_specs(model.path, model.outputs)
        outputs.sort(key=lambda one: model.outputs.index(one.name))
        if deployment.backend == "pytorch":
            # The backend knows the outputs of a tuple by their place in it.
            numbered = list(enumerate(outputs))
            outputs = [replace(one, name=f"{one.name}__{n}") for n, one in numbered]
            note = TORCHSCRIPT
    else:
        write_onnx(model, precision, path, deployment.onnx_opset)
        differences = compare_models(model, path, precision, pick_batches(workload))
        inputs, outputs = read_specs(path, model.outputs)
    deployment = complete_shapes(deployment, inputs, workload)
    files = [folder / "config.pbtxt", path]
    lengths = list_lengths(workload.dataset.lengths)
    text = format_config(folder.name, deployment, inputs, outputs, lengths)
    files[0].write_text(text, "utf-8")
    if deployment.backend == "python":
        files.append(version / "model.py")
        shutil.copyfile(python_backend.__file__, files[-1])
    if tables is not None:
        sparse = repository / ensemble.SPARSE
        files += ensemble.write_sparse(sparse, tables, deployment)
        specs = inputs, outputs
        files.append(
            ensemble.write_ensemble(repository / name, tables, deployment, specs)
        )
    return ExportedModel(tuple(files), differences, find_tolerance(precision), note)


def write_onnx(
    model: ModelFile, precision: str, path: Path, opset: int | None = None
) -> None:
    """Write the model in a precision, of another opset; raises ``BuildFailed``."""
    writer = registry.load("engine", WRITER)
    if not isinstance(writer, WritesOnnx):
        raise BuildFailed(f"the engine {WRITER} writes no ONNX files; update it")
    if opset is None:
        writer.write_onnx(model, precision, path)
        return
    with tempfile.TemporaryDirectory(prefix="pytest-mlperf-opset-") as folder:
        source = Path(folder) / model.path.name
        convert_opset(model.path, opset, source)
        writer.write_onnx(replace(model, path=source), precision, path)


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
    workload: TensorWorkload,
    precision: str,
    deployment: Deployment,
    shapes: ProfileShapes,
    path: Path,
) -> str:
    """Build the TensorRT engine's plan for this machine; return what it is.

    It has one profile, because Triton takes the first where no instance names another.
    Inputs and outputs are those of the source model. Raises ``BuildFailed``.
    """
    provider = registry.load("engine", "tensorrt")
    options = {
        kind.replace("_", "-"): format_shapes(value)
        for kind, value in asdict(shapes).items()
    }
    if deployment.max_workspace_size_bytes:
        options["workspace-mib"] = str(deployment.max_workspace_size_bytes >> 20)
    with tempfile.TemporaryDirectory(prefix="pytest-mlperf-plan-") as cache:
        request = BuildRequest(
            workload, precision, Path(cache), options, deployment.max_batch_size
        )
        build = provider.build(request)
        assert build.path is not None, "a build of TensorRT is a plan"
        shutil.copyfile(build.path, path)
    return (
        f"a plan of {build.facts.get('tensorrt', 'TensorRT')} for "
        f"{format_shapes(shapes.min_shapes)} to {format_shapes(shapes.max_shapes)}, at "
        f"its best at {format_shapes(shapes.opt_shapes)}; for this machine's kind "
        "of GPU and a server with this version; it was not compared with its source, "
        "which takes that GPU: run the accuracy test against the server"
    )


def place_torchscript(deployment: Deployment) -> Deployment:
    """TorchScript keeps its device: a server's GPU could not run a CPU's file."""
    if deployment.instance_group_kind == "KIND_GPU":
        return deployment
    return replace(deployment, instance_group_kind="KIND_CPU")


def write_torchscript(
    model: ModelFile,
    precision: str,
    deployment: Deployment,
    path: Path,
    batches: Sequence[Batch],
) -> dict[str, float]:
    """Trace or script the model; return how far its outputs are from the source's.

    A batch of two is compared too, because a trace may have fixed the batch. Raises
    ``BuildFailed``.
    """
    writer = registry.load("engine", "torch")
    if not isinstance(writer, WritesTorchScript):
        raise BuildFailed("the engine torch writes no TorchScript; update it")
    on_gpu = deployment.instance_group_kind == "KIND_GPU"
    example = batches[0] if deployment.format == "ts-trace" else None
    run = writer.write_torchscript(model, precision, example, path, on_gpu=on_gpu)
    twice = {name: np.concatenate([one, one]) for name, one in batches[-1].items()}
    batches = [*batches, twice]
    wanted = [_run_model(model.path, model.outputs, batch) for batch in batches]
    return check_outputs(model, path, precision, map(run, batches), wanted)


def complete_shapes(
    deployment: Deployment, inputs: Sequence[TensorSpec], workload: TensorWorkload
) -> Deployment:
    """Return a deployment whose accelerator has a whole profile, or none."""
    if not (deployment.is_accelerated and any(getattr(deployment, k) for k in KINDS)):
        return deployment
    shapes = choose_shapes(deployment, inputs, longest_of(workload))
    return replace(deployment, **asdict(shapes))


def longest_of(workload: TensorWorkload) -> int:
    """Return the longest sample's length; 1 where samples have none."""
    lengths = workload.dataset.lengths
    return 1 if lengths is None else int(lengths.max())


def find_tolerance(precision: str) -> float:
    """Return how far an export in a precision may be from its source."""
    return TOLERANCES.get(precision, TOLERANCES["int8"])


def pick_batches(workload: TensorWorkload) -> list[Batch]:
    """Return some samples, each a batch of what the ONNX file takes."""
    indices = range(min(SAMPLES, workload.dataset.total))
    workload.dataset.load(indices)
    try:
        batches = [dict(workload.dataset.gather([index])) for index in indices]
    finally:
        workload.dataset.unload(indices)
    tables = workload.model.embedding if workload.model else None
    if tables is not None:
        rows = np.load(tables.path, mmap_mode="r")
        for batch in batches:
            vectors = sum_rows(rows, tables, batch.pop(tables.keys))
            batch[tables.vectors] = vectors.astype(np.float32)
    rows = {name: len(array) for name, array in batches[0].items()}
    if len(set(rows.values())) > 1:
        each = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise BuildFailed(
            f"{workload.title}: a sample's inputs have {each} rows, but Triton makes "
            "batches of tensors with as many; choose an engine with --mlperf-engine"
        )
    return [*batches]


def compare_models(
    source: ModelFile, path: Path, precision: str, batches: Sequence[Batch]
) -> dict[str, float]:
    """Return each output's largest difference as a share of its largest value.

    Raises ``BuildFailed`` for one beyond the precision's tolerance.
    """
    wanted = [_run_model(source.path, source.outputs, batch) for batch in batches]
    actual = [_run_model(path, source.outputs, batch) for batch in batches]
    return check_outputs(source, path, precision, actual, wanted)


def check_outputs(
    source: ModelFile,
    path: Path,
    precision: str,
    actual: Iterable[Sequence[Array]],
    wanted: Sequence[Sequence[Array]],
) -> dict[str, float]:
    """Return each output's largest difference over all batches, as a share.

    Raises ``BuildFailed`` for one beyond the precision's tolerance.
    """
    pairs = list(zip(actual, wanted, strict=True))
    differences = {
        name: max(measure_difference(one[place], two[place]) for one, two in pairs)
        for place, name in enumerate(source.outputs)
    }
    limit = find_tolerance(precision)
    for name, difference in differences.items():
        if not difference <= limit:  # NaN too
            raise BuildFailed(
                f"{path}: output {name} differs from {source.path.name} by "
                f"{difference:.3g} of its largest value, but should by at most "
                f"{limit:g} in {precision}; choose another precision"
            )
    return differences


def _run_model(path: Path, outputs: Sequence[str], batch: Batch) -> list[Array]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    found: list[Array] = session.run(list(outputs), dict(batch))
    return found


def measure_difference(actual: Array, wanted: Array) -> float:
    """Return the largest difference as a share of the largest value."""
    largest = float(np.abs(wanted).max(initial=0.0)) or 1.0
    return float(np.abs(actual - wanted).max(initial=0.0)) / largest


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
