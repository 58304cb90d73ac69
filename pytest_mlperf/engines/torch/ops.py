"""ONNX operators as PyTorch calls: those that transformer encoders and CNNs use.

Each takes the node's attributes and its inputs (a tensor, or None where left out).
Shapes are computed on the CPU, as ONNX graphs compute them; data stays where it is.

Imports torch at its top: this module is imported by functions only.
"""

# ruff: noqa: ARG001
from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from pytest_mlperf.api.errors import BuildFailed

Attributes = Mapping[str, Any]
Operator = Callable[..., Any]


def unary(call: Callable[[Any], Any]) -> Operator:
    return lambda _, x: call(x)


def binary(call: Callable[[Any, Any], Any]) -> Operator:
    return lambda _, a, b: call(*_on_one_device(a, b))


def _on_one_device(a: Any, b: Any) -> tuple[Any, Any]:
    # A constant of a shape computation may meet data on the device. PyTorch itself
    # takes single numbers from the CPU, without waiting for a copy.
    if a.device != b.device and a.ndim and b.ndim:
        target = b.device if a.device.type == "cpu" else a.device
        a, b = a.to(target), b.to(target)
    return a, b


def _integers(value: Any) -> list[int]:
    return [int(v) for v in value.reshape(-1).tolist()]


def _axes(attributes: Attributes, axes: Any, default: Any = ()) -> list[int]:
    """Return axes that are an input, or an attribute in older opsets."""
    if axes is not None:
        return _integers(axes)
    return list(attributes.get("axes", default))


def divide(a: Any, b: Any) -> Any:
    if a.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


def arg_max(attributes: Attributes, x: Any) -> Any:
    axis, keep = int(attributes.get("axis", 0)), bool(attributes.get("keepdims", 1))
    return x.argmax(axis, keepdim=keep)


def gather(attributes: Attributes, data: Any, index: Any) -> Any:
    axis = int(attributes.get("axis", 0)) % data.ndim
    index = index.to(data.device).long()
    if axis == 0 and data.ndim == 2 and index.ndim:
        return F.embedding(torch.where(index < 0, index + len(data), index), data)
    flat = torch.where(index < 0, index + data.shape[axis], index).reshape(-1)
    shape = (*data.shape[:axis], *index.shape, *data.shape[axis + 1 :])
    return data.index_select(axis, flat).reshape(shape)


def shape_of(attributes: Attributes, x: Any) -> Any:
    sizes = list(x.shape)[attributes.get("start", 0) : attributes.get("end")]
    return torch.tensor(sizes, dtype=torch.int64)


def slice_axes(
    attributes: Attributes,
    x: Any,
    starts: Any,
    ends: Any,
    axes: Any = None,
    steps: Any = None,
) -> Any:
    first, last = _integers(starts), _integers(ends)
    where = _integers(axes) if axes is not None else list(range(len(first)))
    strides = _integers(steps) if steps is not None else [1] * len(first)
    slices = [slice(None)] * x.ndim
    for axis, start, end, stride in zip(where, first, last, strides, strict=True):
        size = x.shape[axis]
        slices[axis] = slice(min(start, size), min(end, size), stride)
    return x[tuple(slices)]


def reshape(attributes: Attributes, x: Any, shape: Any) -> Any:
    sizes = _integers(shape)
    return x.reshape([x.shape[i] if s == 0 else s for i, s in enumerate(sizes)])


def flatten(attributes: Attributes, x: Any) -> Any:
    axis = int(attributes.get("axis", 1))
    return x.reshape(x.shape[:axis].numel(), -1)


def transpose(attributes: Attributes, x: Any) -> Any:
    return x.permute(*attributes.get("perm", range(x.ndim - 1, -1, -1)))


def unsqueeze(attributes: Attributes, x: Any, axes: Any = None) -> Any:
    where = _axes(attributes, axes)
    rank = x.ndim + len(where)
    for axis in sorted(a % rank for a in where):
        x = x.unsqueeze(axis)
    return x


def squeeze(attributes: Attributes, x: Any, axes: Any = None) -> Any:
    where = _axes(attributes, axes)
    return x.squeeze(tuple(where)) if where else x.squeeze()


def split(attributes: Attributes, x: Any, sizes: Any = None) -> Any:
    axis = int(attributes.get("axis", 0))
    parts = _integers(sizes) if sizes is not None else attributes.get("split")
    if parts is None:
        parts = x.shape[axis] // attributes["outputs"]
    return x.split(parts, axis)


def concat(attributes: Attributes, *parts: Any) -> Any:
    devices = {p.device for p in parts}
    if len(devices) > 1:
        target = next(d for d in devices if d.type != "cpu")
        parts = tuple(p.to(target) for p in parts)
    return torch.cat(parts, int(attributes["axis"]))


def expand(attributes: Attributes, x: Any, shape: Any) -> Any:
    return x * torch.ones(_integers(shape), dtype=x.dtype, device=x.device)


def constant_of_shape(attributes: Attributes, shape: Any) -> Any:
    value = attributes.get("value")
    value = torch.zeros(1) if value is None else value
    return torch.full(_integers(shape), value.item(), dtype=value.dtype)


