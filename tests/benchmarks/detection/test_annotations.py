"""Annotation files and the pictures that they name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.benchmarks.detection.annotations import check_pictures
from pytest_mlperf.benchmarks.detection.annotations import read_annotations
from tests.support.detectors import SIZES
from tests.support.detectors import write_tree

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_tree(tmp_path / "a" / "true.json", tmp_path / "pictures")
    return tmp_path / "a" / "true.json"


def test_samples_are_in_the_files_order(tree: Path) -> None:
    """Whatever the ids: the reference counts pictures as the file lists them."""
    read = read_annotations(tree)

    assert read.file_names == [f"{n:012d}.jpg" for n in range(3)]
    assert read.image_ids.tolist() == [70, 69, 68]
    assert read.sizes.tolist() == [[height, width] for width, height in SIZES]
    assert read.category_ids == [1, 5, 90]


BROKEN: dict[str, tuple[Change, str]] = {
    "no list": (lambda c: c.pop("images"), "has no images, but should list them"),
    "no boxes": (lambda c: c["annotations"].clear(), "has no annotations, but should"),
    "no bbox": (
        lambda c: c["annotations"][1].pop("bbox"),
        "annotations[1] has no bbox, but should have id, image_id, category_id, bbox",
    ),
    "no area": (
        lambda c: c["annotations"][1].pop("area"),
        "annotations[1] has no area",
    ),
    "short box": (
        lambda c: c["annotations"][2].update(bbox=[1, 2, 3]),
        "annotations[2] has the box [1, 2, 3], but should have [x, y, width, height]",
    ),
    "negative": (
        lambda c: c["annotations"][0].update(bbox=[1, 2, -3, 4]),
        "annotations[0] has the box [1, 2, -3, 4], but should have",
    ),
    "NaN": (
        lambda c: c["annotations"][0].update(bbox=[1, 2, 3, float("nan")]),
        "annotations[0] has the box [1, 2, 3, nan], but should have",
    ),
    "no size": (lambda c: c["images"][1].pop("width"), "images[1] has no width"),
    "flat": (
        lambda c: c["images"][1].update(height=0),
        "images[1] is 200 x 0, but should have its width and height in pixels",
    ),
    "outside": (
        lambda c: c["images"][1].update(file_name="../other.jpg"),
        "images[1] has the file_name '../other.jpg', but should have the name of a",
    ),
    "no entry": (lambda c: c["images"].append(7), "images[3] has no id"),
    "unknown picture": (
        lambda c: c["annotations"][0].update(image_id=1),
        "annotations[0] is of image 1 and category 5, but both should be in the file",
    ),
    "unknown class": (
        lambda c: c["annotations"][0].update(category_id=2),
        "annotations[0] is of image 70 and category 2, but both should be",
    ),
    "twice": (
        lambda c: c["images"].append(c["images"][0]),
        "two images have the same id",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_its_entry(name: str, tree: Path) -> None:
    """What was found, what it should be, where, and what to do."""
    change, text = BROKEN[name]
    content = json.loads(tree.read_text())
    change(content)
    tree.write_text(json.dumps(content))

    with pytest.raises(ValueError, match=re.escape(text)) as raised:
        read_annotations(tree)
    assert str(tree) in str(raised.value)
    assert "copy the file again" in str(raised.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", '"images"'])
def test_a_file_of_another_kind_is_named(text: str, tree: Path) -> None:
    """Cut in the middle, or another JSON."""
    tree.write_text(text)

    with pytest.raises(ValueError, match=r"true\.json .*should.*copy the file again"):
        read_annotations(tree)


def test_whole_pictures_pass_without_being_decoded(tmp_path: Path) -> None:
    """The markers at both ends are enough."""
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8 anything \xff\xd9")

    check_pictures([tmp_path / "a.jpg"])


@pytest.mark.parametrize("left", [0, 1, 100, -1])
def test_a_truncated_picture_is_named(left: int, tree: Path) -> None:
    """Found when the dataset is opened, not in the middle of a run."""
    picture = tree.parents[1] / "pictures" / f"{1:012d}.jpg"
    picture.write_bytes(picture.read_bytes()[:left])

    with pytest.raises(ValueError, match=r"01\.jpg cannot be decoded.*copy it again"):
        check_pictures([picture])


def test_bytes_behind_a_picture_do_no_harm(tree: Path) -> None:
    """Some of COCO's have them: the picture is decoded then."""
    picture = tree.parents[1] / "pictures" / f"{1:012d}.jpg"
    picture.write_bytes(picture.read_bytes() + b"\0\0\0")

    check_pictures([picture])
