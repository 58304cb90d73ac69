"""The ONNX graph of the embedded BERT, laid out so that onnxruntime fuses its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def write_graph(
    path: Path, weights: Mapping[str, Any], layers: int, heads: int
) -> None:
    """Write a BERT with a span head: weights by the names of PyTorch's checkpoint, and
    ``qa``. They are stored in half precision.
    """
    import onnx
    from onnx import TensorProto as Kind
    from onnx import helper
    from onnx import numpy_helper

    width = len(weights["qa.weight"][0])
    nodes: list[Any] = []
    constants: list[Any] = []

    def add(op: str, *inputs: str, at: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, list(inputs), [at], name=at, **attributes))
        return at

    def fixed(name: str, value: Any, dtype: Any = np.float32) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weight(name: str, transpose: bool = False) -> str:
        value = weights[name].T if transpose else weights[name]
        if value.ndim == 1:
            return fixed(name, value)
        # Half the bytes on disk; the cast is folded when a session is made.
        half = fixed(f"{name}_fp16", np.ascontiguousarray(value), np.float16)
        return add("Cast", half, at=name, to=Kind.FLOAT)

    def dense(x: str, name: str) -> str:
        y = add("MatMul", x, weight(f"{name}.weight", True), at=f"{name}/MatMul")
        return add("Add", y, weight(f"{name}.bias"), at=f"{name}/Add")

    def norm(x: str, name: str) -> str:
        scale, bias = weight(f"{name}.weight"), weight(f"{name}.bias")
        at = f"{name}/LayerNormalization"
        return add("LayerNormalization", x, scale, bias, at=at, axis=-1, epsilon=1e-12)

    ids, real, types = "input_ids", "attention_mask", "token_type_ids"
    words = add("Gather", weight("embeddings.word_embeddings.weight"), ids, at="words")
    token_types = add(
        "Gather", weight("embeddings.token_type_embeddings.weight"), types, at="kinds"
    )
    length = add("Shape", ids, at="length", start=1, end=2)
    positions = add(
        "Slice",
        weight("embeddings.position_embeddings.weight"),
        fixed("zero", [0], np.int64),
        length,
        fixed("axis", [0], np.int64),
        at="places",
    )
    x = add("Add", words, token_types, at="words+kinds")
    x = add("Add", x, positions, at="embedded")
    x = norm(x, "embeddings.LayerNorm")
    mask = add("Unsqueeze", real, fixed("one", [1], np.int64), at="mask/rows")
    mask = add("Unsqueeze", mask, fixed("two", [2], np.int64), at="mask/heads")
    mask = add("Cast", mask, at="mask/float", to=Kind.FLOAT)
    mask = add("Sub", fixed("full", 1.0), mask, at="mask/padding")
    mask = add("Mul", mask, fixed("minus", -10000.0), at="mask")
    size = width // heads
    split = fixed("split", [0, 0, heads, size], np.int64)
    merge = fixed("merge", [0, 0, width], np.int64)
    for layer in range(layers):
        name = f"encoder.layer.{layer}"
        heads = []
        for part in ("query", "key", "value"):
            y = dense(x, f"{name}.attention.self.{part}")
            y = add("Reshape", y, split, at=f"{name}/{part}/split")
            order = [0, 2, 3, 1] if part == "key" else [0, 2, 1, 3]
            heads.append(add("Transpose", y, at=f"{name}/{part}/heads", perm=order))
        y = add("MatMul", heads[0], heads[1], at=f"{name}/scores/MatMul")
        y = add("Div", y, fixed(f"{name}/root", size**0.5), at=f"{name}/scores")
        y = add("Add", y, mask, at=f"{name}/masked")
        y = add("Softmax", y, at=f"{name}/Softmax", axis=-1)
        y = add("MatMul", y, heads[2], at=f"{name}/mixed/MatMul")
        y = add("Transpose", y, at=f"{name}/mixed", perm=[0, 2, 1, 3])
        y = add("Reshape", y, merge, at=f"{name}/merge")
        y = dense(y, f"{name}.attention.output.dense")
        x = add("Add", y, x, at=f"{name}/attended")
        x = norm(x, f"{name}.attention.output.LayerNorm")
        y = dense(x, f"{name}.intermediate.dense")
        z = add("Div", y, fixed(f"{name}/root2", 2**0.5), at=f"{name}/gelu/Div")
        z = add("Erf", z, at=f"{name}/gelu/Erf")
        z = add("Add", z, fixed(f"{name}/1", 1.0), at=f"{name}/gelu/Add")
        z = add("Mul", y, z, at=f"{name}/gelu/Mul")
        z = add("Mul", z, fixed(f"{name}/half", 0.5), at=f"{name}/gelu")
        y = dense(z, f"{name}.output.dense")
        x = add("Add", y, x, at=f"{name}/fed")
        x = norm(x, f"{name}.output.LayerNorm")
    y = dense(x, "qa")
    for side in (0, 1):
        output = ("start_logits", "end_logits")[side]
        add("Gather", y, fixed(f"side{side}", side, np.int64), at=output, axis=2)
    axes = ["batch", "length"]
    graph = helper.make_graph(
        nodes,
        "question_answering_bert",
        [
            helper.make_tensor_value_info(n, Kind.INT64, axes)
            for n in (ids, real, types)
        ],
        [
            helper.make_tensor_value_info(n, Kind.FLOAT, axes)
            for n in ("start_logits", "end_logits")
        ],
        constants,
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
