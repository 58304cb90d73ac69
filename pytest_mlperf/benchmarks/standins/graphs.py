"""BERT-large and ResNet-50 v1.5 as ONNX files with generated weights.

The architectures are the published ones (Devlin et al. 2018; He et al. 2015 with the
stride in the 3x3 convolution), and the weights are drawn at their usual initial scale:
the answers mean nothing, the time they take does.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.benchmarks.onnx_writer import FLOAT
from pytest_mlperf.benchmarks.onnx_writer import INT8
from pytest_mlperf.benchmarks.onnx_writer import INT64
from pytest_mlperf.benchmarks.onnx_writer import OnnxWriter
from pytest_mlperf.benchmarks.onnx_writer import TensorType
from pytest_mlperf.benchmarks.onnx_writer import write_onnx
from pytest_mlperf.core.whole_file import replace_whole

SPREAD = 0.02
"""Standard deviation of BERT's initial weights."""

Floats = NDArray[np.float32]
Tensors = Mapping[str, TensorType]


@dataclass(frozen=True, slots=True)
class BertSize:
    """Hyperparameters of a BERT; those of BERT-large."""

    layers: int = 24
    hidden: int = 1024
    intermediate: int = 4096
    heads: int = 16
    vocabulary: int = 30522
    positions: int = 512

    def __repr__(self) -> str:
        """Enters the digest of generated workloads, and must not change with names."""
        return (
            f"BertSize(layers={self.layers}, hidden={self.hidden},"
            f" wide={self.intermediate}, heads={self.heads}, words={self.vocabulary},"
            f" places={self.positions})"
        )


class GraphWriter(OnnxWriter):
    """A graph whose random weights are written to a file beside it."""

    def __init__(self, file: Any, name: str) -> None:
        """``name``: of the weights' file, as the graph refers to it."""
        super().__init__()
        self.file, self.name = file, name
        self.random = np.random.default_rng(0)

    def weight(self, name: str, values: Floats) -> str:
        """Append numbers to the weights' file; return the tensor's name."""
        import onnx
        from onnx.external_data_helper import set_external_data

        tensor = onnx.TensorProto(name=name, dims=values.shape, data_type=1)
        tensor.raw_data = b""  # set_external_data asks for the field
        offset = self.file.tell()
        values.astype("<f4", copy=False).tofile(self.file)
        set_external_data(tensor, self.name, offset, values.nbytes)
        tensor.ClearField("raw_data")
        self.tensors.append(tensor)
        return name

    def normal(self, name: str, *shape: int, spread: float = SPREAD) -> str:
        values = self.random.standard_normal(shape, np.float32)
        return self.weight(name, values * np.float32(spread))

    def dense(self, name: str, x: str, rows: int, columns: int) -> str:
        weight = self.normal(f"{name}.weight", rows, columns)
        bias = self.normal(f"{name}.bias", columns)
        self.node("MatMul", (x, weight), f"{name}/product")
        return self.node("Add", (f"{name}/product", bias), name)

    def norm(self, name: str, x: str, size: int) -> str:
        gamma = 1 + SPREAD * self.random.standard_normal(size, np.float32)
        scale = self.weight(f"{name}.weight", gamma)
        shift = self.normal(f"{name}.bias", size)
        return self.node(
            "LayerNormalization", (x, scale, shift), name, axis=-1, epsilon=1e-12
        )


