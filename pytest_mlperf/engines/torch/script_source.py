"""An ONNX graph as Python source that TorchScript compiles.

A line for each node. Shapes stay computations: the program has nothing of an example in
it, because there is none. Shapes are tensors on the host, and data is on the device of
the inputs. ``calls`` in a line is the module ``scripted_calls``.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.engines.torch.onnx_graph import Node
from pytest_mlperf.engines.torch.onnx_graph import OnnxGraph
from pytest_mlperf.engines.torch.onnx_graph import cast_type
from pytest_mlperf.engines.torch.ops import read_integers

MOST_LITERALS = 64
"""Whole numbers of a constant that stand in the source: shapes and axes."""
TEMPLATES = {
    "Add": "{0} + {1}", "Sub": "{0} - {1}", "Mul": "{0} * {1}", "MatMul": "{0} @ {1}",
    "Pow": "{0} ** {1}", "Equal": "{0} == {1}", "Div": "calls.divide({0}, {1})",
    "Dropout": "{0}", "Identity": "{0}", "Neg": "-{0}", "Reciprocal": "1 / {0}",
    "Erf": "{0}.erf()", "Exp": "{0}.exp()", "Relu": "{0}.relu()",
    "Sigmoid": "{0}.sigmoid()", "Sqrt": "{0}.sqrt()", "Tanh": "{0}.tanh()",
    "GlobalAveragePool": "calls.average_picture({0})",
    "Where": "torch.where({0}, {1}, {2})",
}  # fmt: skip
"""Operator without attributes -> its line."""


class ScriptSource:
    """Writes the method ``forward`` of a graph, and names its constants."""

    def __init__(self, graph: OnnxGraph, dtype: Any) -> None:
        """``dtype``: of all floating-point values."""
        self.buffers: dict[str, str] = {}
        """Constant -> the module's buffer that has it."""
        self._graph, self._dtype = graph, dtype
        self._words: dict[str, str] = {}
        """Value -> what the source calls it."""
        self._on_host: set[str] = set()
        """Shapes, and what is computed of them alone."""
        self._lines: list[str] = []

    def write(self) -> str:
        """Return the source; raises ``BuildFailed`` for an unknown operator."""
        graph = self._graph
        arguments = ", ".join(f"{name}: Tensor" for name in graph.inputs)
        self._lines = [
            f"def forward(self, {arguments}):", f"device = {graph.inputs[0]}.device",
        ]  # fmt: skip
        for name in graph.inputs:
            cast = f"{name}.to({self._dtype}) if {name}.is_floating_point() else {name}"
            self._assign([name], cast)
        for node in graph.nodes:
            self._assign(node.outputs, self._write_node(node))
        results = [
            f"{word}.float() if {word}.is_floating_point() else {word}"
            for word in map(self.read, graph.outputs)
        ]
        self._lines.append(f"return ({', '.join(results)},)")
        return "\n    ".join(self._lines) + "\n"

    def _write_node(self, node: Node) -> str:
        given = [name for name in node.inputs if name]
        hosted = [name for name in given if self._is_on_host(name)]
        if node.kind == "Shape" or hosted == given:
            self._on_host |= set(node.outputs)
            hosted = []
        if node.kind == "Cast":
            dtype = cast_type(node.attributes["to"], self._dtype)
            return f"{self.read(node.inputs[0])}.to({dtype})"
        if node.kind in TEMPLATES or node.kind in ("Concat", "Gather"):
            # A shape's number that meets data goes to its device.
            words = [
                f"{self.read(name)}.to(device)" if name in hosted else self.read(name)
                for name in node.inputs
            ]
            if node.kind in TEMPLATES:
                return TEMPLATES[node.kind].format(*words)
            axis = int(node.attributes.get("axis", 0))
            if node.kind == "Gather":
                return f"calls.gather({words[0]}, {axis}, {words[1]})"
            return f"torch.cat([{', '.join(words)}], {axis})"
        if node.kind not in WRITERS:
            raise BuildFailed(
                f"the operator {node.kind} ({node.name or node.outputs[0]}) has no "
                "TorchScript here; trace the model: --format ts-trace"
            )
        return WRITERS[node.kind](self, node)

    def _assign(self, names: Sequence[str], text: str) -> None:
        words = [f"v{len(self._words) + place}" for place in range(len(names))]
        self._words |= zip(names, words, strict=True)
        self._lines.append(f"{', '.join(words)} = {text}")

    def _is_on_host(self, name: str) -> bool:
        return name in self._on_host or self._is_literal(name)

    def _is_literal(self, name: str) -> bool:
        value = self._graph.constants.get(name)
        if value is None or value.is_floating_point():
            return False
        return bool(value.numel() <= MOST_LITERALS)

    def read(self, name: str) -> str:
        """Return what the source calls a value; ``None`` for one that is left out."""
        if not name:
            return "None"
        if name in self._words:
            return self._words[name]
        value = self._graph.constants[name]
        if self._is_literal(name):
            return f"torch.tensor({value.tolist()}, dtype={value.dtype})"
        self.buffers.setdefault(name, f"c{len(self.buffers)}")
        return f"self.{self.buffers[name]}"

    def read_all(self, node: Node, count: int) -> list[str]:
        """Return what the source calls a node's first inputs."""
        names = [*node.inputs, *[""] * count]
        return [self.read(name) for name in names[:count]]

    def read_numbers(self, node: Node, place: int, attribute: str) -> str:
        """Return a list of sizes or axes: an input, or in older opsets an attribute."""
        name = node.inputs[place] if len(node.inputs) > place else ""
        if name in self._graph.constants:
            return write_list(read_integers(self._graph.constants[name]))
        if name:
            return f"calls.to_integers({self.read(name)})"
        return write_list(node.attributes.get(attribute, ()))

    def read_rank(self, name: str, node: Node) -> int:
        """Return how many axes behind the channels a convolution or pooling has."""
        if name in self._graph.constants:
            return int(self._graph.constants[name].ndim) - 2
        return len(node.attributes["kernel_shape"])


