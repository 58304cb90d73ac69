"""An ONNX graph as PyTorch calls: read once, constants folded, run on any device."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.engines.torch.ops import make_operators

MAX_FOLDED = 1 << 28
"""Numbers that a folded constant may have."""


@dataclass(slots=True)
class Node:
    """One operator; names of values in and out, attributes as Python values."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class OnnxGraph:
    """Nodes in order and the constants they use, as CPU tensors (floats: float32)."""

    nodes: list[Node]
    constants: dict[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def users(self) -> dict[str, list[Node]]:
        """Return value name -> nodes that read it."""
        users: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                users.setdefault(name, []).append(node)
        return users

    def makers(self) -> dict[str, Node]:
        """Return value name -> the node that computes it."""
        return {output: node for node in self.nodes for output in node.outputs}


def read_graph(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> OnnxGraph:
    """Read an ONNX file and fold what depends on constants alone.

    Raises ``BuildFailed`` for operators that are not known here, and names them.
    """
    import onnx
    import torch

    proto, operators = onnx.load(str(path)).graph, make_operators()
    constants = {t.name: _to_tensor(t) for t in proto.initializer}
    nodes: list[Node] = []
    unknown: set[str] = set()
    for item in proto.node:
        node = _read_node(item)
        if node.kind == "Constant":
            (value,) = [v for k, v in node.attributes.items() if k.startswith("value")]
            constants[node.outputs[0]] = torch.as_tensor(value)
            continue
        if node.kind not in operators and node.kind != "Cast":
            unknown.add(node.kind)
            continue
        if node.kind != "Shape" and all(i in constants for i in node.inputs if i):
            values = [constants[i] if i else None for i in node.inputs]
            results = run_node(node, operators, values, torch.float32)
            if sum(result.numel() for result in results) <= MAX_FOLDED:
                constants.update(zip(node.outputs, results, strict=False))
                continue
        nodes.append(node)
    if unknown:
        raise BuildFailed(
            f"{path} uses the operators {', '.join(sorted(unknown))}, which the engine "
            "torch does not know; it should use those of engines/torch/ops.py: add "
            "them there, or run this model with --mlperf-engine onnxruntime"
        )
    used = {name for node in nodes for name in node.inputs} | set(outputs)
    constants = {name: value for name, value in constants.items() if name in used}
    return OnnxGraph(nodes, constants, tuple(inputs), tuple(outputs))


def _to_tensor(proto: Any) -> Any:
    import torch
    from onnx import numpy_helper

    tensor = torch.from_numpy(numpy_helper.to_array(proto).copy())
    return tensor.float() if tensor.is_floating_point() else tensor


def _read_node(proto: Any) -> Node:
    import onnx

    attributes: dict[str, Any] = {"outputs": len(proto.output)}
    for attribute in proto.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto):
            value = _to_tensor(value)
        is_text = isinstance(value, bytes)
        attributes[attribute.name] = value.decode() if is_text else value
    inputs, outputs = tuple(proto.input), tuple(proto.output)
    return Node(proto.op_type, proto.name, inputs, outputs, attributes)


def run_node(
    node: Node, operators: Mapping[str, Any], values: Sequence[Any], dtype: Any
) -> tuple[Any, ...]:
    """Run one node; floats are of one type throughout, whatever a Cast says."""
    if node.kind == "Cast":
        return (values[0].to(cast_type(node.attributes["to"], dtype)),)
    result = operators[node.kind](node.attributes, *values)
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def cast_type(code: int, dtype: Any) -> Any:
    """Return PyTorch's type of a Cast; ``dtype`` for every floating-point one."""
    import torch

    # ONNX TensorProto.DataType: 1 float, 10 float16, 11 double, 16 bfloat16.
    if code in (1, 10, 11, 16):
        return dtype
    integers = {2: torch.uint8, 3: torch.int8, 6: torch.int32, 9: torch.bool}
    return integers.get(code, torch.int64)


def is_halving_pool(attributes: Mapping[str, Any], channels: int) -> bool:
    """Tell whether a pooling is 3x3 with stride 2, which has a kernel of its own."""
    return (
        list(attributes["kernel_shape"]) == [3, 3]
        and list(attributes.get("strides", ())) == [2, 2]
        and list(attributes.get("pads", ())) == [1, 1, 1, 1]
        and not attributes.get("ceil_mode", 0)
        and channels & (channels - 1) == 0
    )


class Program:
    """A graph ready to run on a device in a floating-point type."""

    def __init__(
        self,
        graph: OnnxGraph,
        device: Any,
        dtype: Any,
        operators: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare the graph; ``operators`` are those beyond ONNX that it uses."""
        import torch

        self.graph, self.device, self.dtype = graph, torch.device(device), dtype
        self._operators = {**make_operators(), **(operators or {})}
        self.values = {n: self._place(v) for n, v in graph.constants.items()}
        # A value is dropped after its last use: not all activations fit at once.
        self._drop: list[tuple[str, ...]] = []
        seen = set(graph.outputs) | set(self.values)
        for node in reversed(graph.nodes):
            last = {name for name in node.inputs if name and name not in seen}
            self._drop.append(tuple(last))
            seen |= last
        self._drop.reverse()

    def _place(self, value: Any) -> Any:
        import torch

        if value.is_floating_point() and value.itemsize == 1:
            return value.to(self.device)  # fp8, in the layout that its kernel takes
        if value.is_floating_point():
            limits = torch.finfo(self.dtype)
            # In fp16 a mask's -3.4e38 would be infinite, and its row NaN.
            value = value.clamp(limits.min, limits.max)
            if not value.ndim:
                return value.to(self.dtype)
            value = value.to(self.device, self.dtype)
            layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
            if value.ndim in layouts and self.device.type == "cuda":
                value = value.contiguous(memory_format=layouts[value.ndim])
                if value.shape[1] == 1:
                    # Of one channel both layouts are the same memory: only strides
                    # tell PyTorch which one the result should have.
                    strides = list(value.stride())
                    strides[1] = 1
                    value = value.as_strided(value.shape, strides)
            return value
        # Small integers are shapes and axes: they are needed on the CPU.
        return value if value.numel() <= 64 else value.to(self.device)

    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        """Return the outputs; ``feeds`` are tensors on the device."""
        import torch

        values: dict[str, Any] = dict(self.values)
        for name, value in feeds.items():
            is_float = value.is_floating_point()
            values[name] = value.to(self.dtype) if is_float else value
        with torch.inference_mode():
            for node, drop in zip(self.graph.nodes, self._drop, strict=True):
                inputs = [values[i] if i else None for i in node.inputs]
                try:
                    outputs = run_node(node, self._operators, inputs, self.dtype)
                except Exception as error:
                    shapes = [getattr(v, "shape", None) for v in inputs]
                    raise BuildFailed(
                        f"the operator {node.kind} ({node.name or node.outputs[0]}) "
                        f"failed on inputs of {[tuple(s) for s in shapes if s]}: "
                        f"{type(error).__name__}: {error}; the engine onnxruntime "
                        "runs every operator, if slower"
                    ) from error
                values.update(zip(node.outputs, outputs, strict=False))
                for name in drop:
                    del values[name]
        return [values[name] for name in self.graph.outputs]
