"""Train ResNet-50 v1.5 on rendered digits, so that its fp8 kernels have an accuracy.

    python -m pip install torch onnx scikit-learn
    python scripts/train_resnet50.py SCRATCH --seconds 90     # on a CUDA device
    pytest-mlperf tune precision resnet50-offline --precisions fp8,fp16 \
        --mlperf-engine torch --mlperf-workload embedded --mlperf-scratch SCRATCH

The official weights need a download and ImageNet a registration; the embedded
EfficientNet has no convolution of 64 channels, which fp8 needs. So the architecture of
the benchmark is trained on what is at hand: the digits that come with scikit-learn
(1,797 of 8x8, CC BY 4.0), each drawn anew at any place, size, angle and color on noise.
The digits of the evaluation are not those of the training. SCRATCH/
embedded/resnet50 then has ``model.onnx`` (batch norms folded), the pictures of
evaluation and calibration, and a manifest with the fp32 accuracy and every sha256.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as fn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pytest_mlperf.benchmarks.imagenet.trained import PICTURES
from pytest_mlperf.benchmarks.standins import graphs

BLOCKS = (3, 4, 6, 3)
SIDE = 224
TEST_DIGITS = 360
SCALE = 64.0
"""Gray levels less the mean are divided by this before the first convolution."""
BATCH = 128
RATE = 0.4
"""Largest learning rate, of stochastic gradient descent with momentum."""


class Unit(nn.Module):
    """A convolution with its batch norm."""

    def __init__(self, out: int, into: int, side: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(into, out, side, stride, side // 2, bias=False)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: Any) -> Any:
        return self.norm(self.conv(x))

    def fold(self) -> tuple[Any, Any]:
        """Return weight and bias of the one convolution that both are."""
        norm = self.norm
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = self.conv.weight * gain[:, None, None, None]
        return weight, norm.bias - norm.running_mean * gain


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride: v1.5) and 1x1 convolutions and a shortcut."""

    def __init__(self, into: int, middle: int, stride: int) -> None:
        super().__init__()
        self.a = Unit(middle, into, 1)
        self.b = Unit(middle, middle, 3, stride)
        self.c = Unit(4 * middle, middle, 1)
        nn.init.zeros_(self.c.norm.weight)
        self.d: Unit | None = None
        if into != 4 * middle or stride != 1:
            self.d = Unit(4 * middle, into, 1, stride)

    def forward(self, x: Any) -> Any:
        y = self.c(fn.relu(self.b(fn.relu(self.a(x)))))
        return fn.relu(y + (x if self.d is None else self.d(x)))


class ResNet(nn.Module):
    """ResNet-50 v1.5, its parts named as the generated graph names them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Unit(64, 3, 7, 2)
        self.blocks = nn.ModuleDict()
        width = 64
        for stage, count in enumerate(BLOCKS):
            middle = 64 << stage
            for number in range(count):
                stride = 2 if number == 0 and stage else 1
                self.blocks[f"stage{stage}/{number}"] = Bottleneck(
                    width, middle, stride
                )
                width = 4 * middle
        self.scores = nn.Linear(width, 1000)

    def forward(self, pictures: Any) -> Any:
        """Return scores [batch, 1000] of int8 pictures [batch, side, side, 3]."""
        x = pictures.permute(0, 3, 1, 2).float() / SCALE
        x = fn.max_pool2d(fn.relu(self.stem(x)), 3, 2, 1)
        for block in self.blocks.values():
            x = block(x)
        return self.scores(x.mean((2, 3)))

    def weights(self) -> dict[str, np.ndarray]:
        """Return the graph's name -> folded weight or bias, float32."""
        units: dict[str, Unit] = {"stem": self.stem}
        for name, block in self.blocks.items():
            for part in "abcd":
                if (unit := getattr(block, part)) is not None:
                    units[f"{name.replace('/', '.')}.{part}"] = unit
        found: dict[str, Any] = {}
        for name, unit in units.items():
            found[f"{name}.weight"], found[f"{name}.bias"] = unit.fold()
        found["stem.weight"] = found["stem.weight"] / SCALE
        found["scores.weight"] = self.scores.weight.T
        found["scores.bias"] = self.scores.bias
        return {
            name: np.ascontiguousarray(value.detach().float().cpu().numpy())
            for name, value in found.items()
        }


