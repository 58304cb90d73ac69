"""Make what ships under pytest_mlperf/embedded/detection again.

    pip install torch onnx onnxruntime pillow scikit-image pytest-mlperf[detection]
    python scripts/make_detector.py scenes    # pictures and annotations, seconds
    python scripts/make_detector.py train     # the detector, a quarter of an hour
    python scripts/make_detector.py manifest  # hashes and reference scores

A scene is a cut of a photograph with one to five shapes on it: discs, rings, squares,
triangles, stars and crosses, each filled with a gradient or with another part of the
same photograph. The boxes are the extents of the shapes' masks, so they are exact.
Evaluation scenes are made of the photographs ``eval_*`` of embedded/resnet50,
calibration scenes of ``cali_*``; training draws its scenes from ``cali_*`` and from
scikit-image's photographs, and never sees an evaluation photograph.

Detector: convolutions with batch normalization and ReLU, a class and a box head on
each of three strides, no operator beyond Conv, Relu, Add, Transpose, Reshape and
Concat. Trained at several sizes at once, because three workloads run it at three.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL import ImageDraw

from pytest_mlperf.benchmarks.detection import boxes as box_math
from pytest_mlperf.benchmarks.detection.embedded import CLASSES
from pytest_mlperf.benchmarks.detection.embedded import EMBEDDED
from pytest_mlperf.benchmarks.detection.embedded import LEVELS
from pytest_mlperf.benchmarks.detection.embedded import SIDES
from pytest_mlperf.benchmarks.detection.embedded import open_embedded
from pytest_mlperf.benchmarks.detection.pictures import stretch

PHOTOS = EMBEDDED.parent / "resnet50" / "photos"
MODEL = EMBEDDED / "detector.onnx"
SCENES = {"evaluation": 96, "calibration": 16}
CHECKPOINT = Path(tempfile.gettempdir()) / "detector.pt"
KEEP_FP32 = (
    "/stem/stem.0/stem.0.0/Conv",
    *(f"/{head}.{level}/Conv" for head in ("classes", "boxes") for level in range(3)),
)
"""Nodes that int8 leaves alone: first and last convolutions, 1 % of mAP."""
LONGER = 256
"""Longer side of a scene, in pixels."""
QUALITY = 80
POOLS = {128: 1800, 192: 300}
"""Side of a training scene -> number of scenes; each is seen in eight symmetries."""
SKIMAGE = (
    "astronaut",
    "chelsea",
    "coffee",
    "rocket",
    "retina",
    "cat",
    "immunohistochemistry",
)


@dataclass(frozen=True)
class Scene:
    pixels: Any
    boxes: Any  # float [n, 4]: x_min, y_min, x_max, y_max in pixels
    labels: Any  # int [n]


def outline(kind: str, points: int = 5) -> list[tuple[float, float]]:
    """Return a shape's corners in the unit circle."""

    def on_circle(turn: float, radius: float = 1.0) -> tuple[float, float]:
        return radius * math.cos(turn), radius * math.sin(turn)

    if kind == "triangle":
        return [on_circle(2 * math.pi * k / 3) for k in range(3)]
    if kind == "square":
        return [on_circle(math.pi * (2 * k + 1) / 4) for k in range(4)]
    if kind == "star":
        return [
            on_circle(math.pi * k / points, (1, 0.42)[k % 2]) for k in range(2 * points)
        ]
    arm, wide = 1.0, 0.3
    corners = [(arm, wide), (wide, wide), (wide, arm)]
    return [
        (x * c - y * s, x * s + y * c)
        for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))
        for x, y in corners
    ]


def draw_mask(kind: str, size: tuple[float, float], turn: float, random: Any) -> Any:
    """Return a shape's mask, float [height, width], drawn at four times the size."""
    w, h = size
    scale, margin = 4, 2
    across = math.ceil(max(w, h)) + 2 * margin
    canvas = Image.new("L", (across * scale, across * scale))
    pen = ImageDraw.Draw(canvas)
    middle = across * scale / 2
    half = (w * scale / 2, h * scale / 2)
    if kind in ("disc", "ring"):
        pen.ellipse(
            (middle - half[0], middle - half[1], middle + half[0], middle + half[1]),
            fill=255,
        )
        if kind == "ring":
            hole = random.uniform(0.5, 0.7)
            pen.ellipse(
                (
                    middle - half[0] * hole,
                    middle - half[1] * hole,
                    middle + half[0] * hole,
                    middle + half[1] * hole,
                ),
                fill=0,
            )
    else:
        c, s = math.cos(turn), math.sin(turn)
        pen.polygon(
            [
                (middle + (x * c - y * s) * half[0], middle + (x * s + y * c) * half[1])
                for x, y in outline(kind)
            ],
            fill=255,
        )
    small = np.asarray(canvas, np.float32).reshape(across, scale, across, scale)
    return small.mean(axis=(1, 3)) / 255


