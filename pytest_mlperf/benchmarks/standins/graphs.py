"""BERT-large and ResNet-50 v1.5 as ONNX files with generated weights.

The architectures are the published ones (Devlin et al. 2018; He et al. 2015 with the
stride in the 3x3 convolution), the weights are drawn at their usual initial scale:
what is computed is meaningless, how long it takes is not.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPREAD = 0.02
"""Standard deviation of BERT's initial weights."""
OPSET = 17

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class BertSize:
    """The numbers that make a BERT."""

    layers: int = 24
    hidden: int = 1024
    wide: int = 4096
    heads: int = 16
    words: int = 30522
    places: int = 512


@dataclass(slots=True)
class Drawing:
    """A graph in the making, and its weights in a file beside it."""

    file: Any
    name: str
    """Of the weights' file, as the graph refers to it."""
    random: np.random.Generator
    nodes: list[Any] = field(default_factory=list)
    tensors: list[Any] = field(default_factory=list)

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

    def constant(self, name: str, values: Any) -> str:
        from onnx import numpy_helper

        self.tensors.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(
        self, kind: str, inputs: Sequence[str], out: str, **attributes: Any
    ) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

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

    def draw(g: Drawing) -> None:
        shape = [g.constant(n, np.array([v])) for n, v in (("zero", 0), ("one", 1))]
        g.node("Shape", ("input_ids",), "length", start=1, end=2)
        words = g.normal("words", size.words, size.hidden)
        kinds = g.normal("kinds", 2, size.hidden)
        places = g.normal("places", size.places, size.hidden)
        g.node("Gather", (words, "input_ids"), "word")
        g.node("Gather", (kinds, "token_type_ids"), "kind")
        g.node("Slice", (places, shape[0], "length", shape[0]), "place")
        g.node("Add", ("word", "kind"), "word+kind")
        x = g.norm("norm", g.node("Add", ("word+kind", "place"), "sum"), size.hidden)
        g.constant("axes", np.array([1, 2]))
        g.constant("full", np.float32(1))
        g.constant("never", np.float32(-10000))
        g.node("Unsqueeze", ("attention_mask", "axes"), "mask/4")
        g.node("Cast", ("mask/4",), "mask/float", to=1)
        g.node("Sub", ("full", "mask/float"), "mask/padding")
        g.node("Mul", ("mask/padding", "never"), "mask")
        depth = size.hidden // size.heads
        g.constant("split", np.array([0, 0, size.heads, depth]))
        g.constant("merge", np.array([0, 0, size.hidden]))
        g.constant("root", np.float32(np.sqrt(depth)))
        g.constant("root2", np.float32(np.sqrt(2)))
        g.constant("half", np.float32(0.5))
        for number in range(size.layers):
            x = bert_layer(g, f"layer.{number}", x, size)
        g.dense("logits", x, size.hidden, 2)
        for place, name in enumerate(("start_logits", "end_logits")):
            g.constant(f"{name}/column", np.int64(place))
            g.node("Gather", ("logits", f"{name}/column"), name, axis=2)

    kinds = dict.fromkeys(BERT_INPUTS, (7, ("batch", "length")))
    outs = dict.fromkeys(("start_logits", "end_logits"), (1, ("batch", "length")))
    _write(path, draw, kinds, outs)


BERT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def bert_layer(g: Drawing, name: str, x: str, size: BertSize) -> str:
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
    g.node("Softmax", (f"{name}/masked",), f"{name}/shares", axis=-1)
    g.node("MatMul", (f"{name}/shares", heads["value"]), f"{name}/mixed")
    g.node("Transpose", (f"{name}/mixed",), f"{name}/turned", perm=(0, 2, 1, 3))
    g.node("Reshape", (f"{name}/turned", "merge"), f"{name}/merged")
    mixed = g.dense(f"{name}.mix", f"{name}/merged", size.hidden, size.hidden)
    g.node("Add", (mixed, x), f"{name}/attended")
    x = g.norm(f"{name}.norm1", f"{name}/attended", size.hidden)
    up = g.dense(f"{name}.up", x, size.hidden, size.wide)
    g.node("Div", (up, "root2"), f"{name}/scaled")
    g.node("Erf", (f"{name}/scaled",), f"{name}/erf")
    g.node("Add", (f"{name}/erf", "full"), f"{name}/erf+1")
    g.node("Mul", (up, f"{name}/erf+1"), f"{name}/twice")
    g.node("Mul", (f"{name}/twice", "half"), f"{name}/gelu")
    down = g.dense(f"{name}.down", f"{name}/gelu", size.wide, size.hidden)
    g.node("Add", (down, x), f"{name}/fed")
    return g.norm(f"{name}.norm2", f"{name}/fed", size.hidden)