def read_digits(device: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return pictures [n, 1, 8, 8] of 0 to 1 and labels: of training, of evaluation."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    pictures = torch.tensor(digits.images[order] / 16, dtype=torch.float32)[:, None]
    labels = torch.tensor(digits.target[order], dtype=torch.long)
    both = pictures.to(device), labels.to(device)
    training = tuple(part[TEST_DIGITS:] for part in both)
    return training, tuple(part[:TEST_DIGITS] for part in both)  # type: ignore[return-value]


def render(digits: tuple[Any, Any], count: int, random: Any) -> tuple[Any, Any]:
    """Draw digits: int8 [count, side, side, 3], and their labels."""
    pictures, labels = digits
    device = pictures.device

    def draw(low: float, high: float, *shape: int) -> Any:
        drawn = torch.rand(count, *shape, generator=random, device=device)
        return low + (high - low) * drawn

    picked = torch.randint(len(labels), (count,), generator=random, device=device)
    angle, size = draw(-0.35, 0.35), draw(0.3, 0.85)
    x, y = draw(-1, 1) * (1 - size), draw(-1, 1) * (1 - size)
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    turn = torch.stack(
        [cos, -sin, -(cos * x - sin * y), sin, cos, -(sin * x + cos * y)]
    )
    grid = fn.affine_grid(
        turn.T.reshape(count, 2, 3), [count, 1, SIDE, SIDE], align_corners=False
    )
    ink = fn.grid_sample(pictures[picked], grid, align_corners=False)
    ground = draw(-90, 90, 3, 1, 1)
    color = ground + draw(25, 110, 1, 1, 1) * torch.sign(draw(-1, 1, 1, 1, 1))
    noise = torch.randn(count, 3, SIDE, SIDE, generator=random, device=device) * draw(
        5, 45, 1, 1, 1
    )
    shown = (ground + ink * (color - ground) + noise).round().clamp(-128, 127)
    return shown.to(torch.int8).permute(0, 2, 3, 1).contiguous(), labels[picked]


def train(model: ResNet, digits: tuple[Any, Any], seconds: float, random: Any) -> None:
    """Train for so long, with the learning rate rising and falling by the clock."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 5e-5}, {"params": others}],
        lr=0.0, momentum=0.9, nesterov=True,
    )  # fmt: skip
    device = digits[0].device
    model.train()
    began, step, running = time.perf_counter(), 0, 0.0
    while (done := (time.perf_counter() - began) / seconds) < 1 or not step:
        rate = RATE * min(done / 0.15, max(1 - done, 0) / 0.85, 1)
        for group in optimizer.param_groups:
            group["lr"] = rate
        pictures, labels = render(digits, BATCH, random)
        with torch.autocast(device.type, torch.bfloat16):
            loss = fn.cross_entropy(model(pictures), labels, label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if step % 100 == 0:
            running = loss.item()
            print(f"{done:.0%} step {step} loss {running:.3f}", flush=True)
        step += 1


@torch.no_grad()
def measure(model: ResNet, pictures: Any, labels: Any) -> float:
    """Return top-1 in fp32, percent."""
    model.eval()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    parts = zip(pictures.split(64), labels.split(64), strict=True)
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in parts)
    return 100.0 * right / len(labels)


def write_graph(path: Path, weights: dict[str, np.ndarray]) -> None:
    """Write the generated graph of ResNet-50 with these weights, as one file."""
    import onnx
    from onnx import numpy_helper

    draft = path.with_name("draft.onnx")
    graphs.write_resnet(draft, BLOCKS, SIDE)
    model = onnx.load(str(draft))
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            value = weights.pop(tensor.name)
            assert list(tensor.dims) == list(value.shape), tensor.name
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    assert not weights, sorted(weights)
    onnx.save(model, str(path))
    draft.unlink()
    draft.with_suffix(".weights").unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--pictures", type=int, default=2000)
    arguments = parser.parse_args()
    folder = arguments.scratch / "embedded" / "resnet50"
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    random = torch.Generator(device).manual_seed(0)
    model = ResNet().to(device, memory_format=torch.channels_last)
    training, evaluation = read_digits(device)
    train(model, training, arguments.seconds, random)
    calibration, _ = render(training, BATCH, random)
    with torch.no_grad():
        shown = [
            render(evaluation, 50, random) for _ in range(arguments.pictures // 50)
        ]
        pictures, labels = (torch.cat(parts) for parts in zip(*shown, strict=True))
    accuracy = measure(model, pictures, labels)
    print(f"top-1 in fp32 {accuracy:.2f} % of {len(labels):,} pictures", flush=True)
    write_graph(folder / "model.onnx", model.weights())
    for name, values in zip(PICTURES, (pictures, labels, calibration), strict=True):
        np.save(folder / name, values.cpu().numpy())
    record = {
        "title": f"ResNet-50 v1.5 trained on rendered digits, {len(labels):,} pictures",
        "reference": {"acc": round(accuracy, 4)},
        "sha256": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.iterdir())
            if path.suffix in {".onnx", ".npy"}
        },
    }
    (folder / "manifest.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