def fill(photo: Any, shape: tuple[int, int], random: Any) -> Any:
    """Return a texture: a gradient of two colors, or a part of the photograph."""
    h, w = shape
    if random.random() < 0.6:
        first, second = random.uniform(0, 255, (2, 3))
        ramp = (
            np.linspace(0, 1, h)[:, None]
            if random.random() < 0.5
            else np.linspace(0, 1, w)[None]
        )
        ramp = np.broadcast_to(ramp, (h, w))[..., None]
        return first * (1 - ramp) + second * ramp + random.normal(0, 6, (h, w, 1))
    top = random.integers(0, max(1, photo.shape[0] - h))
    left = random.integers(0, max(1, photo.shape[1] - w))
    patch = photo[top : top + h, left : left + w].astype(np.float32)
    patch = np.pad(
        patch, ((0, h - patch.shape[0]), (0, w - patch.shape[1]), (0, 0)), "edge"
    )
    shift = random.uniform(40, 110) * random.choice([-1, 1])
    return np.clip(255 - patch if random.random() < 0.3 else patch + shift, 0, 255)


def make_scene(photo: Any, random: Any, largest: float = 0.5) -> Scene:
    """Cut a photograph and put one to five shapes on it."""
    ratio = random.uniform(0.75, 1.33)
    height, width = photo.shape[:2]
    w = min(width, int(height * ratio))
    h = min(height, int(w / ratio))
    zoom = random.uniform(0.6, 1.0)
    w, h = int(w * zoom), int(h * zoom)
    top, left = random.integers(0, height - h + 1), random.integers(0, width - w + 1)
    cut = Image.fromarray(photo[top : top + h, left : left + w])
    scale = LONGER / max(w, h)
    cut = cut.resize((round(w * scale), round(h * scale)), Image.Resampling.BILINEAR)
    if random.random() < 0.5:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.asarray(cut, np.float32).copy()
    boxes: list[tuple[float, float, float, float]] = []
    labels = []
    for _ in range(random.integers(1, 6)):
        label = int(random.integers(len(CLASSES)))
        size = math.exp(random.uniform(math.log(0.13), math.log(largest))) * min(
            pixels.shape[:2]
        )
        stretched = math.exp(random.uniform(-0.25, 0.25))
        mask = draw_mask(
            CLASSES[label],
            (size * stretched, size / stretched),
            random.uniform(0, 2 * math.pi),
            random,
        )
        rows, columns = (np.flatnonzero(mask.max(axis=a) > 0.5) for a in (1, 0))
        mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        mh, mw = mask.shape
        if mh >= pixels.shape[0] or mw >= pixels.shape[1]:
            continue
        y, x = (
            random.integers(0, pixels.shape[0] - mh),
            random.integers(0, pixels.shape[1] - mw),
        )
        box = (x, y, x + mw, y + mh)
        if (
            boxes
            and box_math.compute_overlaps(
                np.array([box], np.float32), np.array(boxes, np.float32)
            ).max()
            > 0.1
        ):
            continue
        alpha = (mask * random.uniform(0.75, 1.0))[..., None]
        texture = fill(pixels, (mh, mw), random)
        area = pixels[y : y + mh, x : x + mw]
        pixels[y : y + mh, x : x + mw] = area * (1 - alpha) + texture * alpha
        boxes.append(box)
        labels.append(label)
    noise = random.normal(0, random.uniform(0, 8), pixels.shape)
    pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    if not boxes:
        return make_scene(photo, random, largest)
    return Scene(pixels, np.array(boxes, np.float32), np.array(labels))


def read_photos(pattern: str) -> dict[str, Any]:
    return {
        p.name: np.asarray(Image.open(p).convert("RGB"))
        for p in sorted(PHOTOS.glob(pattern))
    }


