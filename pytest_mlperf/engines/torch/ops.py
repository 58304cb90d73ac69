"""ONNX operators as PyTorch calls: those that transformer encoders and CNNs use.

Each takes the node's attributes and its inputs (a tensor, or None where left out).
Shapes are computed on the CPU, as ONNX graphs compute them; data stays where it is.
"""

# ruff: noqa: ARG001, ARG002
from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from pytest_mlperf.api.errors import BuildFailed

Attributes = Mapping[str, Any]
Operator = Callable[..., Any]


def make_operators() -> dict[str, Operator]:
    """Return operator name -> call; imports torch."""
    calls = TorchCalls()
    return {
        "Add": binary(lambda a, b: a + b),
        "ArgMax": lambda at, x: x.argmax(
            int(at.get("axis", 0)), keepdim=bool(at.get("keepdims", 1))
        ),
        "AveragePool": calls.average_pool,
        "BatchNormalization": calls.batch_norm,
        "Clip": clip,
        "Concat": calls.concat,
        "ConstantOfShape": calls.constant_of_shape,
        "Conv": calls.conv,
        "ConvTranspose": calls.conv_transpose,
        "Div": binary(calls.divide),
        "Dropout": lambda _, x: x,
        "Equal": binary(lambda a, b: a == b),
        "Erf": lambda _, x: x.erf(),
        "Exp": lambda _, x: x.exp(),
        "Expand": calls.expand,
        "Flatten": flatten,
        "Gather": calls.gather,
        "GatherElements": lambda at, x, i: x.gather(int(at.get("axis", 0)), i),
        "Gelu": calls.gelu,
        "Gemm": gemm,
        "GlobalAveragePool": lambda _, x: x.mean(list(range(2, x.ndim)), keepdim=True),
        "Identity": lambda _, x: x,
        "InstanceNormalization": calls.instance_norm,
        "LayerNormalization": calls.layer_norm,
        "MatMul": binary(lambda a, b: a @ b),
        "MaxPool": calls.max_pool,
        "Mul": binary(lambda a, b: a * b),
        "Neg": lambda _, x: -x,
        "Pow": binary(lambda a, b: a**b),
        "Reciprocal": lambda _, x: 1 / x,
        "ReduceMean": reduce_mean,
        "Relu": lambda _, x: x.relu(),
        "Reshape": reshape,
        "Shape": calls.shape_of,
        "Sigmoid": lambda _, x: x.sigmoid(),
        "Slice": crop,
        "Softmax": lambda at, x: x.softmax(int(at.get("axis", -1))),
        "Split": split,
        "Sqrt": lambda _, x: x.sqrt(),
        "Squeeze": squeeze,
        "Sub": binary(lambda a, b: a - b),
        "Tanh": lambda _, x: x.tanh(),
        "TopK": lambda at, x, k: x.topk(int(k), int(at.get("axis", -1))),
        "Transpose": transpose,
        "Unsqueeze": unsqueeze,
        "Where": calls.where,
    }


def binary(call: Callable[[Any, Any], Any]) -> Operator:
    """Bring a constant of a shape computation to the device of the data it meets."""

    def operator(attributes: Attributes, a: Any, b: Any) -> Any:
        # PyTorch itself takes single numbers from the CPU, without waiting for a copy.
        if a.device != b.device and a.ndim and b.ndim:
            target = b.device if a.device.type == "cpu" else a.device
            a, b = a.to(target), b.to(target)
        return call(a, b)

    return operator


def read_integers(value: Any) -> list[int]:
    return [int(v) for v in value.reshape(-1).tolist()]


def read_axes(attributes: Attributes, axes: Any, default: Any = ()) -> list[int]:
    """Return axes, which are an input, or in older opsets an attribute."""
    if axes is not None:
        return read_integers(axes)
    return list(attributes.get("axes", default))


