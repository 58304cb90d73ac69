"""Finds a question-answering BERT in an ONNX graph: weights by their order and shape.

Exporters write the same encoder in many ways; its weight matrices come in one order.
What is found is a claim that the build proves with numbers: it compares the packed
encoder's answers with the graph's own.
"""

from __future__ import annotations

from typing import Any

from pytest_mlperf.engines.torch.bert.encoder import BertWeights
from pytest_mlperf.engines.torch.onnx_graph import Graph
from pytest_mlperf.engines.torch.onnx_graph import Node

IDS = ("input_ids",)
KINDS = ("token_type_ids", "segment_ids")
MASKS = ("attention_mask", "input_mask")
LARGE = {1024: 16, 768: 12, 384: 12}
"""Heads of well-known widths, where the graph computes its shapes and hides them."""


def roles(inputs: tuple[str, ...]) -> tuple[str, str, str] | None:
    """Return the names of token ids, mask and segments among a graph's inputs."""
    found = [
        next((n for n in inputs if n in legal), "") for legal in (IDS, MASKS, KINDS)
    ]
    if len(inputs) != 3 or not all(found):
        return None
    return found[0], found[1], found[2]


def bert(graph: Graph) -> BertWeights | None:
    """Return the weights of a BERT with two logits a token, or None."""
    named = roles(graph.inputs)
    if named is None or len(graph.outputs) != 2:
        return None
    users = graph.users()
    tables = _tables(graph, named)
    dense = _dense(graph, users)
    norms = _norms(graph, users)
    if tables is None or len(dense) < 7 or len(dense) % 6 != 1:
        return None
    count = len(dense) // 6
    hidden = tables[0].shape[1]
    if len(norms) != 1 + 2 * count or dense[-1][0].shape != (2, hidden):
        return None
    layers = []
    for n in range(count):
        q, k, v, mix, up, down = dense[6 * n : 6 * n + 6]
        square = (hidden, hidden)
        if {m[0].shape for m in (q, k, v, mix)} != {square}:
            return None
        if up[0].shape[1] != hidden or down[0].shape != up[0].T.shape:
            return None
        layers.append(
            {
                "qkv": _stacked(q, k, v),
                "mix": mix,
                "up": up,
                "down": down,
                "norm1": norms[1 + 2 * n][:2],
                "norm2": norms[2 + 2 * n][:2],
            }
        )
    return BertWeights(
        words=tables[0],
        places=tables[1],
        kinds=tables[2],
        norm=norms[0][:2],
        layers=layers,
        head=dense[-1],
        heads=_heads(graph, hidden),
        eps=norms[0][2],
    )


def _stacked(*parts: tuple[Any, Any]) -> tuple[Any, Any]:
    import numpy as np

    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _tables(graph: Graph, named: tuple[str, str, str]) -> tuple[Any, Any, Any] | None:
    """Return words, places and kinds."""
    ids, _, kinds = named
    found: dict[str, Any] = {}
    for node in graph.nodes:
        table = graph.constants.get(node.inputs[0]) if node.inputs else None
        if node.kind == "Gather" and table is not None and table.ndim == 2:
            source = _origin(graph, node.inputs[1])
            if source in (ids, kinds):
                found["words" if source == ids else "kinds"] = table.numpy()
    if set(found) != {"words", "kinds"}:
        return None
    taken = found["words"].shape, found["kinds"].shape
    for node in graph.nodes:
        for name in node.inputs:
            table = graph.constants.get(name)
            if table is None or table.ndim < 2 or not table.is_floating_point():
                continue
            # Looked up, cut, or (positions folded) added as [1, length, hidden].
            flat = table.reshape(-1, table.shape[-1]).numpy()
            if node.kind not in ("Gather", "Slice", "Add"):
                continue
            if flat.shape[1] == taken[0][1] and flat.shape not in taken:
                return found["words"], flat, found["kinds"]
    return None


def _origin(graph: Graph, name: str) -> str:
    """Follow casts and squeezes back to where a value comes from."""
    makers = {out: node for node in graph.nodes for out in node.outputs}
    while name in makers and makers[name].kind in ("Cast", "Identity", "Squeeze"):
        name = makers[name].inputs[0]
    return name


def _dense(graph: Graph, users: dict[str, list[Node]]) -> list[tuple[Any, Any]]:
    """Return (weight [out, in], bias) of each product with a constant, in order."""
    found = []
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
        found.append((weight.numpy(), bias.numpy()))
    return found


def _norms(graph: Graph, users: dict[str, list[Node]]) -> list[tuple[Any, Any, float]]:
    """Return (gamma, beta, epsilon) of each LayerNorm, whole or taken apart."""
    found = []
    for node in graph.nodes:
        if node.kind == "LayerNormalization":
            gamma, beta = (graph.constants[name].numpy() for name in node.inputs[1:3])
            found.append((gamma, beta, node.attributes.get("epsilon", 1e-5)))
        if node.kind != "Mul":
            continue
        scale = [c for n in node.inputs if (c := graph.constants.get(n)) is not None]
        after = users.get(node.outputs[0], [])
        if len(scale) != 1 or scale[0].ndim != 1 or len(scale[0]) < 2:
            continue
        if len(after) == 1 and after[0].kind == "Add":
            shift = [graph.constants.get(n) for n in after[0].inputs]
            known = [c for c in shift if c is not None and c.shape == scale[0].shape]
            if known:
                found.append((scale[0].numpy(), known[0].numpy(), 1e-12))
    return found


def _heads(graph: Graph, hidden: int) -> int:
    """Read the number of heads off the shape that queries are split to."""
    for node in graph.nodes:
        if node.kind != "Reshape":
            continue
        shape = graph.constants.get(node.inputs[1])
        if shape is not None and shape.numel() == 4:
            heads, depth = (int(v) for v in shape.reshape(-1)[2:])
            if heads * depth == hidden:
                return heads
    return LARGE.get(hidden, max(1, hidden // 64))
