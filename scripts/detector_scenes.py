"""Scenes of the embedded detector: shapes on photographs, with exact boxes.

A scene is a cut of a photograph with one to five shapes on it: discs, rings, squares,
triangles, stars and crosses, each filled with a gradient or with another part of the
same photograph. The boxes are the extents of the shapes' masks, so they are exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from PIL import ImageDraw

from pytest_mlperf.benchmarks.detection import boxes as box_math
from pytest_mlperf.benchmarks.detection.embedded import CLASSES

LONGER = 256
"""Longer side of a scene, in pixels."""


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
    middle, half = across * scale / 2, (w * scale / 2, h * scale / 2)

    def draw_disc(share: float, color: int) -> None:
        x, y = half[0] * share, half[1] * share
        box = middle - x, middle - y, middle + x, middle + y
        pen.ellipse(box, fill=color)

    if kind in ("disc", "ring"):
        draw_disc(1.0, 255)
        if kind == "ring":
            draw_disc(random.uniform(0.5, 0.7), 0)
    else:
        c, s = math.cos(turn), math.sin(turn)
        corners = [
            (middle + (x * c - y * s) * half[0], middle + (x * s + y * c) * half[1])
            for x, y in outline(kind)
        ]
        pen.polygon(corners, fill=255)
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


def cut_photo(photo: Any, random: Any) -> Any:
    """Return a part of a photograph, scaled to ``LONGER`` and perhaps mirrored."""
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
    return np.asarray(cut, np.float32).copy()


def draw_shape(label: int, side: int, largest: float, random: Any) -> Any:
    """Return the mask of a shape without margins: of a share of ``side`` pixels."""
    low, high = math.log(0.13), math.log(largest)
    size = math.exp(random.uniform(low, high)) * side
    stretched = math.exp(random.uniform(-0.25, 0.25))
    extent = size * stretched, size / stretched
    turn = random.uniform(0, 2 * math.pi)
    mask = draw_mask(CLASSES[label], extent, turn, random)
    rows, columns = (np.flatnonzero(mask.max(axis=a) > 0.5) for a in (1, 0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def make_scene(photo: Any, random: Any, largest: float = 0.5) -> Scene:
    """Cut a photograph and put one to five shapes on it."""
    pixels = cut_photo(photo, random)
    boxes: list[tuple[float, float, float, float]] = []
    labels = []
    for _ in range(random.integers(1, 6)):
        label = int(random.integers(len(CLASSES)))
        mask = draw_shape(label, min(pixels.shape[:2]), largest, random)
        h, w = mask.shape
        if h >= pixels.shape[0] or w >= pixels.shape[1]:
            continue
        y = random.integers(0, pixels.shape[0] - h)
        x = random.integers(0, pixels.shape[1] - w)
        box = (x, y, x + w, y + h)
        if boxes and overlaps_any(box, boxes):
            continue
        alpha = (mask * random.uniform(0.75, 1.0))[..., None]
        texture = fill(pixels, (h, w), random)
        area = pixels[y : y + h, x : x + w]
        pixels[y : y + h, x : x + w] = area * (1 - alpha) + texture * alpha
        boxes.append(box)
        labels.append(label)
    noise = random.normal(0, random.uniform(0, 8), pixels.shape)
    pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    if not boxes:
        return make_scene(photo, random, largest)
    return Scene(pixels, np.array(boxes, np.float32), np.array(labels))


def overlaps_any(box: tuple[float, ...], boxes: list[Any]) -> bool:
    """Return whether a box covers more of one of the others than it may."""
    pair = np.array([box], np.float32), np.array(boxes, np.float32)
    return bool(box_math.compute_overlaps(*pair).max() > 0.1)