def where(attributes: Attributes, condition: Any, a: Any, b: Any) -> Any:
    devices = [t.device for t in (condition, a, b)]
    target = next((d for d in devices if d.type != "cpu"), condition.device)
    return torch.where(condition.to(target), a.to(target), b.to(target))


def clip(attributes: Attributes, x: Any, low: Any = None, high: Any = None) -> Any:
    least = attributes.get("min") if low is None else float(low)
    most = attributes.get("max") if high is None else float(high)
    return x.clamp(least, most)


def gelu(attributes: Attributes, x: Any) -> Any:
    return F.gelu(x, approximate=attributes.get("approximate", "none"))


def softmax(attributes: Attributes, x: Any) -> Any:
    return x.softmax(int(attributes.get("axis", -1)))


def layer_norm(attributes: Attributes, x: Any, gamma: Any, beta: Any = None) -> Any:
    axis, eps = int(attributes.get("axis", -1)), attributes.get("epsilon", 1e-5)
    return F.layer_norm(x, x.shape[axis % x.ndim :], gamma, beta, eps)


def batch_norm(attributes: Attributes, x: Any, g: Any, b: Any, m: Any, v: Any) -> Any:
    eps = attributes.get("epsilon", 1e-5)
    return F.batch_norm(x, m, v, g, b, False, 0.0, eps)


def reduce_mean(attributes: Attributes, x: Any, axes: Any = None) -> Any:
    where = _axes(attributes, axes, range(x.ndim))
    return x.mean(where, keepdim=bool(attributes.get("keepdims", 1)))


def global_average_pool(attributes: Attributes, x: Any) -> Any:
    return x.mean(list(range(2, x.ndim)), keepdim=True)


def gemm(attributes: Attributes, a: Any, b: Any, c: Any = None) -> Any:
    a = a.T if attributes.get("transA") else a
    b = b.T if attributes.get("transB") else b
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    out = a @ b * alpha if alpha != 1 else a @ b
    return out if c is None else out + c * beta


def pad_unevenly(
    attributes: Attributes, x: Any, fill: float = 0.0
) -> tuple[Any, list[int]]:
    """Pad ``x`` unless its padding is symmetric; return the padding left to do."""
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "", "VALID"):
        raise BuildFailed(
            f"a node with auto_pad {attributes['auto_pad']}, but the torch engine "
            "reads explicit pads; export the model with pads, or use onnxruntime"
        )
    pads = list(attributes.get("pads", [0] * 2 * (x.ndim - 2)))
    half = len(pads) // 2
    if pads[:half] == pads[half:]:
        return x, pads[:half]
    around = [v for i in reversed(range(half)) for v in (pads[i], pads[half + i])]
    return F.pad(x, around, value=fill), [0] * half


def conv(attributes: Attributes, x: Any, weight: Any, bias: Any = None) -> Any:
    x, pads = pad_unevenly(attributes, x)
    ones, zeros = [1] * (x.ndim - 2), [0] * (x.ndim - 2)
    strides = attributes.get("strides", ones)
    dilations = attributes.get("dilations", ones)
    groups = attributes.get("group", 1)
    return torch.convolution(
        x, weight, bias, strides, pads, dilations, False, zeros, groups
    )


def max_pool(attributes: Attributes, x: Any) -> Any:
    x, pads = pad_unevenly(attributes, x, float("-inf"))
    size, strides = list(attributes["kernel_shape"]), attributes.get("strides", [1, 1])
    return F.max_pool2d(x, size, strides, pads, 1, bool(attributes.get("ceil_mode", 0)))


def average_pool(attributes: Attributes, x: Any) -> Any:
    x, pads = pad_unevenly(attributes, x)
    size, strides = list(attributes["kernel_shape"]), attributes.get("strides", [1, 1])
    ceil = bool(attributes.get("ceil_mode", 0))
    count_padding = bool(attributes.get("count_include_pad", 0))
    return F.avg_pool2d(x, size, strides, pads, ceil, count_padding)


OPERATORS: Mapping[str, Operator] = {
    "Add": binary(lambda a, b: a + b),
    "ArgMax": arg_max,
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "Clip": clip,
    "Concat": concat,
    "ConstantOfShape": constant_of_shape,
    "Conv": conv,
    "Div": binary(divide),
    "Dropout": unary(lambda x: x),
    "Equal": binary(lambda a, b: a == b),
    "Erf": unary(lambda x: x.erf()),
    "Exp": unary(lambda x: x.exp()),
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Gelu": gelu,
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "Identity": unary(lambda x: x),
    "LayerNormalization": layer_norm,
    "MatMul": binary(lambda a, b: a @ b),
    "MaxPool": max_pool,
    "Mul": binary(lambda a, b: a * b),
    "Neg": unary(lambda x: -x),
    "Pow": binary(lambda a, b: a**b),
    "Reciprocal": unary(lambda x: 1 / x),
    "ReduceMean": reduce_mean,
    "Relu": unary(lambda x: x.relu()),
    "Reshape": reshape,
    "Shape": shape_of,
    "Sigmoid": unary(lambda x: x.sigmoid()),
    "Slice": slice_axes,
    "Softmax": softmax,
    "Split": split,
    "Sqrt": unary(lambda x: x.sqrt()),
    "Squeeze": squeeze,
    "Sub": binary(lambda a, b: a - b),
    "Tanh": unary(lambda x: x.tanh()),
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Where": where,
}
