"""Finds a question-answering BERT in an ONNX graph: weights by their order and shape.

Exporters write the same encoder in many ways, but its weight matrices always come in
one order. The build then compares the packed encoder's outputs with the graph's own.
"""

from __future__ import annotations

from typing import Any

from pytest_mlperf.engines.torch.bert.encoder import BertWeights
from pytest_mlperf.engines.torch.onnx_graph import Node
from pytest_mlperf.engines.torch.onnx_graph import OnnxGraph

IDS = ("input_ids",)
TOKEN_TYPES = ("token_type_ids", "segment_ids")
MASKS = ("attention_mask", "input_mask")
KNOWN_HEADS = {1024: 16, 768: 12, 384: 12}
"""Hidden size -> heads, where the graph computes its shapes and hides them."""


def find_inputs(inputs: tuple[str, ...]) -> tuple[str, str, str] | None:
    """Return the names of token ids, mask and token types among a graph's inputs."""
    names = [
        next((name for name in inputs if name in known), "")
        for known in (IDS, MASKS, TOKEN_TYPES)
    ]
    if len(inputs) != 3 or not all(names):
        return None
    return names[0], names[1], names[2]


def find_bert(graph: OnnxGraph) -> BertWeights | None:
    """Return the weights of a BERT with two logits a token, or None."""
    inputs = find_inputs(graph.inputs)
    if inputs is None or len(graph.outputs) != 2:
        return None
    users = graph.users()
    embeddings = _find_embeddings(graph, inputs)
    dense = _find_dense(graph, users)
    norms = _find_norms(graph, users)
    if embeddings is None or len(dense) < 7 or len(dense) % 6 != 1:
        return None
    count = len(dense) // 6
    hidden = embeddings[0].shape[1]
    if len(norms) != 1 + 2 * count or dense[-1][0].shape != (2, hidden):
        return None
    layers = []
    for n in range(count):
        q, k, v, attention_output, intermediate, output = dense[6 * n : 6 * n + 6]
        square = (hidden, hidden)
        if {m[0].shape for m in (q, k, v, attention_output)} != {square}:
            return None
        if intermediate[0].shape[1] != hidden:
            return None
        if output[0].shape != intermediate[0].T.shape:
            return None
        layers.append(
            {
                "qkv": _stack(q, k, v),
                "attention_output": attention_output,
                "intermediate": intermediate,
                "output": output,
                "attention_norm": norms[1 + 2 * n][:2],
                "output_norm": norms[2 + 2 * n][:2],
            }
        )
    return BertWeights(
        *embeddings,
        embedding_norm=norms[0][:2],
        layers=layers,
        qa_outputs=dense[-1],
        heads=_find_heads(graph, hidden),
        eps=norms[0][2],
    )


def _stack(*parts: tuple[Any, Any]) -> tuple[Any, Any]:
    import numpy as np

    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _find_embeddings(
    graph: OnnxGraph, inputs: tuple[str, str, str]
) -> tuple[Any, Any, Any] | None:
    """Return word, position and token type embeddings."""
    ids, _, token_types = inputs
    tables: dict[str, Any] = {}
    for node in graph.nodes:
        table = graph.constants.get(node.inputs[0]) if node.inputs else None
        if node.kind == "Gather" and table is not None and table.ndim == 2:
            tables[_find_origin(graph, node.inputs[1])] = table.numpy()
    if ids not in tables or token_types not in tables:
        return None
    words, types = tables[ids], tables[token_types]
    for node in graph.nodes:
        # Looked up, cut, or (positions folded) added as [1, length, hidden].
        if node.kind not in ("Gather", "Slice", "Add"):
            continue
        for name in node.inputs:
            table = graph.constants.get(name)
            if table is None or table.ndim < 2 or not table.is_floating_point():
                continue
            flat = table.reshape(-1, table.shape[-1]).numpy()
            is_other = flat.shape not in (words.shape, types.shape)
            if flat.shape[1] == words.shape[1] and is_other:
                return words, flat, types
    return None


def _find_origin(graph: OnnxGraph, name: str) -> str:
    """Follow casts and squeezes back to where a value comes from."""
    makers = graph.makers()
    while name in makers and makers[name].kind in ("Cast", "Identity", "Squeeze"):
        name = makers[name].inputs[0]
    return name


def _find_dense(
    graph: OnnxGraph, users: dict[str, list[Node]]
) -> list[tuple[Any, Any]]:
    """Return (weight [out, in], bias) of each product with a constant, in order."""
    layers = []
    for node in graph.nodes:
        if node.kind not in ("MatMul", "Gemm"):
            continue
        weight = graph.constants.get(node.inputs[1])
        if weight is None or weight.ndim != 2:
            continue
        if not (node.kind == "Gemm" and node.attributes.get("transB")):
            weight = weight.T
        bias = graph.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
        for user in users.get(node.outputs[0], ()):
            if bias is None and user.kind == "Add":
                for name in user.inputs:
                    value = graph.constants.get(name)
                    if value is not None and value.shape == weight.shape[:1]:
                        bias = value
        if bias is None:
            return []
        layers.append((weight.numpy(), bias.numpy()))
    return layers


def _find_norms(
    graph: OnnxGraph, users: dict[str, list[Node]]
) -> list[tuple[Any, Any, float]]:
    """Return (gamma, beta, epsilon) of each LayerNorm, one operator or several."""
    norms = []
    for node in graph.nodes:
        if node.kind == "LayerNormalization":
            gamma, beta = (graph.constants[name].numpy() for name in node.inputs[1:3])
            norms.append((gamma, beta, node.attributes.get("epsilon", 1e-5)))
        if node.kind != "Mul":
            continue
        scale = [c for n in node.inputs if (c := graph.constants.get(n)) is not None]
        after = users.get(node.outputs[0], [])
        if len(scale) != 1 or scale[0].ndim != 1 or len(scale[0]) < 2:
            continue
        if len(after) == 1 and after[0].kind == "Add":
            shift = [graph.constants.get(n) for n in after[0].inputs]
            fitting = [c for c in shift if c is not None and c.shape == scale[0].shape]
            if fitting:
                norms.append((scale[0].numpy(), fitting[0].numpy(), 1e-12))
    return norms


def _find_heads(graph: OnnxGraph, hidden: int) -> int:
    """Read the number of heads from the shape that queries are split to."""
    for node in graph.nodes:
        if node.kind != "Reshape":
            continue
        shape = graph.constants.get(node.inputs[1])
        if shape is not None and shape.numel() == 4:
            heads, depth = (int(v) for v in shape.reshape(-1)[2:])
            if heads * depth == hidden:
                return heads
    return KNOWN_HEADS.get(hidden, max(1, hidden // 64))