def make_scenes() -> None:
    """Write pictures, annotations in COCO's form, and each one's photograph."""
    for use, pattern in (("evaluation", "eval_*"), ("calibration", "cali_*")):
        folder = EMBEDDED / use
        folder.mkdir(parents=True, exist_ok=True)
        photos = list(read_photos(pattern).items())
        random = np.random.default_rng({"evaluation": 7, "calibration": 8}[use])
        images, annotations = [], []
        for number in range(SCENES[use]):
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
            for box, label in zip(scene.boxes, scene.labels, strict=True):
                x, y, right, bottom = (int(v) for v in box)
                size = (right - x, bottom - y)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number + 1,
                        "category_id": int(label) + 1,
                        "bbox": [x, y, *size],
                        "area": size[0] * size[1],
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": k + 1, "name": name} for k, name in enumerate(CLASSES)]
        content = {
            "images": images,
            "annotations": annotations,
            "categories": categories,
        }
        (EMBEDDED / f"{use}.json").write_text(
            json.dumps(content, separators=(",", ":")) + "\n"
        )


def make_network() -> Any:
    from torch import nn

    def unit(into: int, out: int, stride: int = 1) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(into, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
        )

    class Residual(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.first, self.second = unit(width, width), unit(width, width)

        def forward(self, x: Any) -> Any:
            return x + self.second(self.first(x))

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(unit(3, 16, 2), unit(16, 24, 2), Residual(24))
            self.stages = nn.ModuleList(
                [
                    nn.Sequential(unit(24, 48, 2), Residual(48)),
                    nn.Sequential(unit(48, 72, 2), Residual(72)),
                    nn.Sequential(unit(72, 96, 2), Residual(96)),
                ]
            )
            widths = (48, 72, 96)
            count = len(LEVELS[0].sides)
            self.necks = nn.ModuleList([unit(w, 48) for w in widths])
            self.classes = nn.ModuleList(
                [nn.Conv2d(48, count * len(CLASSES), 3, 1, 1) for _ in widths]
            )
            self.boxes = nn.ModuleList(
                [nn.Conv2d(48, count * 4, 3, 1, 1) for _ in widths]
            )
            for head in self.classes:
                nn.init.constant_(head.bias, -4.6)

        def forward(self, images: Any) -> Any:
            import torch

            x = self.stem((images - 127.5) / 64)
            logits, deltas = [], []
            for stage, neck, c, b in zip(
                self.stages, self.necks, self.classes, self.boxes, strict=True
            ):
                x = stage(x)
                y = neck(x)
                logits.append(
                    c(y).permute(0, 2, 3, 1).reshape(y.shape[0], -1, len(CLASSES))
                )
                deltas.append(b(y).permute(0, 2, 3, 1).reshape(y.shape[0], -1, 4))
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
        pool.append(
            Scene(stretch(scene.pixels, side).astype(np.uint8), share, scene.labels)
        )
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


def train(steps: int) -> None:
    import torch
    from torch.nn import functional

    torch.manual_seed(0)
    torch.set_num_threads(1)
    random = np.random.default_rng(1)
    photos = training_photos()
    network = make_network().train()
    print(
        "parameters",
        sum(p.numel() for p in network.parameters()),
        "photographs",
        len(photos),
        flush=True,
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    anchors = {side: box_math.make_anchors(side, LEVELS) for side in POOLS}
    started = time.monotonic()
    pools = {
        side: make_pool(side, count, photos, random) for side, count in POOLS.items()
    }
    print(f"{time.monotonic() - started:6.0f} s for the scenes", flush=True)
    losses: list[tuple[float, float]] = []
    for step in range(steps):
        side = 192 if step % 8 == 7 else 128
        pool = pools[side]
        scenes = [
            turn(pool[random.integers(len(pool))], random)
            for _ in range(12 if side == 128 else 6)
        ]
        images = (
            np.stack([s.pixels for s in scenes])
            .transpose(0, 3, 1, 2)
            .astype(np.float32)
        )
        targets = [assign(s.boxes, s.labels, anchors[side]) for s in scenes]
        classes = torch.from_numpy(np.stack([t[0] for t in targets]))
        deltas = torch.from_numpy(np.stack([t[1] for t in targets]))
        for group in optimizer.param_groups:
            group["lr"] = (
                3e-3
                * min(1, (step + 1) / 100)
                * (0.5 + 0.5 * math.cos(math.pi * step / steps))
                + 1e-5
            )
        logits, found = network(torch.from_numpy(np.ascontiguousarray(images)))
        positive = classes >= 0
        wanted = (
            functional.one_hot(classes.clamp(min=0), len(CLASSES)).float()
            * positive[..., None]
        )
        p = logits.sigmoid()
        near = p * wanted + (1 - p) * (1 - wanted)
        weight = (0.25 * wanted + 0.75 * (1 - wanted)) * (1 - near) ** 2
        entropy = functional.binary_cross_entropy_with_logits(
            logits, wanted, reduction="none"
        )
        count = positive.sum().clamp(min=1)
        class_loss = (weight * entropy)[classes != -2].sum() / count
        box_loss = (
            functional.smooth_l1_loss(
                found[positive], deltas[positive], beta=0.5, reduction="sum"
            )
            / count
        )
        optimizer.zero_grad()
        (class_loss + 0.5 * box_loss).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        losses.append((float(class_loss.detach()), float(box_loss.detach())))
        if step % 50 == 0:
            a, b = np.mean(losses[-50:], axis=0)
            print(
                f"{time.monotonic() - started:6.0f} s, step {step}, class {a:.4f},"
                f" box {b:.4f}",
                flush=True,
            )
            torch.save(network.state_dict(), CHECKPOINT)
    export(network.eval())


def export(network: Any) -> None:
    """Write the network with folded normalization and weights in half precision."""
    import onnx
    import onnxruntime
    import torch
    from onnx import helper
    from onnx import numpy_helper

    with tempfile.TemporaryDirectory() as folder:
        raw, folded = Path(folder) / "raw.onnx", Path(folder) / "folded.onnx"
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, 128, 128),),
            str(raw),
            input_names=["images"],
            output_names=["class_logits", "box_deltas"],
            dynamic_axes={
                "images": {0: "batch", 2: "height", 3: "width"},
                "class_logits": {0: "batch", 1: "anchors"},
                "box_deltas": {0: "batch", 1: "anchors"},
            },
            dynamo=False,
            opset_version=17,
        )
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = (
            onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        )
        options.optimized_model_filepath = str(folded)
        onnxruntime.InferenceSession(
            str(raw), options, providers=["CPUExecutionProvider"]
        )
        model = onnx.load(folded)
    graph = model.graph
    casts = []
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if (
            tensor.data_type != onnx.TensorProto.FLOAT
            or values.size < 256
            or values.ndim < 2
        ):
            continue
        graph.initializer.remove(tensor)
        half = numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}.half")
        graph.initializer.append(half)
        casts.append(
            helper.make_node(
                "Cast", [half.name], [tensor.name], to=onnx.TensorProto.FLOAT
            )
        )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    model.producer_name, model.producer_version = "make_detector", ""
    EMBEDDED.mkdir(parents=True, exist_ok=True)
    onnx.checker.check_model(model)
    onnx.save(model, MODEL)
    print(MODEL, MODEL.stat().st_size, sorted({n.op_type for n in graph.node}))


