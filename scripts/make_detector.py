"""Make what ships under pytest_mlperf/embedded/detection again.

    pip install -e '.[detection,onnxruntime]' torch scikit-image
    python scripts/make_detector.py scenes    # pictures and annotations, seconds
    python scripts/make_detector.py train     # the detector, a quarter of an hour
    python scripts/make_detector.py manifest  # hashes and reference scores

Evaluation scenes (detector_scenes.py) are made of the photographs ``eval_*`` of
embedded/resnet50, calibration scenes of ``cali_*``; training draws its scenes from
``cali_*`` and from scikit-image's photographs, and never sees an evaluation photograph.

Detector: convolutions with batch normalization and ReLU, a class and a box head on
each of three strides, no operator beyond Conv, Relu, Add, Transpose, Reshape and
Concat. Trained at several sizes at once, because three workloads run it at three.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import embedded_model
import numpy as np
from detector_scenes import Scene
from detector_scenes import make_scene
from PIL import Image

from pytest_mlperf.benchmarks.detection import boxes as box_math
from pytest_mlperf.benchmarks.detection.embedded import CLASSES
from pytest_mlperf.benchmarks.detection.embedded import EMBEDDED
from pytest_mlperf.benchmarks.detection.embedded import LEVELS
from pytest_mlperf.benchmarks.detection.embedded import SIDES
from pytest_mlperf.benchmarks.detection.embedded import open_embedded
from pytest_mlperf.benchmarks.detection.pictures import stretch

PHOTOS = EMBEDDED.parent / "resnet50" / "photos"
MODEL = EMBEDDED / "detector.onnx"
SCENES = {"evaluation": ("eval_*", 96, 7), "calibration": ("cali_*", 16, 8)}
"""What scenes are for -> their photographs, how many there are, and their seed."""
CHECKPOINT = Path(tempfile.gettempdir()) / "detector.pt"
KEEP_FP32 = (
    "/stem/stem.0/stem.0.0/Conv",
    *(f"/{head}.{level}/Conv" for head in ("classes", "boxes") for level in range(3)),
)
"""Nodes that int8 leaves alone: first and last convolutions, 1 % of mAP."""
QUALITY = 80
POOLS = {128: 1800, 192: 300}
"""Side of a training scene -> number of scenes; each is seen in eight symmetries."""
SKIMAGE = (
    "astronaut", "chelsea", "coffee", "rocket", "retina", "cat", "immunohistochemistry",
)  # fmt: skip


def read_photos(pattern: str) -> dict[str, Any]:
    return {
        p.name: np.asarray(Image.open(p).convert("RGB"))
        for p in sorted(PHOTOS.glob(pattern))
    }


def make_scenes() -> None:
    """Write pictures, annotations in COCO's form, and each one's photograph."""
    for use, (pattern, count, seed) in SCENES.items():
        folder = EMBEDDED / use
        folder.mkdir(parents=True, exist_ok=True)
        photos = list(read_photos(pattern).items())
        random = np.random.default_rng(seed)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in range(count):
            name, photo = photos[number % len(photos)]
            scene = make_scene(photo, random)
            file = f"{number:03d}_{Path(name).stem.split('_', 1)[1]}.jpg"
            Image.fromarray(scene.pixels).save(folder / file, "JPEG", quality=QUALITY)
            height, width = scene.pixels.shape[:2]
            images.append(
                {
                    "id": number + 1,
                    "file_name": file,
                    "width": width,
                    "height": height,
                    "photo": name,
                }
            )
            annotations += annotate(scene, number + 1, len(annotations) + 1)
        categories = [{"id": k + 1, "name": name} for k, name in enumerate(CLASSES)]
        content = {"images": images, "annotations": annotations}
        content["categories"] = categories
        text = json.dumps(content, separators=(",", ":"))
        (EMBEDDED / f"{use}.json").write_text(f"{text}\n")


def annotate(scene: Scene, image: int, first: int) -> list[dict[str, Any]]:
    """Return a scene's boxes as COCO has them, numbered from ``first`` on."""
    found = []
    for box, label in zip(scene.boxes, scene.labels, strict=True):
        x, y, right, bottom = (int(v) for v in box)
        width, height = right - x, bottom - y
        found.append(
            {
                "id": first + len(found),
                "image_id": image,
                "category_id": int(label) + 1,
                "bbox": [x, y, width, height],
                "area": width * height,
                "iscrowd": 0,
            }
        )
    return found