def write_resnet(
    path: Path, blocks: Sequence[int] = (3, 4, 6, 3), side: int = 224
) -> None:
    """Write ResNet v1.5 on pictures with the means taken off: int8 [batch, side, side,
    3]. Batch norms are folded, as every deployment does.
    """

    def draw(g: Drawing) -> None:
        g.node("Cast", ("pictures",), "float", to=1)
        g.node("Transpose", ("float",), "image", perm=(0, 3, 1, 2))
        # The gain brings grey levels to the scale that activations have.
        x = convolution(g, "stem", "image", (64, 3, 7), 2, gain=2.0 / 64**2)
        g.node("MaxPool", (x,), "pooled", kernel_shape=(3, 3), strides=(2, 2),
               pads=(1, 1, 1, 1))  # fmt: skip
        x, width = "pooled", 64
        for stage, count in enumerate(blocks):
            middle = 64 << stage
            for number in range(count):
                stride = 2 if number == 0 and stage else 1
                name = f"stage{stage}.{number}"
                x = bottleneck(g, name, x, (width, middle), stride)
                width = 4 * middle
        g.node("GlobalAveragePool", (x,), "mean")
        g.node("Flatten", ("mean",), "features")
        g.dense("scores", "features", width, 1000)

    shape = ("batch", side, side, 3)
    _write(path, draw, {"pictures": (3, shape)}, {"scores": (1, ("batch", 1000))})


def convolution(
    g: Drawing,
    name: str,
    x: str,
    shape: tuple[int, int, int],
    stride: int = 1,
    *,
    relu: bool = True,
    gain: float = 2.0,
) -> str:
    """Append a convolution (out, in, side), padded to keep the size, with its ReLU."""
    out, into, side = shape
    spread = float(np.sqrt(gain / (into * side * side)))
    weight = g.normal(f"{name}.weight", out, into, side, side, spread=spread)
    bias = g.normal(f"{name}.bias", out)
    pad = side // 2
    g.node(
        "Conv", (x, weight, bias), name, kernel_shape=(side, side),
        strides=(stride, stride), pads=(pad,) * 4,
    )  # fmt: skip
    return g.node("Relu", (name,), f"{name}/relu") if relu else name


def bottleneck(
    g: Drawing, name: str, x: str, widths: tuple[int, int], stride: int
) -> str:
    """Append 1x1, 3x3 (with the stride: v1.5) and 1x1 convolutions and a shortcut."""
    into, middle = widths
    y = convolution(g, f"{name}.a", x, (middle, into, 1))
    y = convolution(g, f"{name}.b", y, (middle, middle, 3), stride)
    # A small gain keeps the shortcut's share: deep sums of equals would saturate.
    y = convolution(g, f"{name}.c", y, (4 * middle, middle, 1), relu=False, gain=0.2)
    if into != 4 * middle or stride != 1:
        shape = (4 * middle, into, 1)
        x = convolution(g, f"{name}.d", x, shape, stride, relu=False, gain=1.0)
    g.node("Add", (y, x), f"{name}/sum")
    return g.node("Relu", (f"{name}/sum",), f"{name}/relu")


def _write(path: Path, draw: Any, inputs: Any, outputs: Any) -> None:
    """Write graph and weights under names of their own, then rename: all or nothing."""
    import onnx
    from onnx import helper

    path.parent.mkdir(parents=True, exist_ok=True)
    weights = path.with_suffix(".weights")
    making = weights.with_suffix(f".{os.getpid()}")
    with making.open("wb") as file:
        g = Drawing(file, weights.name, np.random.default_rng(0))
        draw(g)
    into, out = (
        [helper.make_tensor_value_info(name, *value) for name, value in named.items()]
        for named in (inputs, outputs)
    )
    graph = helper.make_graph(g.nodes, path.stem, into, out, g.tensors)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8
    )
    scratch = path.with_suffix(f".{os.getpid()}.onnx")
    onnx.save(model, str(scratch))
    making.replace(weights)
    scratch.replace(path)