def crop(
    attributes: Attributes,
    x: Any,
    starts: Any,
    ends: Any,
    axes: Any = None,
    steps: Any = None,
) -> Any:
    first, last = read_integers(starts), read_integers(ends)
    where = read_integers(axes) if axes is not None else list(range(len(first)))
    strides = read_integers(steps) if steps is not None else [1] * len(first)
    spans = [slice(None)] * x.ndim
    for axis, start, end, stride in zip(where, first, last, strides, strict=True):
        size = x.shape[axis]
        spans[axis] = slice(min(start, size), min(end, size), stride)
    return x[tuple(spans)]


def reshape(attributes: Attributes, x: Any, shape: Any) -> Any:
    sizes = read_integers(shape)
    return x.reshape([x.shape[i] if s == 0 else s for i, s in enumerate(sizes)])


def flatten(attributes: Attributes, x: Any) -> Any:
    return x.reshape(x.shape[: int(attributes.get("axis", 1))].numel(), -1)


def transpose(attributes: Attributes, x: Any) -> Any:
    return x.permute(*attributes.get("perm", range(x.ndim - 1, -1, -1)))


def unsqueeze(attributes: Attributes, x: Any, axes: Any = None) -> Any:
    where = read_axes(attributes, axes)
    rank = x.ndim + len(where)
    for axis in sorted(a % rank for a in where):
        x = x.unsqueeze(axis)
    return x


def squeeze(attributes: Attributes, x: Any, axes: Any = None) -> Any:
    where = read_axes(attributes, axes)
    return x.squeeze(tuple(where)) if where else x.squeeze()


def split(attributes: Attributes, x: Any, sizes: Any = None) -> Any:
    axis = int(attributes.get("axis", 0))
    parts = read_integers(sizes) if sizes is not None else attributes.get("split")
    if parts is None:
        parts = x.shape[axis] // attributes["outputs"]
    return x.split(parts, axis)


def clip(attributes: Attributes, x: Any, low: Any = None, high: Any = None) -> Any:
    least = attributes.get("min") if low is None else float(low)
    most = attributes.get("max") if high is None else float(high)
    return x.clamp(least, most)


def gemm(attributes: Attributes, a: Any, b: Any, c: Any = None) -> Any:
    a = a.T if attributes.get("transA") else a
    b = b.T if attributes.get("transB") else b
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    out = a @ b * alpha if alpha != 1 else a @ b
    return out if c is None else out + c * beta


def reduce_mean(attributes: Attributes, x: Any, axes: Any = None) -> Any:
    where = read_axes(attributes, axes, range(x.ndim))
    return x.mean(where, keepdim=bool(attributes.get("keepdims", 1)))


