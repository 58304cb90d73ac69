"""ImageNet's pictures, label map, answers and scores."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from pytest_mlperf.benchmarks.imagenet import pictures
from pytest_mlperf.benchmarks.imagenet.pictures import ImageNetWorkload
from pytest_mlperf.benchmarks.resnet50 import RESNET50


@pytest.fixture(scope="module")
def embedded() -> ImageNetWorkload:
    return RESNET50.open_workload("embedded", None)


@given(
    values=hnp.arrays(np.float32, st.integers(1, 40), elements=st.integers(0, 255)),
    size=st.integers(1, 60),
)
def test_area_mean_keeps_the_mean_and_the_range(
    values: NDArray[np.float32], size: int
) -> None:
    """Every old value weighs the same in the whole, whatever the new size."""
    resized = pictures.average_areas(values, size)

    assert len(resized) == size
    assert resized.mean() == pytest.approx(values.mean(), rel=1e-4, abs=1e-3)
    assert values.min() - 1e-3 <= resized.min() <= resized.max() <= values.max() + 1e-3


def test_area_mean_weighs_partly_covered_values_by_their_share() -> None:
    """3 values to 2: the middle one counts half in both."""
    resized = pictures.average_areas(np.array([0, 30, 90], np.float32), 2)

    assert resized.tolist() == [10.0, 70.0]


@settings(max_examples=25)
@given(width=st.integers(60, 400), height=st.integers(60, 400))
def test_resize_keeps_the_aspect_ratio(width: int, height: int) -> None:
    """The shorter side becomes 256, the longer one follows, rounded down."""
    pixels = pictures.resize(Image.new("RGB", (width, height), (9, 99, 199)))

    longer = int(256 * max(width, height) / min(width, height))
    expected = (longer, 256, 3) if height > width else (256, longer, 3)
    assert pixels.shape == expected
    assert (pixels == (9, 99, 199)).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "P", "RGBA", "1"])
def test_pictures_of_every_mode_become_three_channels(
    mode: str, tmp_path: Path
) -> None:
    """Gray and CMYK pictures occur among ImageNet's."""
    path = tmp_path / "picture"
    file_format = "JPEG" if mode in {"RGB", "L", "CMYK"} else "PNG"
    Image.new("L", (301, 257), 200).convert(mode).save(path, file_format)
    pixels = pictures.center_crop(pictures.resize(pictures.read_rgb(path)))

    assert (pixels.shape, pixels.dtype) == ((224, 224, 3), np.dtype(np.uint8))


def test_the_crop_is_the_middle() -> None:
    """An odd remainder leaves the extra row or column below and to the right."""
    pixels = np.zeros((257, 300, 3), np.uint8)
    pixels[16, 38] = 255
    crop = pictures.center_crop(pixels)

    assert crop[0, 0].tolist() == [255, 255, 255]


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    """A truncated download says which file it is."""
    (tmp_path / "bad.JPEG").write_bytes(b"<html>")

    with pytest.raises(ValueError, match=r"bad\.JPEG cannot be decoded"):
        pictures.read_rgb(tmp_path / "bad.JPEG")


@pytest.mark.parametrize("line", ["a.JPEG", "a.JPEG 1000", "a.JPEG -1", "a b 3"])
def test_a_bad_line_of_the_label_map_is_named(line: str, tmp_path: Path) -> None:
    """File, line and the expected form are in the message."""
    path = tmp_path / "val_map.txt"
    path.write_text(f"good.JPEG 65\n\n{line}\n")

    with pytest.raises(ValueError, match=r"val_map\.txt:3 is .* label from 0 to 999"):
        pictures.read_val_map(path)


def test_an_empty_label_map_is_refused(tmp_path: Path) -> None:
    """A gate that finds nothing to check must not pass."""
    (tmp_path / "val_map.txt").write_text("\n")

    with pytest.raises(ValueError, match="is empty"):
        pictures.read_val_map(tmp_path / "val_map.txt")


@pytest.mark.parametrize(("classes", "winner"), [(1000, 7), (1001, 6)])
def test_respond_gives_the_winning_class_without_the_background(
    classes: int, winner: int, embedded: ImageNetWorkload
) -> None:
    """The official model has 1001 scores, the background first."""
    scores = np.zeros((2, classes), np.float32)
    scores[:, 7] = 1
    rows, sizes, _ = embedded.respond([scores], [3, 4])

    assert (rows.tolist(), sizes) == ([[winner], [winner]], None)
    assert (rows.dtype, rows.flags.c_contiguous) == (np.dtype(np.int32), True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 500, 999])
def test_respond_refuses_what_is_not_finite(
    bad: float, column: int, embedded: ImageNetWorkload
) -> None:
    """Anywhere in any row, even where it would not win."""
    scores = np.zeros((3, 1000), np.float32)
    scores[1, 2] = 5
    scores[1, column] = bad

    with pytest.raises(ValueError, match=rf"logits\[1, {column}\] is .*sample 11\)"):
        embedded.respond([scores], [10, 11, 12])


@pytest.mark.parametrize("shape", [(2,), (2, 10), (2, 1000, 1)])
def test_respond_refuses_a_wrong_shape(
    shape: tuple[int, ...], embedded: ImageNetWorkload
) -> None:
    """The message has the shape found and both that are right."""
    found = re.escape(str(list(shape)))

    with pytest.raises(ValueError, match=rf"shape {found}, but should be \[2, 1000\]"):
        embedded.respond([np.zeros(shape, np.float32)], [0, 1])


def test_respond_refuses_too_few_rows(embedded: ImageNetWorkload) -> None:
    """A lost row must not shift the answers of the others."""
    with pytest.raises(ValueError, match="has 2 rows, but should have 3"):
        embedded.respond([np.zeros((2, 1000), np.float32)], [0, 1, 2])


@given(flips=st.sets(st.integers(0, 269)))
def test_score_counts_exactly_the_right_answers(
    flips: set[int], embedded: ImageNetWorkload
) -> None:
    """Each wrong answer costs one in 270, and accuracy.txt says so."""
    answers = {
        index: np.int32(label + (index in flips)).tobytes()
        for index, label in enumerate(embedded.labels)
    }
    metrics = embedded.score(answers)

    good = 270 - len(flips)
    assert metrics == {"acc": 100 * good / 270}
    assert f"good={good}, total=270" in embedded.accuracy_text(metrics)


def test_score_counts_a_lost_answer_as_wrong(embedded: ImageNetWorkload) -> None:
    """An engine that answers half of the samples must not score on that half."""
    label = embedded.labels[0].tobytes()

    assert embedded.score({0: label}) == {"acc": 100 / 270}


@pytest.mark.parametrize(
    ("answers", "message"),
    [({270: bytes(4)}, "should be 0 to 269"), ({0: bytes(8)}, "has 8 bytes")],
)
def test_score_refuses_answers_of_another_log(
    answers: dict[int, bytes], message: str, embedded: ImageNetWorkload
) -> None:
    """A log of another dataset or benchmark is no low accuracy."""
    with pytest.raises(ValueError, match=message):
        embedded.score(answers)


def test_accuracy_text_is_what_the_official_checker_reads(
    embedded: ImageNetWorkload,
) -> None:
    """The pattern is the submission checker's."""
    text = embedded.accuracy_text({"acc": 100 * 263 / 270})
    found = re.match(r"^(?:\{\"accuracy|accuracy)[\": ]*=?\s*([\d\.]+).*", text)

    assert text == "accuracy=97.407%, good=263, total=270"
    assert found is not None
    assert found.group(1) == "97.407"