def write_bert(path: Path, size: BertSize) -> None:
    """Write BERT with two logits a token: inputs of any batch and length."""

    def draw(g: GraphWriter) -> None:
        shape = [g.constant(n, np.array([v])) for n, v in (("zero", 0), ("one", 1))]
        g.node("Shape", ("input_ids",), "length", start=1, end=2)
        words = g.normal("word_embeddings", size.vocabulary, size.hidden)
        token_types = g.normal("token_type_embeddings", 2, size.hidden)
        positions = g.normal("position_embeddings", size.positions, size.hidden)
        g.node("Gather", (words, "input_ids"), "word")
        g.node("Gather", (token_types, "token_type_ids"), "token_type")
        g.node("Slice", (positions, shape[0], "length", shape[0]), "position")
        g.node("Add", ("word", "token_type"), "word+token_type")
        g.node("Add", ("word+token_type", "position"), "embeddings")
        x = g.norm("embeddings/norm", "embeddings", size.hidden)
        g.constant("axes", np.array([1, 2]))
        g.constant("full", np.float32(1))
        g.constant("never", np.float32(-10000))
        g.node("Unsqueeze", ("attention_mask", "axes"), "mask/4")
        g.node("Cast", ("mask/4",), "mask/float", to=FLOAT)
        g.node("Sub", ("full", "mask/float"), "mask/padding")
        g.node("Mul", ("mask/padding", "never"), "mask")
        depth = size.hidden // size.heads
        g.constant("split", np.array([0, 0, size.heads, depth]))
        g.constant("merge", np.array([0, 0, size.hidden]))
        g.constant("root", np.float32(np.sqrt(depth)))
        g.constant("root2", np.float32(np.sqrt(2)))
        g.constant("half", np.float32(0.5))
        for number in range(size.layers):
            x = add_bert_layer(g, f"layer.{number}", x, size)
        g.dense("logits", x, size.hidden, 2)
        for column, name in enumerate(("start_logits", "end_logits")):
            g.constant(f"{name}/column", np.int64(column))
            g.node("Gather", ("logits", f"{name}/column"), name, axis=2)

    inputs = dict.fromkeys(BERT_INPUTS, (INT64, ("batch", "length")))
    outputs = dict.fromkeys(
        ("start_logits", "end_logits"), (FLOAT, ("batch", "length"))
    )
    write_model(path, draw, inputs, outputs)


BERT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def add_bert_layer(g: GraphWriter, name: str, x: str, size: BertSize) -> str:
    """Append one encoder layer; return its output."""
    heads = {}
    for part, order in (
        ("query", (0, 2, 1, 3)),
        ("key", (0, 2, 3, 1)),
        ("value", (0, 2, 1, 3)),
    ):
        dense = g.dense(f"{name}.{part}", x, size.hidden, size.hidden)
        g.node("Reshape", (dense, "split"), f"{dense}/split")
        heads[part] = g.node(
            "Transpose", (f"{dense}/split",), f"{dense}/heads", perm=order
        )
    g.node("MatMul", (heads["query"], heads["key"]), f"{name}/product")
    g.node("Div", (f"{name}/product", "root"), f"{name}/scores")
    g.node("Add", (f"{name}/scores", "mask"), f"{name}/masked")
    g.node("Softmax", (f"{name}/masked",), f"{name}/probabilities", axis=-1)
    g.node("MatMul", (f"{name}/probabilities", heads["value"]), f"{name}/context")
    g.node("Transpose", (f"{name}/context",), f"{name}/transposed", perm=(0, 2, 1, 3))
    g.node("Reshape", (f"{name}/transposed", "merge"), f"{name}/merged")
    attention = f"{name}.attention_output"
    output = g.dense(attention, f"{name}/merged", size.hidden, size.hidden)
    g.node("Add", (output, x), f"{attention}/sum")
    x = g.norm(f"{attention}.norm", f"{attention}/sum", size.hidden)
    intermediate = g.dense(f"{name}.intermediate", x, size.hidden, size.intermediate)
    g.node("Div", (intermediate, "root2"), f"{name}/scaled")
    g.node("Erf", (f"{name}/scaled",), f"{name}/erf")
    g.node("Add", (f"{name}/erf", "full"), f"{name}/erf+1")
    g.node("Mul", (intermediate, f"{name}/erf+1"), f"{name}/twice")
    g.node("Mul", (f"{name}/twice", "half"), f"{name}/gelu")
    output = g.dense(f"{name}.output", f"{name}/gelu", size.intermediate, size.hidden)
    g.node("Add", (output, x), f"{name}.output/sum")
    return g.norm(f"{name}.output.norm", f"{name}.output/sum", size.hidden)