def write_list(numbers: Any) -> str:
    """Return a list of whole numbers, whose type an empty one does not show."""
    return str([int(n) for n in numbers]) if len(numbers) else "calls.no_numbers()"


def pad_input(
    source: ScriptSource, node: Node, rank: int, fill: str
) -> tuple[str, list[int]]:
    """Return the padded input unless its padding is symmetric, and what is left."""
    attributes = node.attributes
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "", "VALID"):
        raise BuildFailed(
            f"{node.kind} with auto_pad {attributes['auto_pad']} has no TorchScript "
            "here; export the model with pads, or as ONNX"
        )
    word = source.read(node.inputs[0])
    pads = list(attributes.get("pads", [0] * 2 * rank))
    if pads[:rank] == pads[rank:]:
        return word, pads[:rank]
    around = [n for i in reversed(range(rank)) for n in (pads[i], pads[rank + i])]
    return f"torch.nn.functional.pad({word}, {around}, value={fill})", [0] * rank


def write_convolution(source: ScriptSource, node: Node) -> str:
    attributes = node.attributes
    rank = source.read_rank(node.inputs[1], node)
    word, pads = pad_input(source, node, rank, "0.0")
    _, weights, bias = source.read_all(node, 3)
    ones, groups = [1] * rank, attributes.get("group", 1)
    strides = list(attributes.get("strides", ones))
    dilations = list(attributes.get("dilations", ones))
    if node.kind == "Conv":
        # Not torch.convolution: TorchScript optimizes this one for inference.
        call = f"torch.conv{rank}d({word}, {weights}, {bias}, {strides}"
        return f"{call}, {pads}, {dilations}, {groups})"
    if word != source.read(node.inputs[0]) or "output_shape" in attributes:
        raise BuildFailed(
            "a ConvTranspose with automatic or uneven padding has no TorchScript here; "
            "export the model as ONNX"
        )
    further = list(attributes.get("output_padding", [0] * rank))
    call = f"torch.conv_transpose{rank}d({word}, {weights}, {bias}, {strides}"
    return f"{call}, {pads}, {further}, {groups}, {dilations})"


def write_pooling(source: ScriptSource, node: Node) -> str:
    attributes = node.attributes
    size = list(attributes["kernel_shape"])
    strides = list(attributes.get("strides", [1] * len(size)))
    ceil = bool(attributes.get("ceil_mode", 0))
    if node.kind == "MaxPool":
        word, pads = pad_input(source, node, len(size), "float('-inf')")
        ones = [1] * len(size)
        call = f"torch.max_pool{len(size)}d"
        return f"{call}({word}, {size}, {strides}, {pads}, {ones}, {ceil})"
    word, pads = pad_input(source, node, len(size), "0.0")
    count = bool(attributes.get("count_include_pad", 0))
    call = f"torch._C._nn.avg_pool{len(size)}d"
    return f"{call}({word}, {size}, {strides}, {pads}, {ceil}, {count})"


def write_clip(source: ScriptSource, node: Node) -> str:
    _, low, high = source.read_all(node, 3)
    limits = [
        f"float({word})" if word != "None" else str(node.attributes.get(name))
        for word, name in ((low, "min"), (high, "max"))
    ]
    return f"{source.read(node.inputs[0])}.clamp({', '.join(limits)})"


def write_gemm(source: ScriptSource, node: Node) -> str:
    attributes = node.attributes
    a, b, c = source.read_all(node, 3)
    a += ".t()" * bool(attributes.get("transA"))
    b += ".t()" * bool(attributes.get("transB"))
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    product = f"{a} @ {b} * {alpha}" if alpha != 1 else f"{a} @ {b}"
    if c == "None":
        return product
    return f"{product} + {c} * {beta}" if beta != 1 else f"{product} + {c}"


def write_split(source: ScriptSource, node: Node) -> str:
    word, axis = source.read(node.inputs[0]), int(node.attributes.get("axis", 0))
    sizes = source.read_numbers(node, 1, "split")
    if sizes == "calls.no_numbers()":
        sizes = f"{word}.size({axis}) // {len(node.outputs)}"
    # One output is not unpacked by naming it.
    return f"torch.split({word}, {sizes}, {axis})" + "[0]" * (len(node.outputs) == 1)