class TorchCalls:
    """The operators that are more than methods of tensors."""

    def __init__(self) -> None:
        import torch

        self.torch, self.functional = torch, torch.nn.functional

    def divide(self, a: Any, b: Any) -> Any:
        if a.is_floating_point():
            return a / b
        return self.torch.div(a, b, rounding_mode="trunc")

    def gather(self, attributes: Attributes, data: Any, index: Any) -> Any:
        axis, where = int(attributes.get("axis", 0)) % data.ndim, self.torch.where
        index = index.to(data.device).long()
        index = where(index < 0, index + data.shape[axis], index)
        if axis == 0 and data.ndim == 2 and index.ndim:
            return self.functional.embedding(index, data)
        shape = (*data.shape[:axis], *index.shape, *data.shape[axis + 1 :])
        return data.index_select(axis, index.reshape(-1)).reshape(shape)

    def shape_of(self, attributes: Attributes, x: Any) -> Any:
        sizes = list(x.shape)[attributes.get("start", 0) : attributes.get("end")]
        return self.torch.tensor(sizes, dtype=self.torch.int64)

    def concat(self, attributes: Attributes, *parts: Any) -> Any:
        devices = {p.device for p in parts}
        if len(devices) > 1:
            target = next(d for d in devices if d.type != "cpu")
            parts = tuple(p.to(target) for p in parts)
        return self.torch.cat(parts, int(attributes["axis"]))

    def expand(self, attributes: Attributes, x: Any, shape: Any) -> Any:
        sizes = read_integers(shape)
        return x * self.torch.ones(sizes, dtype=x.dtype, device=x.device)

    def constant_of_shape(self, attributes: Attributes, shape: Any) -> Any:
        value = attributes.get("value")
        value = self.torch.zeros(1) if value is None else value
        return self.torch.full(read_integers(shape), value.item(), dtype=value.dtype)

    def where(self, attributes: Attributes, condition: Any, a: Any, b: Any) -> Any:
        devices = [t.device for t in (condition, a, b)]
        target = next((d for d in devices if d.type != "cpu"), condition.device)
        return self.torch.where(condition.to(target), a.to(target), b.to(target))

    def gelu(self, attributes: Attributes, x: Any) -> Any:
        approximate = attributes.get("approximate", "none")
        return self.functional.gelu(x, approximate=approximate)

    def layer_norm(
        self, attributes: Attributes, x: Any, gamma: Any, beta: Any = None
    ) -> Any:
        axis, eps = int(attributes.get("axis", -1)), attributes.get("epsilon", 1e-5)
        shape = x.shape[axis % x.ndim :]
        return self.functional.layer_norm(x, shape, gamma, beta, eps)

    def batch_norm(
        self, attributes: Attributes, x: Any, g: Any, b: Any, m: Any, v: Any
    ) -> Any:
        eps = attributes.get("epsilon", 1e-5)
        return self.functional.batch_norm(x, m, v, g, b, False, 0.0, eps)

    def conv(self, attributes: Attributes, x: Any, w: Any, b: Any = None) -> Any:
        x, pads = self._pad_unevenly(attributes, x)
        ones, zeros = [1] * (x.ndim - 2), [0] * (x.ndim - 2)
        strides = attributes.get("strides", ones)
        dilations = attributes.get("dilations", ones)
        groups = attributes.get("group", 1)
        return self.torch.convolution(
            x, w, b, strides, pads, dilations, False, zeros, groups
        )

    def conv_transpose(
        self, attributes: Attributes, x: Any, w: Any, b: Any = None
    ) -> Any:
        """Run a transposed convolution whose padding is the same at both ends."""
        ones, zeros = [1] * (x.ndim - 2), [0] * (x.ndim - 2)
        pads = list(attributes.get("pads", zeros * 2))
        half = len(pads) // 2
        if (
            attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "")
            or "output_shape" in attributes
            or pads[:half] != pads[half:]
        ):
            raise BuildFailed(
                "a ConvTranspose with automatic or uneven padding, but the torch engine"
                " reads even pads; export the model with pads, or use onnxruntime"
            )
        return self.torch.convolution(
            x, w, b, attributes.get("strides", ones), pads[:half],
            attributes.get("dilations", ones), True,
            attributes.get("output_padding", zeros), attributes.get("group", 1),
        )  # fmt: skip

    def instance_norm(self, attributes: Attributes, x: Any, w: Any, b: Any) -> Any:
        epsilon = float(attributes.get("epsilon", 1e-5))
        return self.functional.instance_norm(x, weight=w, bias=b, eps=epsilon)

    def max_pool(self, attributes: Attributes, x: Any) -> Any:
        x, pads = self._pad_unevenly(attributes, x, float("-inf"))
        size = list(attributes["kernel_shape"])
        strides = attributes.get("strides", [1] * len(size))
        ceil = bool(attributes.get("ceil_mode", 0))
        pools = {4: self.functional.max_pool2d, 5: self.functional.max_pool3d}
        return pools[x.ndim](x, size, strides, pads, 1, ceil)

    def average_pool(self, attributes: Attributes, x: Any) -> Any:
        x, pads = self._pad_unevenly(attributes, x)
        size, strides = attributes["kernel_shape"], attributes.get("strides", [1, 1])
        ceil = bool(attributes.get("ceil_mode", 0))
        count = bool(attributes.get("count_include_pad", 0))
        return self.functional.avg_pool2d(x, list(size), strides, pads, ceil, count)

    def _pad_unevenly(
        self, attributes: Attributes, x: Any, fill: float = 0.0
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
        return self.functional.pad(x, around, value=fill), [0] * half