def write_resnet(
    path: Path, blocks: Sequence[int] = (3, 4, 6, 3), side: int = 224
) -> None:
    """Write ResNet v1.5 for pictures less the means: int8 [batch, side, side, 3].

    Batch norms are folded, as every deployment does.
    """

    def draw(g: GraphWriter) -> None:
        g.node("Cast", ("pictures",), "float", to=FLOAT)
        g.node("Transpose", ("float",), "image", perm=(0, 3, 1, 2))
        # The gain brings gray levels to the scale that activations have.
        x = add_convolution(g, "stem", "image", (64, 3, 7), 2, gain=2.0 / 64**2)
        g.node("MaxPool", (x,), "pooled", kernel_shape=(3, 3), strides=(2, 2),
               pads=(1, 1, 1, 1))  # fmt: skip
        x, width = "pooled", 64
        for stage, count in enumerate(blocks):
            middle = 64 << stage
            for number in range(count):
                stride = 2 if number == 0 and stage else 1
                name = f"stage{stage}.{number}"
                x = add_bottleneck(g, name, x, (width, middle), stride)
                width = 4 * middle
        g.node("GlobalAveragePool", (x,), "mean")
        g.node("Flatten", ("mean",), "features")
        g.dense("scores", "features", width, 1000)

    shape = ("batch", side, side, 3)
    write_model(
        path, draw, {"pictures": (INT8, shape)}, {"scores": (FLOAT, ("batch", 1000))}
    )


def add_convolution(
    g: GraphWriter,
    name: str,
    x: str,
    shape: tuple[int, int, int],
    stride: int = 1,
    *,
    relu: bool = True,
    gain: float = 2.0,
    groups: int = 1,
) -> str:
    """Append a convolution (out, in, side), padded to keep the size, with its ReLU."""
    out, into, side = shape[0], shape[1] // groups, shape[2]
    spread = float(np.sqrt(gain / (into * side * side)))
    weight = g.normal(f"{name}.weight", out, into, side, side, spread=spread)
    bias = g.normal(f"{name}.bias", out)
    pad = side // 2
    g.node(
        "Conv", (x, weight, bias), name, kernel_shape=(side, side),
        strides=(stride, stride), pads=(pad,) * 4, group=groups,
    )  # fmt: skip
    return g.node("Relu", (name,), f"{name}/relu") if relu else name


def add_bottleneck(
    g: GraphWriter, name: str, x: str, widths: tuple[int, int], stride: int
) -> str:
    """Append 1x1, 3x3 (with the stride: v1.5) and 1x1 convolutions and a shortcut."""
    into, middle = widths
    y = add_convolution(g, f"{name}.a", x, (middle, into, 1))
    y = add_convolution(g, f"{name}.b", y, (middle, middle, 3), stride)
    # A small gain keeps the shortcut's share: deep sums of equals would saturate.
    y = add_convolution(
        g, f"{name}.c", y, (4 * middle, middle, 1), relu=False, gain=0.2
    )
    if into != 4 * middle or stride != 1:
        shape = (4 * middle, into, 1)
        x = add_convolution(g, f"{name}.d", x, shape, stride, relu=False, gain=1.0)
    g.node("Add", (y, x), f"{name}/sum")
    return g.node("Relu", (f"{name}/sum",), f"{name}/relu")


def write_model(
    path: Path, draw: Callable[[GraphWriter], None], inputs: Tensors, outputs: Tensors
) -> None:
    """Write the weights and the graph that refers to them, each whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = path.with_suffix(".weights")
    with replace_whole(weights) as partial, partial.open("wb") as file:
        g = GraphWriter(file, weights.name)
        draw(g)
    write_onnx(path, g.make_model(path.stem, inputs, outputs))