def write_constant(source: ScriptSource, node: Node) -> str:
    value = node.attributes.get("value")
    filled = "0.0, dtype=torch.float32"
    if value is not None:
        filled = f"{value.item()}, dtype={value.dtype}"
    return f"torch.full({source.read_numbers(node, 0, '')}, {filled})"


def write_mean(source: ScriptSource, node: Node) -> str:
    word, axes = source.read(node.inputs[0]), source.read_numbers(node, 1, "axes")
    keeps = bool(node.attributes.get("keepdims", 1))
    if axes == "calls.no_numbers()":
        axes = f"calls.axes_from({word}, 0)"
    return f"{word}.mean({axes}, keepdim={keeps})"


def write_shape(source: ScriptSource, node: Node) -> str:
    start, end = node.attributes.get("start", 0), node.attributes.get("end", "")
    return f"torch.tensor({source.read(node.inputs[0])}.shape[{start}:{end}])"


def read_axis(node: Node, default: int) -> int:
    return int(node.attributes.get("axis", default))


def write_layer_norm(source: ScriptSource, node: Node) -> str:
    word, gamma, beta = source.read_all(node, 3)
    shape = f"{word}.shape[{read_axis(node, -1)}:]"
    epsilon = node.attributes.get("epsilon", 1e-5)
    return f"torch.layer_norm({word}, {shape}, {gamma}, {beta}, {epsilon})"


def write_normalization(source: ScriptSource, node: Node) -> str:
    epsilon = node.attributes.get("epsilon", 1e-5)
    if node.kind == "InstanceNormalization":
        word, gamma, beta = source.read_all(node, 3)
        rest = f"None, None, True, 0.0, {epsilon}, False"
        return f"torch.instance_norm({word}, {gamma}, {beta}, {rest})"
    words = ", ".join(source.read_all(node, 5))
    return f"torch.batch_norm({words}, False, 0.0, {epsilon}, False)"


def write_transpose(source: ScriptSource, node: Node) -> str:
    word, axes = source.read(node.inputs[0]), node.attributes.get("perm")
    return f"{word}.permute({list(axes)})" if axes else f"calls.reverse_axes({word})"


def write_top(source: ScriptSource, node: Node) -> str:
    word, count = source.read_all(node, 2)
    return f"{word}.topk(int({count}), {read_axis(node, -1)})"


def write_arg_max(source: ScriptSource, node: Node) -> str:
    keeps = bool(node.attributes.get("keepdims", 1))
    word = source.read(node.inputs[0])
    return f"{word}.argmax({read_axis(node, 0)}, keepdim={keeps})"


def write_gather_elements(source: ScriptSource, node: Node) -> str:
    word, index = source.read_all(node, 2)
    return f"{word}.gather({read_axis(node, 0)}, {index})"


def write_gelu(source: ScriptSource, node: Node) -> str:
    kind = node.attributes.get("approximate", "none")
    word = source.read(node.inputs[0])
    return f"torch.nn.functional.gelu({word}, approximate={kind!r})"


def call_with_numbers(function: str, *attributes: str) -> Writer:
    """Return what writes a call whose inputs but the first are lists of numbers."""

    def write(source: ScriptSource, node: Node) -> str:
        numbers = [
            source.read_numbers(node, place, name)
            for place, name in enumerate(attributes, 1)
        ]
        return f"{function}({source.read(node.inputs[0])}, {', '.join(numbers)})"

    return write


Writer = Callable[[ScriptSource, Node], str]
WRITERS: dict[str, Writer] = {
    "ArgMax": write_arg_max,
    "AveragePool": write_pooling,
    "BatchNormalization": write_normalization,
    "Clip": write_clip,
    "ConstantOfShape": write_constant,
    "Conv": write_convolution,
    "ConvTranspose": write_convolution,
    "Expand": call_with_numbers("calls.expand", ""),
    "Flatten": lambda s, n: f"calls.flatten({s.read(n.inputs[0])}, {read_axis(n, 1)})",
    "GatherElements": write_gather_elements,
    "Gelu": write_gelu,
    "Gemm": write_gemm,
    "InstanceNormalization": write_normalization,
    "LayerNormalization": write_layer_norm,
    "MaxPool": write_pooling,
    "ReduceMean": write_mean,
    "Reshape": call_with_numbers("calls.reshape", ""),
    "Shape": write_shape,
    "Slice": call_with_numbers("calls.crop", "", "", "", ""),
    "Softmax": lambda s, n: f"{s.read(n.inputs[0])}.softmax({read_axis(n, -1)})",
    "Split": write_split,
    "Squeeze": call_with_numbers("calls.squeeze", "axes"),
    "TopK": write_top,
    "Transpose": write_transpose,
    "Unsqueeze": call_with_numbers("calls.unsqueeze", "axes"),
}
"""Operator -> what writes its line."""
