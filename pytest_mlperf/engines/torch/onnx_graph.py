"""An ONNX graph as PyTorch calls: read once, constants folded, run on any device."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.engines.torch.ops import operators

MOST_FOLDED = 1 << 28
"""Numbers a folded constant may have."""


@dataclass(slots=True)
class Node:
    """One operator; names of values in and out, attributes as Python values."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Graph:
    """Nodes in order and the constants they use, as CPU tensors (floats: float32)."""

    nodes: list[Node]
    constants: dict[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def users(self) -> dict[str, list[Node]]:
        """Return value name -> nodes that read it."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                found.setdefault(name, []).append(node)
        return found


def read(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
    """Read an ONNX file and fold what depends on constants alone.

    Raises ``BuildFailed`` for operators that are not known here, and names them.
    """
    import onnx
    import torch
    from onnx import numpy_helper

    proto = onnx.load(str(path)).graph
    known = operators()

    def tensor(value: Any) -> Any:
        array = numpy_helper.to_array(value)
        found = torch.from_numpy(array.copy())
        return found.float() if found.is_floating_point() else found

    constants = {t.name: tensor(t) for t in proto.initializer}
    nodes: list[Node] = []
    unknown: set[str] = set()
    for item in proto.node:
        attributes: dict[str, Any] = {"outputs": len(item.output)}
        for attribute in item.attribute:
            value = onnx.helper.get_attribute_value(attribute)
            if isinstance(value, onnx.TensorProto):
                value = tensor(value)
            attributes[attribute.name] = (
                value.decode() if isinstance(value, bytes) else value
            )
        node = Node(
            item.op_type, item.name, tuple(item.input), tuple(item.output), attributes
        )
        if node.kind == "Constant":
            (value,) = [v for k, v in attributes.items() if k.startswith("value")]
            constants[node.outputs[0]] = torch.as_tensor(value)
            continue
        if node.kind not in known and node.kind != "Cast":
            unknown.add(node.kind)
            continue
        if node.kind != "Shape" and all(i in constants for i in node.inputs if i):
            values = [constants[i] if i else None for i in node.inputs]
            result = apply(node, known, values, torch.float32)
            if sum(r.numel() for r in result) <= MOST_FOLDED:
                constants.update(zip(node.outputs, result, strict=False))
                continue
        nodes.append(node)
    if unknown:
        raise BuildFailed(
            f"{path} uses the operators {', '.join(sorted(unknown))}, which the engine "
            "torch does not know; it should use those of engines/torch_ops.py: add "
            "them there, or run this model with --mlperf-engine onnxruntime"
        )
    used = {name for node in nodes for name in node.inputs} | set(outputs)
    constants = {name: value for name, value in constants.items() if name in used}
    return Graph(nodes, constants, tuple(inputs), tuple(outputs))


def apply(
    node: Node, known: Mapping[str, Any], values: Sequence[Any], floats: Any
) -> tuple[Any, ...]:
    """Run one node; floats are of one type throughout, whatever a Cast says."""
    if node.kind == "Cast":
        return (values[0].to(_cast_type(node.attributes["to"], floats)),)
    result = known[node.kind](node.attributes, *values)
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def _cast_type(code: int, floats: Any) -> Any:
    import torch

    # ONNX TensorProto.DataType: 1 float, 10 float16, 11 double, 16 bfloat16.
    if code in (1, 10, 11, 16):
        return floats
    kinds = {2: torch.uint8, 3: torch.int8, 6: torch.int32, 9: torch.bool}
    return kinds.get(code, torch.int64)


class Program:
    """A graph ready to run on a device in a floating-point type."""

    def __init__(
        self,
        graph: Graph,
        device: Any,
        dtype: Any,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Take further operators in ``more``: those that a rewritten graph uses."""
        import torch

        self.graph, self.device, self.dtype = graph, torch.device(device), dtype
        self._known = {**operators(), **(more or {})}
        self.values = {n: self._placed(v) for n, v in graph.constants.items()}
        # A value is dropped after its last use: activations need not all be kept.
        self._drop: list[tuple[str, ...]] = []
        seen = set(graph.outputs) | set(self.values)
        for node in reversed(graph.nodes):
            last = {name for name in node.inputs if name and name not in seen}
            self._drop.append(tuple(last))
            seen |= last
        self._drop.reverse()

    def _placed(self, value: Any) -> Any:
        import torch

        if value.is_floating_point() and value.itemsize == 1:
            return value.to(self.device)  # fp8, laid out as its kernel wants it
        if value.is_floating_point():
            limits = torch.finfo(self.dtype)
            # A mask's -3.4e38 would be infinite, and its row NaN, in fp16.
            value = value.clamp(limits.min, limits.max)
            if not value.ndim:
                return value.to(self.dtype)
            value = value.to(self.device, self.dtype)
            if value.ndim == 4 and self.device.type == "cuda":
                return value.contiguous(memory_format=torch.channels_last)
            return value
        # Small integers are shapes and axes: they are needed on the CPU.
        return value if value.numel() <= 64 else value.to(self.device)

    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        """Return the outputs; ``feeds`` are tensors on the device."""
        import torch

        values: dict[str, Any] = dict(self.values)
        for name, value in feeds.items():
            floats = value.is_floating_point()
            values[name] = value.to(self.dtype) if floats else value
        with torch.inference_mode():
            for node, drop in zip(self.graph.nodes, self._drop, strict=True):
                given = [values[i] if i else None for i in node.inputs]
                try:
                    found = apply(node, self._known, given, self.dtype)
                except Exception as error:
                    shapes = [getattr(v, "shape", None) for v in given]
                    raise BuildFailed(
                        f"the operator {node.kind} ({node.name or node.outputs[0]}) "
                        f"failed on inputs of {[tuple(s) for s in shapes if s]}: "
                        f"{type(error).__name__}: {error}; the engine onnxruntime "
                        "runs every operator, if slower"
                    ) from error
                values.update(zip(node.outputs, found, strict=False))
                for name in drop:
                    del values[name]
        return [values[name] for name in self.graph.outputs]
