"""An RNN-T model: three ONNX graphs of one checkpoint, and greedy decoding over them.

The graphs are written from the weights, by the names of the reference implementation's
checkpoint, so that no framework exports them. Batches come first in every input and
output.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.components import Component
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks.onnx_writer import FLOAT
from pytest_mlperf.benchmarks.onnx_writer import INT32
from pytest_mlperf.benchmarks.onnx_writer import INT64
from pytest_mlperf.benchmarks.onnx_writer import OnnxWriter
from pytest_mlperf.benchmarks.onnx_writer import TensorType
from pytest_mlperf.benchmarks.onnx_writer import write_onnx
from pytest_mlperf.benchmarks.speech.transcripts import TRANSDUCER

Weights = Mapping[str, NDArray[np.float32]]

PARTS = ("encoder", "predictor", "joint")
BLANK = len(TRANSDUCER.characters)
"""The label of no character; to the predictor, of a transcript's start."""
STACKED = 2
"""Frames that the encoder joins between its two stacks of layers."""
MOST_SYMBOLS = 30
"""Labels that one frame may have (``max_symbols_per_step`` of the reference)."""


def find_parts(folder: Path) -> dict[str, ModelFile]:
    """Return the three graphs of a folder."""
    names = {
        "encoder": (("features", "lengths"), ("encoded",)),
        "predictor": (
            ("labels", "hidden", "cell"),
            ("predicted", "hidden_out", "cell_out"),
        ),
        "joint": (("encoded", "predicted"), ("logits",)),
    }
    return {
        part: ModelFile(folder / f"{part}.onnx", inputs, outputs)
        for part, (inputs, outputs) in names.items()
    }