def write_manifest() -> None:
    """Write each file's hash and what the detector scores in fp32 at each size."""
    names = ["detector.onnx"]
    for use in SCENES:
        names += [
            f"{use}.json",
            *(f"{use}/{p.name}" for p in sorted((EMBEDDED / use).glob("*.jpg"))),
        ]
    hashes = {
        name: hashlib.sha256((EMBEDDED / name).read_bytes()).hexdigest()
        for name in names
    }
    manifest = {
        "files": hashes,
        "keep_fp32": list(KEEP_FP32),
        "reference": dict.fromkeys(SIDES, 0.0),
    }
    path = EMBEDDED / "manifest.json"
    path.write_text(json.dumps(manifest, indent=1) + "\n")
    for name in SIDES:
        manifest["reference"][name] = round(score(open_embedded(name)), 4)
    path.write_text(json.dumps(manifest, indent=1) + "\n")
    print(manifest["reference"], sum((EMBEDDED / n).stat().st_size for n in names))


def score(workload: Any) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        workload.model.path, providers=["CPUExecutionProvider"]
    )
    answers = {}
    for index in range(workload.dataset.total):
        outputs = session.run(
            list(workload.model.outputs), workload.dataset.gather([index])
        )
        rows, sizes, _ = workload.respond(outputs, [index])
        answers[index] = rows[0].tobytes()[: sizes[0]]
    return workload.score(answers)["mAP"]


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
