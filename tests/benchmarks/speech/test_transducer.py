"""The three graphs and greedy decoding, beside one recording at a time in NumPy."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from pytest_mlperf.api.components import Component
from pytest_mlperf.benchmarks.speech import transducer
from pytest_mlperf.benchmarks.speech.workload import pad_rows

Floats = NDArray[np.float32]
FEATURES, ENCODED, PREDICTED, JOINED = 12, 16, 10, 14


def make_weights(seed: int = 0, pre: int = 2, post: int = 3) -> dict[str, Floats]:
    """Return weights by the reference checkpoint's names, large enough to matter."""
    rng = np.random.default_rng(seed)
    weights: dict[str, Floats] = {}

    def add(name: str, *shape: int) -> None:
        weights[name] = (rng.standard_normal(shape) * 0.6).astype(np.float32)

    def add_lstm(prefix: str, layers: int, inputs: int, width: int) -> None:
        for layer in range(layers):
            own = inputs if layer == 0 else width
            add(f"{prefix}.lstm.weight_ih_l{layer}", 4 * width, own)
            add(f"{prefix}.lstm.weight_hh_l{layer}", 4 * width, width)
            add(f"{prefix}.lstm.bias_ih_l{layer}", 4 * width)
            add(f"{prefix}.lstm.bias_hh_l{layer}", 4 * width)

    add_lstm("encoder.pre_rnn", pre, FEATURES, ENCODED)
    add_lstm("encoder.post_rnn", post, 2 * ENCODED, ENCODED)
    add("prediction.embed.weight", transducer.BLANK, PREDICTED)
    add_lstm("prediction.dec_rnn", 2, PREDICTED, PREDICTED)
    add("joint.net.0.weight", JOINED, ENCODED + PREDICTED)
    add("joint.net.0.bias", JOINED)
    # Number 2 is the dropout of the official checkpoint.
    add("joint.net.3.weight", transducer.BLANK + 1, JOINED)
    add("joint.net.3.bias", transducer.BLANK + 1)
    return weights


def sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)


class SlowLstm:
    """PyTorch's LSTM from its definition, one step of one sequence at a time."""

    def __init__(self, weights: dict[str, Floats], prefix: str) -> None:
        self.layers: list[list[Floats]] = []
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        while f"{prefix}.lstm.weight_ih_l{len(self.layers)}" in weights:
            names = [f"{prefix}.lstm.{kind}_l{len(self.layers)}" for kind in kinds]
            self.layers.append([weights[name] for name in names])
        width = self.layers[0][1].shape[1]
        zero = np.zeros(width, np.float32)
        self.state = [(zero, zero) for _ in self.layers]

    def step(self, x: Floats) -> tuple[Floats, list[tuple[Floats, Floats]]]:
        """Return the output and the state after it; the state itself stays."""
        after = []
        for (w, r, b, c), (hidden, cell) in zip(self.layers, self.state, strict=True):
            i, f, g, o = np.split(w @ x + b + r @ hidden + c, 4)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            x = sigmoid(o) * np.tanh(cell)
            after.append((x, cell))
        return x, after

    def run(self, rows: Floats) -> Floats:
        outputs = []
        for row in rows:
            output, self.state = self.step(row)
            outputs.append(output)
        return np.array(outputs)


def transcribe_slowly(weights: dict[str, Floats], rows: Floats) -> list[int]:
    """Return one recording's labels, as the reference's decoder goes over them."""
    encoded = SlowLstm(weights, "encoder.pre_rnn").run(rows)
    if len(encoded) % 2:
        encoded = np.concatenate([encoded, np.zeros((1, ENCODED), np.float32)])
    stacked = encoded.reshape(-1, 2 * ENCODED)
    encoded = SlowLstm(weights, "encoder.post_rnn").run(stacked)
    predictor = SlowLstm(weights, "prediction.dec_rnn")
    last = np.zeros(PREDICTED, np.float32)
    labels: list[int] = []
    for frame in encoded:
        for _ in range(30):
            predicted, after = predictor.step(last)
            both = np.concatenate([frame, predicted])
            value = weights["joint.net.0.weight"] @ both + weights["joint.net.0.bias"]
            value = weights["joint.net.3.weight"] @ np.maximum(value, 0)
            label = int((value + weights["joint.net.3.bias"]).argmax())
            if label == transducer.BLANK:
                break
            labels.append(label)
            predictor.state = after
            last = weights["prediction.embed.weight"][label]
    return labels


def open_components(folder: Path) -> dict[str, Component]:
    """Return the three graphs of a folder, each in a session of one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return {
        name: partial(
            onnxruntime.InferenceSession(
                file.path, options, providers=["CPUExecutionProvider"]
            ).run,
            list(file.outputs),
        )
        for name, file in transducer.find_parts(folder).items()
    }


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_batch_is_transcribed_as_each_recording_alone(
    tmp_path: Path, seed: int
) -> None:
    """Odd and even lengths beside each other: padding changes no label."""
    weights = make_weights(seed)
    transducer.write_parts(weights, tmp_path)
    rng = np.random.default_rng(seed)
    lengths = np.array([1, 2, 3, 8, 13, 20, 21], np.int32)
    rows = [rng.standard_normal((n, FEATURES)).astype(np.float32) for n in lengths]
    batch = {"features": pad_rows(rows, 2), "lengths": lengths}
    labels, counts = transducer.decode_greedily(
        open_components(tmp_path), batch, layers=2, width=PREDICTED
    )
    found = [row[:n].tolist() for row, n in zip(labels, counts, strict=True)]

    assert found == [transcribe_slowly(weights, one) for one in rows]
    assert len({tuple(one) for one in found}) > 3


def test_half_the_bytes_are_computed_in_full(tmp_path: Path) -> None:
    """Weights in fp16 give what the same weights, rounded, give in fp32."""
    weights = make_weights()
    rounded = {
        name: w.astype(np.float16).astype(np.float32) for name, w in weights.items()
    }
    transducer.write_parts(weights, tmp_path / "half", half=True)
    transducer.write_parts(rounded, tmp_path / "full")
    rows = np.random.default_rng(0).standard_normal((1, 6, FEATURES))
    batch = {"features": rows.astype(np.float32), "lengths": np.array([6], np.int32)}
    half, full = (
        open_components(tmp_path / kind)["encoder"](batch)[0]
        for kind in ("half", "full")
    )

    np.testing.assert_allclose(half, full, atol=1e-6)
    sizes = [
        (tmp_path / kind / "encoder.onnx").stat().st_size for kind in ("half", "full")
    ]
    assert sizes[0] < 0.7 * sizes[1]


def test_other_weights_are_refused(tmp_path: Path) -> None:
    """The names say which model it is."""
    with pytest.raises(ValueError, match=r"no encoder\.pre_rnn\.lstm\.weight_ih_l0"):
        transducer.write_parts({"conv1.weight": np.zeros((1, 1), np.float32)}, tmp_path)