class TransducerGraph(OnnxWriter):
    """One graph of the three."""

    def __init__(self, *, half: bool) -> None:
        super().__init__()
        self.half = half

    def weight(self, name: str, values: NDArray[np.float32]) -> str:
        """Add a weight; with ``half`` it takes half the bytes and is cast back."""
        if not self.half:
            return self.constant(name, np.ascontiguousarray(values, np.float32))
        stored = self.constant(f"{name}_fp16", values.astype(np.float16))
        return self.node("Cast", [stored], name, to=FLOAT)

    def lstm(
        self,
        weights: Weights,
        layer: str,
        name: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        """Add one LSTM layer: ``inputs`` are sequence, lengths, hidden and cell."""

        def gates(kind: str) -> NDArray[np.float32]:
            # PyTorch's order is i, f, g, o; ONNX's is i, o, f, c.
            i, f, g, o = np.split(weights[layer.format(kind)], 4)
            return np.concatenate([i, o, f, g])[None]

        bias = np.concatenate([gates("bias_ih"), gates("bias_hh")], axis=1)
        own = [
            self.weight(f"{name}_w", gates("weight_ih")),
            self.weight(f"{name}_r", gates("weight_hh")),
            self.weight(f"{name}_b", bias),
        ]
        size = weights[layer.format("weight_hh")].shape[1]
        sequence, *rest = inputs
        self.add("LSTM", [sequence, *own, *rest], outputs, hidden_size=size)

    def save(
        self,
        path: Path,
        inputs: Mapping[str, TensorType],
        outputs: Mapping[str, TensorType],
    ) -> None:
        """Check and write the graph."""
        import onnx

        model = self.make_model(path.stem, inputs, outputs)
        onnx.checker.check_model(model)
        write_onnx(path, model)


def count_layers(weights: Weights, prefix: str) -> int:
    """Return how many LSTM layers have weights of that prefix."""
    pattern = re.compile(re.escape(prefix) + r"\.lstm\.weight_ih_l\d+")
    count = sum(pattern.fullmatch(name) is not None for name in weights)
    if not count:
        raise ValueError(
            f"the checkpoint has no {prefix}.lstm.weight_ih_l0, but an RNN-T of the"
            " reference implementation should have it; its weights are"
            f" {', '.join(sorted(weights)[:6])} …. Use the checkpoint of Zenodo record"
            " 3662521."
        )
    return count


def write_parts(weights: Weights, folder: Path, *, half: bool = False) -> None:
    """Write encoder.onnx, predictor.onnx and joint.onnx.

    ``half`` stores weights in fp16; all is computed in fp32. Raises ``ValueError`` for
    weights that are not an RNN-T's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_encoder(weights, folder / "encoder.onnx", half=half)
    _write_predictor(weights, folder / "predictor.onnx", half=half)
    _write_joint(weights, folder / "joint.onnx", half=half)


def _write_encoder(weights: Weights, path: Path, *, half: bool) -> None:
    """Write features [batch, frames, width] -> encoded [batch, frames / 2, width].

    ``lengths`` int32 [batch] are frames. ``frames`` must be even: what is behind a
    recording's end is zero for the layers after the stacking, as in the reference.
    """
    graph = TransducerGraph(half=half)
    sequence = graph.node("Transpose", ["features"], "by_time", perm=[1, 0, 2])

    def add_layers(prefix: str, sequence: str, lengths: str) -> str:
        for number in range(count_layers(weights, prefix)):
            name = f"{prefix.rpartition('.')[2]}_{number}"
            layer = f"{prefix}.lstm.{{}}_l{number}"
            graph.lstm(weights, layer, name, [sequence, lengths], [f"{name}_y"])
            axis = graph.constant(f"{name}_axis", np.array([1]))
            sequence = graph.node("Squeeze", [f"{name}_y", axis], f"{name}_out")
        return sequence

    sequence = add_layers("encoder.pre_rnn", sequence, "lengths")
    width = weights["encoder.pre_rnn.lstm.weight_hh_l0"].shape[1]
    batched = graph.node("Transpose", [sequence], "by_sample", perm=[1, 0, 2])
    shape = graph.constant("stacked_shape", np.array([0, -1, STACKED * width]))
    stacked = graph.node("Reshape", [batched, shape], "stacked")
    one = graph.constant("one", np.array(STACKED - 1, np.int32))
    factor = graph.constant("factor", np.array(STACKED, np.int32))
    more = graph.node("Add", ["lengths", one], "rounded_up")
    halved = graph.node("Div", [more, factor], "stacked_lengths")
    again = graph.node("Transpose", [stacked], "stacked_by_time", perm=[1, 0, 2])
    last = add_layers("encoder.post_rnn", again, halved)
    graph.node("Transpose", [last], "encoded", perm=[1, 0, 2])
    features = weights["encoder.pre_rnn.lstm.weight_ih_l0"].shape[1]
    inputs = {
        "features": (FLOAT, ["batch", "frames", features]),
        "lengths": (INT32, ["batch"]),
    }
    width = weights["encoder.post_rnn.lstm.weight_hh_l0"].shape[1]
    graph.save(path, inputs, {"encoded": (FLOAT, ["batch", "stacked_frames", width])})


def _write_predictor(weights: Weights, path: Path, *, half: bool) -> None:
    """Write labels int64 [batch], hidden and cell [batch, layers, width] -> predicted
    [batch, width] and the next states. The blank's label starts a transcript.
    """
    graph = TransducerGraph(half=half)
    table = weights["prediction.embed.weight"]
    table = np.concatenate([table, np.zeros((1, table.shape[1]), np.float32)])
    embedded = graph.node(
        "Gather", [graph.weight("embeddings", table), "labels"], "embedded"
    )
    zero = graph.constant("zero", np.array([0]))
    sequence = graph.node("Unsqueeze", [embedded, zero], "step")
    count = count_layers(weights, "prediction.dec_rnn")
    states = [
        graph.node("Transpose", [state], f"{state}_by_layer", perm=[1, 0, 2])
        for state in ("hidden", "cell")
    ]
    after: dict[str, list[str]] = {"hidden": [], "cell": []}
    for number in range(count):
        start = graph.constant(f"start_{number}", np.array([number]))
        end = graph.constant(f"end_{number}", np.array([number + 1]))
        given = [
            graph.node("Slice", [state, start, end], f"{state}_{number}")
            for state in states
        ]
        made = [f"y_{number}", f"hidden_{number}_out", f"cell_{number}_out"]
        layer = f"prediction.dec_rnn.lstm.{{}}_l{number}"
        graph.lstm(weights, layer, f"layer_{number}", [sequence, "", *given], made)
        axis = graph.constant(f"axis_{number}", np.array([1]))
        sequence = graph.node("Squeeze", [made[0], axis], f"out_{number}")
        after["hidden"].append(made[1])
        after["cell"].append(made[2])
    for state, names in after.items():
        joined = graph.node("Concat", names, f"{state}_joined", axis=0)
        graph.node("Transpose", [joined], f"{state}_out", perm=[1, 0, 2])
    graph.node("Squeeze", [sequence, zero], "predicted")
    width = weights["prediction.dec_rnn.lstm.weight_hh_l0"].shape[1]
    state_type: TensorType = (FLOAT, ["batch", count, width])
    inputs = {"labels": (INT64, ["batch"]), "hidden": state_type, "cell": state_type}
    outputs: dict[str, TensorType] = {
        "predicted": (FLOAT, ["batch", width]),
        "hidden_out": state_type,
        "cell_out": state_type,
    }
    graph.save(path, inputs, outputs)


def _write_joint(weights: Weights, path: Path, *, half: bool) -> None:
    """Write encoded and predicted [batch, width] -> logits [batch, labels + 1]."""
    graph = TransducerGraph(half=half)
    # Dropout, if any, has a number too.
    numbers = sorted(
        int(name.split(".")[2])
        for name in weights
        if re.match(r"joint\.net\.\d+\.w", name)
    )
    value = graph.node("Concat", ["encoded", "predicted"], "both", axis=1)
    for number in numbers:
        name = f"joint.net.{number}"
        matrix = graph.weight(f"matrix_{number}", weights[f"{name}.weight"].T)
        product = graph.node("MatMul", [value, matrix], f"product_{number}")
        bias = graph.weight(f"bias_{number}", weights[f"{name}.bias"])
        is_last = number == numbers[-1]
        value = graph.node(
            "Add", [product, bias], "logits" if is_last else f"sum_{number}"
        )
        if not is_last:
            value = graph.node("Relu", [value], f"relu_{number}")
    predicted = weights["prediction.dec_rnn.lstm.weight_hh_l0"].shape[1]
    encoded = weights["joint.net.0.weight"].shape[1] - predicted
    inputs = {
        "encoded": (FLOAT, ["batch", encoded]),
        "predicted": (FLOAT, ["batch", predicted]),
    }
    labels = weights[f"joint.net.{numbers[-1]}.weight"].shape[0]
    graph.save(path, inputs, {"logits": (FLOAT, ["batch", labels])})


def decode_greedily(
    components: Mapping[str, Component], batch: Batch, *, layers: int, width: int
) -> Sequence[Array]:
    """Return the best label of each step: int32 [batch, longest], and their number.

    Every recording is at a frame of its own: a step joins the frames of all that are
    not at their end, and the predictor runs for those that got a label. ``layers`` and
    ``width`` are the predictor's.
    """
    (encoded,) = components["encoder"](batch)
    ends = (batch["lengths"] + STACKED - 1) // STACKED
    size = len(ends)
    state = _start(components["predictor"], size, layers, width)
    transcripts: list[list[int]] = [[] for _ in range(size)]
    frames, symbols = np.zeros(size, np.int64), np.zeros(size, np.int64)
    rows = np.flatnonzero(ends > 0)
    while len(rows):
        joined = {"encoded": encoded[rows, frames[rows]], "predicted": state[0][rows]}
        (logits,) = components["joint"](joined)
        best = logits.argmax(axis=1)
        emits = best != BLANK
        symbols[rows] += 1
        moves = ~emits | (symbols[rows] == MOST_SYMBOLS)
        moved = rows[moves]
        frames[moved] += 1
        symbols[moved] = 0
        emitting = rows[emits]
        if len(emitting):
            labels = best[emits]
            for row, label in zip(emitting.tolist(), labels.tolist(), strict=True):
                transcripts[row].append(label)
            fed = {
                "labels": labels,
                "hidden": state[1][emitting],
                "cell": state[2][emitting],
            }
            for kept, new in zip(state, components["predictor"](fed), strict=True):
                kept[emitting] = new
        if len(moved):
            rows = rows[frames[rows] < ends[rows]]
    counts = np.array([len(one) for one in transcripts], np.int32)
    labels = np.zeros((size, int(counts.max())), np.int32)
    for row, transcript in enumerate(transcripts):
        labels[row, : len(transcript)] = transcript
    return labels, counts


def _start(
    predictor: Component, size: int, layers: int, width: int
) -> list[NDArray[np.float32]]:
    """Return predicted, hidden and cell of transcripts without a label yet."""
    zeros = np.zeros((1, layers, width), np.float32)
    first = {"labels": np.array([BLANK]), "hidden": zeros, "cell": zeros}
    return [np.repeat(one, size, axis=0) for one in predictor(first)]
