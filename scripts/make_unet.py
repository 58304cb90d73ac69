"""Make the embedded 3d-unet again: a small 3D U-Net, and labeled volumes of a brain.

    pip install -e '.[onnxruntime]' torch nibabel nilearn==0.14.1
    OMP_NUM_THREADS=1 python scripts/make_unet.py [--keep-model]

Data: the MNI152 template of the package nilearn (2009a, 1 mm): its T1 image, and the
class of each voxel from its maps of gray and white matter. The template is symmetric,
so that its halves are mirror images: the back of the brain is for training and the
front of one half for evaluation, cut into blocks of several shapes. Model: two
poolings, six channels at the top, batch normalization that is folded into the
convolutions at the end. The script records the Dice score of the shipped file in fp32,
through the package's own code, and every sha256.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from itertools import product
from pathlib import Path
from typing import Any

import embedded_model
import numpy as np

from pytest_mlperf.benchmarks import unet_3d
from pytest_mlperf.benchmarks.segmentation import volumes

OUT = embedded_model.EMBEDDED / "3d-unet"
SIDE, CHANNELS, CLASSES = 32, 6, 3
STEPS, BATCH, NOISE, SEED = 900, 4, 0.02, 0
FRONT = 133  # first coronal plane of the evaluation; the training ends before it
CUTS = ((0, 34, 98), (0, 36, 100), (0, 32, 80, 128, 189))


def read_template() -> tuple[np.ndarray, np.ndarray]:
    """Return T1 as uint8 and the classes as uint8, both [197, 233, 189]."""
    import nibabel

    folder = embedded_model.find_package("nilearn") / "datasets" / "data"

    def read(kind: str) -> np.ndarray:
        path = folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
        values = np.asarray(nibabel.load(path).dataobj, np.float32)
        return values / values.max()

    t1, gray, white = (read(kind) for kind in ("t1", "gm", "wm"))
    labels = np.where(white > np.maximum(gray, 0.3), 2, gray > 0.3).astype(np.uint8)
    return np.rint(t1 * 255).astype(np.uint8), labels


def make_model() -> Any:
    from torch import cat
    from torch import nn

    def block(into: int, out: int) -> nn.Sequential:
        parts: list[nn.Module] = []
        for width in (into, out):
            convolution = nn.Conv3d(width, out, 3, padding=1)
            parts += [convolution, nn.BatchNorm3d(out), nn.ReLU()]
        return nn.Sequential(*parts)

    class SmallUNet(nn.Module):
        def __init__(self, width: int = CHANNELS) -> None:
            super().__init__()
            self.top, self.middle = block(1, width), block(width, 2 * width)
            self.bottom = block(2 * width, 4 * width)
            self.pool = nn.MaxPool3d(2)
            self.raise1 = nn.ConvTranspose3d(4 * width, 2 * width, 2, 2)
            self.raise0 = nn.ConvTranspose3d(2 * width, width, 2, 2)
            self.join1 = block(4 * width, 2 * width)
            self.join0 = block(2 * width, width)
            self.head = nn.Conv3d(width, CLASSES, 1)

        def forward(self, x: Any) -> Any:
            top = self.top(x)
            middle = self.middle(self.pool(top))
            bottom = self.bottom(self.pool(middle))
            middle = self.join1(cat([self.raise1(bottom), middle], 1))
            return self.head(self.join0(cat([self.raise0(middle), top], 1)))

    return SmallUNet()


def train(image: np.ndarray, labels: np.ndarray) -> Any:
    import torch
    from torch.nn import functional

    torch.manual_seed(SEED)
    random = np.random.default_rng(SEED)
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    training = embedded_model.Training(optimizer, every=50)
    values = torch.tensor(image, dtype=torch.float32) / 255
    truth = torch.tensor(labels, dtype=torch.int64)
    for _ in range(STEPS):
        spots = [
            tuple(slice(at, at + SIDE) for at in random.integers(0, most))
            for most in [np.array(values.shape) - SIDE + 1] * BATCH
        ]
        x = torch.stack([values[spot] for spot in spots])[:, None]
        y = torch.stack([truth[spot] for spot in spots])
        scores = model(x + NOISE * torch.randn_like(x))
        shares = scores.softmax(1)
        hot = functional.one_hot(y, CLASSES).permute(0, 4, 1, 2, 3).float()
        axes = (0, 2, 3, 4)
        both, sizes = (shares * hot).sum(axes), (shares + hot).sum(axes)
        loss = functional.cross_entropy(scores, y) + 1 - (2 * both / (sizes + 1)).mean()
        training.take_step(loss)
        plan.step()
    return model.eval()


def export(model: Any, path: Path) -> None:
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    for block in model.children():
        for place in range(0, len(block) if hasattr(block, "__len__") else 0, 3):
            block[place] = fuse_conv_bn_eval(block[place], block[place + 1])
            block[place + 1] = torch.nn.Identity()
    axes = {name: {0: "windows"} for name in ("input", "output")}
    inputs = {"input": torch.zeros(1, 1, SIDE, SIDE, SIDE)}
    embedded_model.export_network(model, path, inputs, ["output"], axes=axes)


def write_volumes(image: np.ndarray, labels: np.ndarray, path: Path) -> None:
    arrays = {}
    boxes = product(*(pairwise(cuts) for cuts in CUTS))
    for number, box in enumerate(boxes):
        spot = tuple(slice(*ends) for ends in box)
        for name, values in (("image", image), ("labels", labels)):
            fitted = volumes.fit_windows(values[spot], SIDE, 0)
            arrays[f"{name}_{number:02d}"] = fitted
    np.savez_compressed(path, **arrays)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    image, labels = read_template()
    print("shares of the classes", np.bincount(labels.ravel()) / labels.size)
    if "--keep-model" not in sys.argv:
        model = train(image[:, :FRONT], labels[:, :FRONT])
        export(model, OUT / "model.onnx")
    half = slice(image.shape[0] // 2, None)
    front = (half, slice(FRONT, None))
    write_volumes(image[front][:98], labels[front][:98], OUT / "volumes.npz")
    manifest = {
        "sha256": embedded_model.hash_files(OUT, ("model.onnx", "volumes.npz")),
        "reference": {"DICE": 0.0},
    }

    def score() -> dict[str, float]:
        scores = embedded_model.score_samples(unet_3d.open_embedded(OUT))
        return {"DICE": scores["DICE"]}

    embedded_model.write_scored_manifest(OUT / "manifest.json", manifest, score)


if __name__ == "__main__":
    main()
