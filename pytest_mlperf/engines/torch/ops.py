"""ONNX operators as PyTorch calls: those that transformer encoders and CNNs use.

Each takes its inputs (a tensor, or None where left out) and the node's attributes.
Shapes are computed on the CPU, as ONNX graphs compute them; data stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from pytest_mlperf.api.errors import BuildFailed

Attributes = Mapping[str, Any]
Operator = Callable[..., Any]


def operators() -> dict[str, Operator]:
    """Return operator name -> call; imports torch."""
    import torch
    from torch.nn import functional as F  # noqa: N812 - its usual name

    def ints(value: Any) -> list[int]:
        return [int(v) for v in value.reshape(-1).tolist()]

    def together(a: Any, b: Any) -> tuple[Any, Any]:
        # A constant of a shape computation may meet data on the device.
        # PyTorch itself takes single numbers from the CPU, without waiting for a copy.
        if a.device != b.device and a.ndim and b.ndim:
            target = b.device if a.device.type == "cpu" else a.device
            a, b = a.to(target), b.to(target)
        return a, b

    def binary(call: Callable[[Any, Any], Any]) -> Operator:
        return lambda at, a, b: call(*together(a, b))  # noqa: ARG005

    def unary(call: Callable[[Any], Any]) -> Operator:
        return lambda at, a: call(a)  # noqa: ARG005

    def divide(a: Any, b: Any) -> Any:
        if a.is_floating_point():
            return a / b
        return torch.div(a, b, rounding_mode="trunc")

    def gather(at: Attributes, data: Any, index: Any) -> Any:
        axis = int(at.get("axis", 0)) % data.ndim
        index = index.to(data.device).long()
        if axis == 0 and data.ndim == 2 and index.ndim:
            return F.embedding(torch.where(index < 0, index + len(data), index), data)
        flat = torch.where(index < 0, index + data.shape[axis], index).reshape(-1)
        shape = (*data.shape[:axis], *index.shape, *data.shape[axis + 1 :])
        return data.index_select(axis, flat).reshape(shape)

    def shape_of(at: Attributes, x: Any) -> Any:
        sizes = list(x.shape)[at.get("start", 0) : at.get("end")]
        return torch.tensor(sizes, dtype=torch.int64)

    def cut(
        at: Attributes,  # noqa: ARG001
        x: Any,
        starts: Any,
        ends: Any,
        axes: Any = None,
        steps: Any = None,
    ) -> Any:
        first, last = ints(starts), ints(ends)
        where = ints(axes) if axes is not None else list(range(len(first)))
        strides = ints(steps) if steps is not None else [1] * len(first)
        spots = [slice(None)] * x.ndim
        for axis, a, b, s in zip(where, first, last, strides, strict=True):
            size = x.shape[axis]
            spots[axis] = slice(min(a, size), min(b, size), s)
        return x[tuple(spots)]

    def reshape(at: Attributes, x: Any, shape: Any) -> Any:  # noqa: ARG001
        sizes = ints(shape)
        return x.reshape([x.shape[i] if s == 0 else s for i, s in enumerate(sizes)])

    def unsqueeze(at: Attributes, x: Any, axes: Any = None) -> Any:
        where = ints(axes) if axes is not None else list(at["axes"])
        rank = x.ndim + len(where)
        for axis in sorted(a % rank for a in where):
            x = x.unsqueeze(axis)
        return x

    def squeeze(at: Attributes, x: Any, axes: Any = None) -> Any:
        where = ints(axes) if axes is not None else list(at.get("axes", ()))
        return x.squeeze(tuple(where)) if where else x.squeeze()

    def clip(at: Attributes, x: Any, low: Any = None, high: Any = None) -> Any:
        floor = at.get("min") if low is None else float(low)
        roof = at.get("max") if high is None else float(high)
        return x.clamp(floor, roof)

    def layer_norm(at: Attributes, x: Any, gamma: Any, beta: Any = None) -> Any:
        axis = int(at.get("axis", -1)) % x.ndim
        return F.layer_norm(x, x.shape[axis:], gamma, beta, at.get("epsilon", 1e-5))

    def gemm(at: Attributes, a: Any, b: Any, c: Any = None) -> Any:
        a = a.T if at.get("transA") else a
        b = b.T if at.get("transB") else b
        out = a @ b * at.get("alpha", 1.0) if at.get("alpha", 1.0) != 1 else a @ b
        return out if c is None else out + c * at.get("beta", 1.0)

    def padded(at: Attributes, x: Any, fill: float = 0.0) -> tuple[Any, list[int]]:
        """Return x and the symmetric padding; the rest of it is done here."""
        if at.get("auto_pad", "NOTSET") not in ("NOTSET", "", "VALID"):
            raise BuildFailed(
                f"a node with auto_pad {at['auto_pad']}, but the torch engine reads "
                "explicit pads; export the model with pads, or use onnxruntime"
            )
        pads = list(at.get("pads", [0] * 2 * (x.ndim - 2)))
        half = len(pads) // 2
        if pads[:half] == pads[half:]:
            return x, pads[:half]
        around = [v for i in reversed(range(half)) for v in (pads[i], pads[half + i])]
        return F.pad(x, around, value=fill), [0] * half

    def conv(at: Attributes, x: Any, w: Any, b: Any = None) -> Any:
        x, pads = padded(at, x)
        rank = x.ndim - 2
        strides, holes = at.get("strides", [1] * rank), at.get("dilations", [1] * rank)
        return torch.convolution(
            x, w, b, strides, pads, holes, False, [0] * rank, at.get("group", 1)
        )

    def max_pool(at: Attributes, x: Any) -> Any:
        x, pads = padded(at, x, float("-inf"))
        size, ceil = list(at["kernel_shape"]), bool(at.get("ceil_mode", 0))
        return F.max_pool2d(x, size, at.get("strides", [1, 1]), pads, 1, ceil)

    def average_pool(at: Attributes, x: Any) -> Any:
        x, pads = padded(at, x)
        size, ceil = list(at["kernel_shape"]), bool(at.get("ceil_mode", 0))
        count = bool(at.get("count_include_pad", 0))
        return F.avg_pool2d(x, size, at.get("strides", [1, 1]), pads, ceil, count)

    def batch_norm(at: Attributes, x: Any, g: Any, b: Any, m: Any, v: Any) -> Any:
        return F.batch_norm(x, m, v, g, b, False, 0.0, at.get("epsilon", 1e-5))

    def mean(at: Attributes, x: Any, axes: Any = None) -> Any:
        where = ints(axes) if axes is not None else list(at.get("axes", range(x.ndim)))
        return x.mean(where, keepdim=bool(at.get("keepdims", 1)))

    def softmax(at: Attributes, x: Any) -> Any:
        return x.softmax(int(at.get("axis", -1)))

    def split(at: Attributes, x: Any, sizes: Any = None) -> Any:
        axis = int(at.get("axis", 0))
        parts = ints(sizes) if sizes is not None else at.get("split")
        if parts is None:
            parts = x.shape[axis] // at["outputs"]
        return x.split(parts, axis)

    def expand(at: Attributes, x: Any, shape: Any) -> Any:  # noqa: ARG001
        return x * torch.ones(ints(shape), dtype=x.dtype, device=x.device)

    def filled(at: Attributes, shape: Any) -> Any:
        value = at.get("value")
        value = torch.zeros(1) if value is None else value
        return torch.full(ints(shape), value.item(), dtype=value.dtype)

    def flatten(at: Attributes, x: Any) -> Any:
        axis = int(at.get("axis", 1))
        return x.reshape(x.shape[:axis].numel(), -1)

    def concat(at: Attributes, *parts: Any) -> Any:
        devices = {p.device for p in parts}
        if len(devices) > 1:
            target = next(d for d in devices if d.type != "cpu")
            parts = tuple(p.to(target) for p in parts)
        return torch.cat(parts, int(at["axis"]))

    def chosen(at: Attributes, x: Any) -> Any:
        return x.argmax(int(at.get("axis", 0)), keepdim=bool(at.get("keepdims", 1)))

    def where(at: Attributes, c: Any, a: Any, b: Any) -> Any:  # noqa: ARG001
        target = next((t.device for t in (c, a, b) if t.device.type != "cpu"), c.device)
        return torch.where(c.to(target), a.to(target), b.to(target))

    return {
        "Add": binary(lambda a, b: a + b),
        "ArgMax": chosen,
        "AveragePool": average_pool,
        "BatchNormalization": batch_norm,
        "Clip": clip,
        "Concat": concat,
        "ConstantOfShape": filled,
        "Conv": conv,
        "Div": binary(divide),
        "Dropout": unary(lambda x: x),
        "Equal": binary(lambda a, b: a == b),
        "Erf": unary(lambda x: x.erf()),
        "Exp": unary(lambda x: x.exp()),
        "Expand": expand,
        "Flatten": flatten,
        "Gather": gather,
        "Gelu": lambda at, x: F.gelu(x, approximate=at.get("approximate", "none")),
        "Gemm": gemm,
        "GlobalAveragePool": unary(
            lambda x: x.mean(list(range(2, x.ndim)), keepdim=True)
        ),
        "Identity": unary(lambda x: x),
        "LayerNormalization": layer_norm,
        "MatMul": binary(lambda a, b: a @ b),
        "MaxPool": max_pool,
        "Mul": binary(lambda a, b: a * b),
        "Neg": unary(lambda x: -x),
        "Pow": binary(lambda a, b: a**b),
        "Reciprocal": unary(lambda x: 1 / x),
        "ReduceMean": mean,
        "Relu": unary(lambda x: x.relu()),
        "Reshape": reshape,
        "Shape": shape_of,
        "Sigmoid": unary(lambda x: x.sigmoid()),
        "Slice": cut,
        "Softmax": softmax,
        "Split": split,
        "Sqrt": unary(lambda x: x.sqrt()),
        "Squeeze": squeeze,
        "Sub": binary(lambda a, b: a - b),
        "Tanh": unary(lambda x: x.tanh()),
        "Transpose": lambda at, x: x.permute(
            *at.get("perm", range(x.ndim - 1, -1, -1))
        ),
        "Unsqueeze": unsqueeze,
        "Where": where,
    }
