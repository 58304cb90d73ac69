"""An ONNX graph that is written node by node, without a framework to export it."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlperf.core.whole_file import replace_whole

OPSET, IR_VERSION = 17, 8
FLOAT, INT8, INT32, INT64 = 1, 3, 6, 7
"""ONNX's element types."""
TensorType = tuple[int, Sequence[int | str]]
"""Element type and shape; a word stands for any length."""


class OnnxWriter:
    """A graph's nodes and constants."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def constant(self, name: str, values: Any) -> str:
        """Add a constant of the type that its values have; return its name."""
        from onnx import numpy_helper

        self.tensors.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(
        self, kind: str, inputs: Sequence[str], output: str, **attributes: Any
    ) -> str:
        """Add a node with one output; return that."""
        self.add(kind, inputs, [output], **attributes)
        return output

    def add(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        **attributes: Any,
    ) -> None:
        """Add a node."""
        from onnx import helper

        node = helper.make_node(kind, list(inputs), list(outputs), **attributes)
        self.nodes.append(node)

    def make_model(
        self,
        name: str,
        inputs: Mapping[str, TensorType],
        outputs: Mapping[str, TensorType],
    ) -> Any:
        """Return the graph of that name as ONNX's ``ModelProto``."""
        from onnx import helper

        def describe(tensors: Mapping[str, TensorType]) -> list[Any]:
            pairs = tensors.items()
            return [helper.make_tensor_value_info(key, *one) for key, one in pairs]

        graph = helper.make_graph(
            self.nodes, name, describe(inputs), describe(outputs), self.tensors
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def write_onnx(path: Path, model: Any) -> None:
    """Write a ``ModelProto``, whole or not at all. Raises ``OSError``."""
    import onnx

    with replace_whole(path) as partial:
        onnx.save(model, str(partial))
