"""A model as a TorchScript file, for servers that run libtorch.

A trace has the graph's calls for one batch: sizes that a Reshape computes are constants
in it. A script is compiled of the graph's source, in which they stay computations. Both
keep the device that they were made for.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from collections.abc import Sequence
from inspect import Parameter
from inspect import Signature
from pathlib import Path
from typing import Any

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.engines.torch.onnx_graph import OnnxGraph
from pytest_mlperf.engines.torch.onnx_graph import Program
from pytest_mlperf.engines.torch.onnx_graph import read_graph
from pytest_mlperf.engines.torch.ops import crop
from pytest_mlperf.engines.torch.ops import read_integers
from pytest_mlperf.engines.torch.script_source import ScriptSource


def choose_device(*, on_gpu: bool) -> str:
    """Return PyTorch's name of the device; raises ``BuildFailed`` without a GPU."""
    import torch

    if on_gpu and not torch.cuda.is_available():
        raise BuildFailed(
            "TorchScript for KIND_GPU is traced on a GPU, but PyTorch finds none; run "
            "the export where one is, or leave instance_group_kind away"
        )
    return "cuda" if on_gpu else "cpu"


def write_torchscript(
    model: ModelFile, precision: str, batch: Batch | None, path: Path, device: str
) -> None:
    """Trace a model on a batch, or script it without one, and write it for a device.

    Arguments of ``forward`` have the names of the model's inputs; outputs are a tuple
    of float32. Raises ``BuildFailed`` for a precision other than ``fp32`` and ``fp16``
    and for operators that are not known.
    """
    import torch

    types = {"fp32": torch.float32, "fp16": torch.float16}
    if precision not in types:
        raise BuildFailed(
            f"TorchScript in {precision}, but should be one of {', '.join(types)}; "
            "int8 is written as ONNX: --format onnx"
        )
    graph = read_graph(model.path, model.inputs, model.outputs)
    with torch.no_grad(), warnings.catch_warnings():
        # Of its age; Triton's pytorch backend reads nothing newer.
        warnings.simplefilter("ignore", DeprecationWarning)
        if batch is None:
            made = script_graph(graph, device, types[precision])
        else:
            made = trace_graph(graph, device, types[precision], batch)
        torch.jit.save(made, str(path))


def script_graph(graph: OnnxGraph, device: str, dtype: Any) -> Any:
    """Return a graph as a module that TorchScript compiled of its source."""
    import torch

    # The source's names are looked up here.
    from pytest_mlperf.engines.torch import scripted_calls as calls  # noqa: F401

    source = ScriptSource(graph, dtype)
    text = source.write()
    constants = Program(graph, device, dtype).values
    # A class of its own: modules of one class and the same buffers share their methods.
    module = type("Graph", (torch.nn.Module,), {})()
    for name, buffer in source.buffers.items():
        module.register_buffer(buffer, constants[name])
    scripted = torch.jit.script(module.eval())
    scripted.define(text)
    return scripted


def trace_graph(graph: OnnxGraph, device: str, dtype: Any, batch: Batch) -> Any:
    """Return the calls that a graph makes for a batch."""
    import torch

    traceable = {"Shape": trace_shape, "Slice": trace_crop}
    program = Program(graph, device, dtype, traceable)

    def forward(*values: Any) -> tuple[Any, ...]:
        results = program.run(dict(zip(graph.inputs, values, strict=True)))
        return tuple(one.float() if one.is_floating_point() else one for one in results)

    # TorchScript takes the arguments' names from here.
    kind = Parameter.POSITIONAL_OR_KEYWORD
    names = [Parameter(name, kind) for name in graph.inputs]
    forward.__signature__ = Signature(names)  # type: ignore[attr-defined]
    module = torch.nn.Module()
    module.forward = forward
    feeds = tuple(to_tensors(graph.inputs, batch, device))
    with warnings.catch_warnings():
        # It warns of every number that becomes a constant, weights' axes too.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        # Its own check compares two traces; what was written is compared afterwards.
        return torch.jit.trace(module.eval(), feeds, check_trace=False)


def run_torchscript(
    path: Path, inputs: Sequence[str], device: str, batch: Batch
) -> list[Array]:
    """Return the outputs of a file that ``write_torchscript`` wrote."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.load(str(path), map_location=device)
    with torch.inference_mode():
        results = module(*to_tensors(inputs, batch, device))
    return [one.cpu().numpy() for one in results]


def to_tensors(inputs: Sequence[str], batch: Batch, device: str) -> list[Any]:
    """Return a batch's arrays as tensors on a device, in the order of the inputs."""
    import torch

    return [torch.tensor(batch[name], device=device) for name in inputs]


def trace_shape(attributes: Mapping[str, Any], x: Any) -> Any:
    """Shape, as a tensor that depends on the traced input."""
    import torch

    sizes = torch._shape_as_tensor(x)
    return sizes[attributes.get("start", 0) : attributes.get("end")]


def trace_crop(
    attributes: Mapping[str, Any],
    x: Any,
    starts: Any,
    ends: Any,
    axes: Any = None,
    steps: Any = None,
) -> Any:
    """Slice of one axis from a constant start to an end that may be computed."""
    if ends.numel() != 1 or axes is None or steps is not None:
        return crop(attributes, x, starts, ends, axes, steps)
    (start,), (axis,) = read_integers(starts), read_integers(axes)
    spans: list[Any] = [slice(None)] * x.ndim
    spans[axis] = slice(start, ends.reshape(()))
    return x[tuple(spans)]
