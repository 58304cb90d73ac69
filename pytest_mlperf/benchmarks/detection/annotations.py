"""Pictures and their true boxes, as COCO and MLPerf's OpenImages subset state them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.benchmarks.imagenet.pictures import read_rgb

REMEDY = "copy the file again from the dataset"
FIELDS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd"),
    "categories": ("id",),
}
"""Lists of an annotation file -> what each entry must have."""
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class Annotations:
    """The true boxes of a dataset; sample n is the n-th picture of the file."""

    content: Mapping[str, Any]
    """``images``, ``annotations`` and ``categories``, in COCO's form."""

    @property
    def file_names(self) -> list[str]:
        return [image["file_name"] for image in self.content["images"]]

    @property
    def image_ids(self) -> NDArray[np.int64]:
        return np.array([image["id"] for image in self.content["images"]])

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Return height and width of each picture: [pictures, 2]."""
        images = self.content["images"]
        return np.array([(image["height"], image["width"]) for image in images])

    @property
    def category_ids(self) -> list[int]:
        return [category["id"] for category in self.content["categories"]]


def read_annotations(path: Path) -> Annotations:
    """Read an annotation file.

    Raises ``ValueError`` that names the file and the entry for broken JSON, an absent
    list or field, a box that is none, and a file without pictures or boxes.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(
            f"{path} is no JSON ({error}), but should be an annotation file in COCO's"
            f" form; {REMEDY}"
        ) from error
    for name in FIELDS:
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not entries:
            raise ValueError(
                f"{path} has no {name}, but should list them as COCO's"
                f" instances_val2017.json does; {REMEDY}"
            )
        _check_entries(path, name, entries)
    _check_images(path, content["images"])
    _check_boxes(path, content)
    return Annotations(content)


def _check_entries(path: Path, name: str, entries: Sequence[Any]) -> None:
    required = FIELDS[name]
    for number, entry in enumerate(entries):
        missing = required
        if isinstance(entry, dict):
            missing = tuple(field for field in required if entry.get(field) is None)
        if missing:
            raise ValueError(
                f"{path}: {name}[{number}] has no {missing[0]}, but should have"
                f" {', '.join(required)}; {REMEDY}"
            )


def _check_images(path: Path, images: Sequence[Any]) -> None:
    for number, image in enumerate(images):
        name, numbers = image["file_name"], (image["width"], image["height"])
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(
                f"{path}: images[{number}] has the file_name {name!r}, but should have"
                f" the name of a file, without folders; {REMEDY}"
            )
        if not all(isinstance(n, int) and n > 0 for n in numbers):
            raise ValueError(
                f"{path}: images[{number}] is {numbers[0]} x {numbers[1]}, but should"
                f" have its width and height in pixels; {REMEDY}"
            )


def _check_boxes(path: Path, content: Mapping[str, Any]) -> None:
    pictures = {image["id"] for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    if len(pictures) != len(content["images"]):
        raise ValueError(
            f"{path}: two images have the same id, but each should have its own;"
            f" {REMEDY}"
        )
    for number, entry in enumerate(content["annotations"]):
        where = f"{path}: annotations[{number}]"
        if entry["image_id"] not in pictures or entry["category_id"] not in categories:
            raise ValueError(
                f"{where} is of image {entry['image_id']} and category"
                f" {entry['category_id']}, but both should be in the file; {REMEDY}"
            )
        box = entry["bbox"]
        if (
            not isinstance(box, list)
            or len(box) != 4
            or not all(isinstance(v, int | float) and math.isfinite(v) for v in box)
            or min(box[2:]) < 0
        ):
            raise ValueError(
                f"{where} has the box {box}, but should have [x, y, width, height] in"
                f" pixels; {REMEDY}"
            )


def check_pictures(paths: Sequence[Path]) -> None:
    """Raise ``ValueError`` that names a picture which is truncated or none at all.

    A whole JPEG begins and ends with its markers. Only a file that does not is
    decoded, because decoding all of OpenImages would take minutes.
    """
    for path in paths:
        with path.open("rb") as file:
            start = file.read(2)
            file.seek(-min(2, path.stat().st_size), 2)
            if start == JPEG_START and file.read(2) == JPEG_END:
                continue
        read_rgb(path)
