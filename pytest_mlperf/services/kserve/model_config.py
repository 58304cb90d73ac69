"""A model's config.pbtxt, as Triton reads it and people change it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

from pytest_mlperf.config.shape_options import KINDS as SHAPES
from pytest_mlperf.config.shape_options import format_shapes
from pytest_mlperf.services.kserve.deployment import Deployment

PLATFORM_FILES = {
    "python": "model.py", "onnxruntime": "model.onnx", "tensorrt": "model.plan",
    "pytorch": "model.pt",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output as config.pbtxt has it: without the batch axis."""

    name: str
    datatype: str
    """The protocol's name: ``FP32``."""
    dims: tuple[int, ...]
    """-1 for any size."""


def format_config(
    name: str,
    deployment: Deployment,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    lengths: Sequence[int] = (),
) -> str:
    """Return a model's config.pbtxt, for people to read and change.

    ``lengths``: of sequences, for which the Python backend captures CUDA graphs.
    """
    made = deployment
    inputs = [fix_length(one, made.max_seq_length) for one in inputs]
    outputs = [fix_length(one, made.max_seq_length) for one in outputs]
    lines = [
        f'name: "{name}"',
        f'backend: "{made.backend}"',
        f'default_model_filename: "{PLATFORM_FILES[made.backend]}"',
        *(['platform: "pytorch_libtorch"'] if made.backend == "pytorch" else []),
        f"max_batch_size: {made.max_batch_size}",
        *format_tensors("input", inputs, ragged=made.backend == "python"),
        *format_tensors("output", outputs),
        _format_instances(made),
        *_format_batching(made),
        f"response_cache {{ enable: {str(made.response_cache).lower()} }}",
        *_format_optimization(made, inputs, lengths),
    ]
    if made.backend != "tensorrt":
        key = "intra_op_thread_count"
        key = key.upper() if made.backend == "pytorch" else key
        lines.append(
            f'parameters {{ key: "{key}" value {{ string_value: '
            f'"{made.intra_op_thread_count}" }} }}'
        )
    if made.runs_on_gpu:
        # Else Triton copies what a client or another model has on the GPU to the host.
        lines.append(
            'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: '
            '"no" } }'
        )
    if made.model_warmup:
        lines += _format_warm_up(inputs)
    return "\n".join(lines) + "\n"


def fix_length(spec: TensorSpec, length: int | None) -> TensorSpec:
    """Return a sequence's tensor with a length of its own, where one is given."""
    is_sequence = spec.dims == (-1,)
    return replace(spec, dims=(length,)) if length and is_sequence else spec


def format_tensors(
    kind: str,
    tensors: Sequence[TensorSpec],
    *,
    ragged: bool = False,
    whole: bool = False,
) -> list[str]:
    """Return the lines of a model's inputs or outputs; of an ensemble, ``whole``."""
    lines = [f"{kind} ["]
    for one in tensors:
        dims = ", ".join(map(str, one.dims or (1,)))
        # Triton has no tensor of the batch axis alone: it shows clients [batch, 1].
        scalar = " reshape: { shape: [ ] }" * (not one.dims and not whole)
        # Sequences of several lengths make one batch: the Python model pads them.
        free = " allow_ragged_batch: true" * (ragged and -1 in one.dims)
        lines.append(
            f'  {{ name: "{one.name}" data_type: TYPE_{one.datatype}'
            f" dims: [ {dims} ]{scalar}{free} }},"
        )
    lines[-1] = lines[-1].rstrip(",")
    return [*lines, "]"]


def _format_instances(made: Deployment) -> str:
    count, kind = made.instance_group_count, made.instance_group_kind
    return f"instance_group [ {{ count: {count} kind: {kind} }} ]"


def _format_batching(made: Deployment) -> list[str]:
    parts = [f"max_queue_delay_microseconds: {made.max_queue_delay_microseconds}"]
    if made.preferred_batch_size:
        sizes = ", ".join(map(str, made.preferred_batch_size))
        parts.insert(0, f"preferred_batch_size: [ {sizes} ]")
    return ["dynamic_batching {", *(f"  {part}" for part in parts), "}"]


def _format_optimization(
    made: Deployment, inputs: Sequence[TensorSpec], lengths: Sequence[int]
) -> list[str]:
    if made.backend == "tensorrt" and made.capture_cuda_graph:
        return ["optimization { cuda { graphs: true } }"]
    if made.captures_torchscript:
        return _format_graphs(made, inputs, lengths)
    if not made.is_accelerated:
        return []
    keys = {"precision_mode": (made.accelerator_precision or "fp16").upper()}
    if made.max_workspace_size_bytes:
        keys["max_workspace_size_bytes"] = str(made.max_workspace_size_bytes)
    for name in SHAPES:
        if shapes := getattr(made, name):
            keys[f"trt_profile_{name}"] = format_shapes(shapes, ",")
    return [
        "optimization {",
        "  execution_accelerators {",
        "    gpu_execution_accelerator : [ {",
        '      name : "tensorrt"',
        *(
            f'      parameters {{ key: "{key}" value: "{value}" }}'
            for key, value in keys.items()
        ),
        "    } ]",
        "  }",
        "}",
    ]


def _format_graphs(
    made: Deployment, inputs: Sequence[TensorSpec], lengths: Sequence[int]
) -> list[str]:
    """Name each batch size with each length, in the words of a plan's graphs."""
    lines = ["optimization { cuda {", "  graphs: true", "  graph_spec ["]
    is_free = any(dim < 0 for one in inputs for dim in one.dims)
    for rows in made.graph_batch_sizes:
        for length in lengths if is_free else (1,):
            lines.append(f"    {{ batch_size: {rows}")
            for one in inputs:
                dims = ", ".join(str(length if n < 0 else n) for n in one.dims)
                lines.append(
                    f'      input {{ key: "{one.name}" value {{ dim: [ {dims} ] }} }}'
                )
            lines.append("    },")
    lines[-1] = "    }"
    return [*lines, "  ]", "} }"]


def _format_warm_up(inputs: Sequence[TensorSpec]) -> list[str]:
    lines = ["model_warmup [ {", '  name: "zeros"', "  batch_size: 1"]
    for one in inputs:
        dims = ", ".join(str(max(1, size)) for size in one.dims)
        lines.append(
            f'  inputs {{ key: "{one.name}" value {{ data_type: TYPE_{one.datatype}'
            f" dims: [ {dims} ] zero_data: true }} }}"
        )
    return [*lines, "} ]"]
