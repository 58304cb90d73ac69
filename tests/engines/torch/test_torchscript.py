"""TorchScript against onnxruntime: a script keeps what is a constant in a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.workload import ModelFile

torch = pytest.importorskip("torch", reason="TorchScript is PyTorch's")
ort = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from pytest_mlperf.engines.torch import torchscript  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit")
HEADS = """
    s = Shape(x)
    b = Gather<axis = 0>(s, zero)
    l = Slice(s, one_, two_)
    b1 = Unsqueeze(b, zero_)
    sizes = Concat<axis = 0>(b1, l, two_, minus_)
    r = Reshape(x, sizes)
    t = Transpose<perm = [0, 2, 1, 3]>(r)
    p = Concat<axis = 0>(b1, two_, l, one_)
    filled = ConstantOfShape<value = float[1] {0.5}>(p)
    m = Mul(t, filled)
    big = Expand(half, p)
    w = Sub(m, big)
    y = ReduceMean<axes = [3], keepdims = 0>(w)
"""
"""Sequences whose every size is computed, as PyTorch's own exporter writes it."""
PICTURE = """
    c = Conv<kernel_shape = [3, 3], pads = [0, 0, 1, 1], strides = [2, 2]>(x, weights)
    d = ConvTranspose<kernel_shape = [2, 2], strides = [2, 2]>(c, back)
    n = InstanceNormalization(d, ones, ones)
    k = Clip(n, low, high)
    a = AveragePool<kernel_shape = [2, 2], pads = [1, 0, 1, 0]>(k)
    q = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(a)
    s1, s2 = Split<axis = 1>(q)
    v = Add(s1, s2)
    f = Flatten(v)
    top, places = TopK<axis = 1>(f, three)
    far = ArgMax<axis = 1>(f)
    wide = Cast<to = 1>(far)
    z = Squeeze(wide, one_)
    back1 = Unsqueeze(z, one_)
    y = Add(top, back1)
"""
CONSTANTS: dict[str, Any] = {
    "zero": np.int64(0), "zero_": [0], "one_": [1], "two_": [2], "minus_": [-1],
    "half": np.full(1, 0.5, np.float32),
    "low": np.float32(-1), "high": np.float32(0.75),
    "ones": np.ones(4, np.float32), "three": [3],
    "weights": np.linspace(-1, 1, 8 * 3 * 9, dtype=np.float32).reshape(8, 3, 3, 3),
    "back": np.linspace(1, -1, 8 * 4 * 4, dtype=np.float32).reshape(8, 4, 2, 2),
}  # fmt: skip


def save_model(folder: Path, body: str, shape: str) -> ModelFile:
    """Write a graph of ``x`` to ``y``, in ONNX's own text form."""
    text = (
        '<ir_version: 8, opset_import: ["" : 17]>\n'
        f"g (float[{shape}] x) => (float[batch, n] y) {{{body}}}"
    )
    model = onnx.parser.parse_model(text)
    for name, value in CONSTANTS.items():
        array = np.asarray(value, None if hasattr(value, "dtype") else np.int64)
        if name in body:
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    return ModelFile(path, ("x",), ("y",))


def run_both(model: ModelFile, path: Path, *shape: int) -> list[Any]:
    """Return the outputs of a TorchScript file and of its source."""
    x = np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)
    (found,) = torchscript.run_torchscript(path, ["x"], "cpu", {"x": x})
    (wanted,) = ort.InferenceSession(model.path).run(["y"], {"x": x})
    return [found, wanted]


@pytest.mark.parametrize(
    ("body", "axes", "shapes"),
    [
        (HEADS, "batch, length, 8", [(1, 5, 8), (3, 2, 8), (2, 9, 8)]),
        (PICTURE, "batch, 3, height, width", [(1, 3, 8, 8), (3, 3, 12, 10)]),
    ],
)
def test_a_script_has_no_shape_in_it(
    tmp_path: Path, body: str, axes: str, shapes: list[tuple[int, ...]]
) -> None:
    """Every batch, length and picture size has the source's answer."""
    model = save_model(tmp_path, body, axes)
    path = tmp_path / "model.pt"
    torchscript.write_torchscript(model, "fp32", None, path, "cpu")

    for shape in shapes:
        found, wanted = run_both(model, path, *shape)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_trace_has_the_sizes_of_its_example(tmp_path: Path) -> None:
    """Which is what a script is for."""
    model = save_model(tmp_path, HEADS, "batch, length, 8")
    path = tmp_path / "model.pt"
    example = {"x": np.zeros((1, 5, 8), np.float32)}
    torchscript.write_torchscript(model, "fp32", example, path, "cpu")
    found, wanted = run_both(model, path, 1, 5, 8)

    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="shape"):
        run_both(model, path, 2, 9, 8)


def test_padding_that_a_script_cannot_say_is_refused(tmp_path: Path) -> None:
    """By the operator's name, with another way."""
    body = '\n c = Conv<auto_pad = "SAME_UPPER", kernel_shape = [3, 3]>(x, weights)'
    model = save_model(tmp_path, f"{body}\n y = Identity(c)\n", "batch, 3, 8, 8")

    with pytest.raises(BuildFailed, match="Conv with auto_pad SAME_UPPER"):
        torchscript.write_torchscript(model, "fp32", None, tmp_path / "model.pt", "cpu")