def make_network() -> Any:
    import torch
    from torch import nn

    def unit(into: int, out: int, stride: int = 1) -> nn.Sequential:
        convolution = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU())

    class Residual(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.first, self.second = unit(width, width), unit(width, width)

        def forward(self, x: Any) -> Any:
            return x + self.second(self.first(x))

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths, count = (48, 72, 96), len(LEVELS[0].sides)
            self.stem = nn.Sequential(unit(3, 16, 2), unit(16, 24, 2), Residual(24))
            self.stages = nn.ModuleList(
                nn.Sequential(unit(into, out, 2), Residual(out))
                for into, out in zip((24, *widths), widths, strict=False)
            )
            self.necks = nn.ModuleList(unit(w, 48) for w in widths)
            self.classes = nn.ModuleList(
                nn.Conv2d(48, count * len(CLASSES), 3, 1, 1) for _ in widths
            )
            self.boxes = nn.ModuleList(
                nn.Conv2d(48, count * 4, 3, 1, 1) for _ in widths
            )
            for head in self.classes:
                nn.init.constant_(head.bias, -4.6)

        def forward(self, images: Any) -> Any:
            def lay_out(y: Any, columns: int) -> Any:
                return y.permute(0, 2, 3, 1).reshape(y.shape[0], -1, columns)

            x = self.stem((images - 127.5) / 64)
            logits, deltas = [], []
            for stage, neck, classes, boxes in zip(
                self.stages, self.necks, self.classes, self.boxes, strict=True
            ):
                x = stage(x)
                y = neck(x)
                logits.append(lay_out(classes(y), len(CLASSES)))
                deltas.append(lay_out(boxes(y), 4))
            return torch.cat(logits, 1), torch.cat(deltas, 1)

    return Detector()


def assign(boxes: Any, labels: Any, anchors: Any) -> tuple[Any, Any]:
    """Return each anchor's class (-1: none, -2: ignored) and its box outputs."""
    halves = anchors[:, 2:] / 2
    corners = np.concatenate([anchors[:, :2] - halves, anchors[:, :2] + halves], 1)
    overlaps = box_math.compute_overlaps(corners, boxes)
    best = overlaps.argmax(1)
    most = overlaps.max(1)
    classes = np.where(most > 0.5, labels[best], np.where(most > 0.4, -2, -1))
    chosen = overlaps.argmax(0)
    classes[chosen], best[chosen] = labels, np.arange(len(labels))
    return classes, box_math.encode_boxes(boxes[best], anchors)


def training_photos() -> list[Any]:
    import skimage.data

    photos = list(read_photos("cali_*").values())
    for name in SKIMAGE:
        photo = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        photos.append(np.asarray(photo))
    return photos


def make_pool(side: int, count: int, photos: list[Any], random: Any) -> list[Scene]:
    """Return scenes that are stretched to a side, their boxes as shares of it."""
    pool = []
    for number in range(count):
        scene = make_scene(photos[number % len(photos)], random, largest=0.8)
        share = scene.boxes / np.array([*scene.pixels.shape[1::-1]] * 2, np.float32)
        pixels = stretch(scene.pixels, side).astype(np.uint8)
        pool.append(Scene(pixels, share, scene.labels))
    return pool


def turn(scene: Scene, random: Any) -> Scene:
    """Return one of a scene's eight symmetries, its color channels shuffled."""
    pixels, boxes = scene.pixels[..., random.permutation(3)], scene.boxes
    for axis in (0, 1):
        if random.random() < 0.5:
            pixels = pixels[:, ::-1] if axis == 0 else pixels[::-1]
            boxes = boxes.copy()
            boxes[:, [axis, axis + 2]] = 1 - boxes[:, [axis + 2, axis]]
    if random.random() < 0.5:
        pixels, boxes = pixels.swapaxes(0, 1), boxes[:, [1, 0, 3, 2]]
    return Scene(pixels, boxes, scene.labels)


def compute_losses(
    logits: Any, outputs: Any, classes: Any, deltas: Any
) -> tuple[Any, Any]:
    """Return the focal loss of the classes, and the boxes' smooth L1."""
    from torch.nn import functional

    positive = classes >= 0
    hot = functional.one_hot(classes.clamp(min=0), len(CLASSES)).float()
    wanted = hot * positive[..., None]
    p = logits.sigmoid()
    near = p * wanted + (1 - p) * (1 - wanted)
    weight = (0.25 * wanted + 0.75 * (1 - wanted)) * (1 - near) ** 2
    entropy = functional.binary_cross_entropy_with_logits(
        logits, wanted, reduction="none"
    )
    count = positive.sum().clamp(min=1)
    class_loss = (weight * entropy)[classes != -2].sum() / count
    box_loss = functional.smooth_l1_loss(
        outputs[positive], deltas[positive], beta=0.5, reduction="sum"
    )
    return class_loss, box_loss / count


def train(steps: int) -> None:
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    random = np.random.default_rng(1)
    photos = training_photos()
    network = make_network().train()
    size = sum(p.numel() for p in network.parameters())
    print(f"{size} parameters, {len(photos)} photographs", flush=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    anchors = {side: box_math.make_anchors(side, LEVELS) for side in POOLS}
    pools = {
        side: make_pool(side, count, photos, random) for side, count in POOLS.items()
    }
    training = embedded_model.Training(optimizer, every=50, clip=5.0)
    for step in range(steps):
        side, batch = (192, 6) if step % 8 == 7 else (128, 12)
        pool = pools[side]
        scenes = [turn(pool[random.integers(len(pool))], random) for _ in range(batch)]
        images = np.stack([s.pixels for s in scenes]).transpose(0, 3, 1, 2)
        targets = [assign(s.boxes, s.labels, anchors[side]) for s in scenes]
        classes, deltas = (
            torch.from_numpy(np.stack(each)) for each in zip(*targets, strict=True)
        )
        share = 0.5 + 0.5 * math.cos(math.pi * step / steps)
        training.set_rate(3e-3 * min(1, (step + 1) / 100) * share + 1e-5)
        pixels = np.ascontiguousarray(images.astype(np.float32))
        class_loss, box_loss = compute_losses(
            *network(torch.from_numpy(pixels)), classes, deltas
        )
        shown = {"class": class_loss, "box": box_loss}
        training.take_step(class_loss + 0.5 * box_loss, shown)
        if step % 50 == 0:
            torch.save(network.state_dict(), CHECKPOINT)
    export(network.eval())


def export(network: Any) -> None:
    """Write the network with folded normalization and weights in half precision."""
    import onnx
    import torch

    outputs = ["class_logits", "box_deltas"]
    axes = {name: {0: "batch", 1: "anchors"} for name in outputs}
    axes["images"] = {0: "batch", 2: "height", 3: "width"}
    inputs = {"images": torch.zeros(2, 3, 128, 128)}
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.onnx"
        embedded_model.export_network(network, raw, inputs, outputs, axes=axes)
        model = embedded_model.fold_constants(raw)
    embedded_model.halve_weights(model)
    model.producer_name, model.producer_version = "make_detector", ""
    EMBEDDED.mkdir(parents=True, exist_ok=True)
    onnx.checker.check_model(model)
    onnx.save(model, MODEL)
    operators = sorted({node.op_type for node in model.graph.node})
    print(MODEL, MODEL.stat().st_size, operators)


def write_manifest() -> None:
    """Write each file's hash and what the detector scores in fp32 at each size."""
    names = ["detector.onnx"]
    for use in SCENES:
        pictures = sorted((EMBEDDED / use).glob("*.jpg"))
        names += [f"{use}.json", *(f"{use}/{p.name}" for p in pictures)]
    manifest = {
        "files": embedded_model.hash_files(EMBEDDED, names),
        "keep_fp32": list(KEEP_FP32),
        "reference": dict.fromkeys(SIDES, 0.0),
    }

    def score() -> dict[str, float]:
        workloads = {name: open_embedded(name) for name in SIDES}
        return {
            name: round(embedded_model.score_samples(workload)["mAP"], 4)
            for name, workload in workloads.items()
        }

    path = EMBEDDED / "manifest.json"
    embedded_model.write_scored_manifest(path, manifest, score)


def export_checkpoint() -> None:
    import torch

    network = make_network()
    network.load_state_dict(torch.load(CHECKPOINT))
    export(network.eval())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("scenes", "train", "export", "manifest"))
    parser.add_argument("--steps", type=int, default=2000)
    args = parser.parse_args()
    if args.step == "scenes":
        make_scenes()
    elif args.step == "train":
        train(args.steps)
    elif args.step == "export":
        export_checkpoint()
    else:
        write_manifest()


if __name__ == "__main__":
    main()
