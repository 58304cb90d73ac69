"""Calibration samples are never evaluated: proved by their content."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.engines.calibration import read_calibration
from pytest_mlperf.engines.calibration import sample_digests
from tests.support import doubles


def rows(*values: float) -> Batch:
    return {"number": np.array([[v, 0, 0, 0] for v in values], np.float32)}


def world(*batches: Batch, kind: str = "embedded") -> doubles.Echo:
    echo = doubles.Echo(doubles.numbers())
    model = replace(echo.model, calibration=lambda: iter(batches))
    return replace(echo, model=model, kind=kind)


def test_calibration_that_shares_nothing_is_said_to() -> None:
    """With both counts; its digest does not depend on order or batches."""
    one = read_calibration(world(rows(-1, -2), rows(-3)), "int8")
    other = read_calibration(world(rows(-3, -1, -2)), "int8")

    assert one.summary == f"3 samples, none of the {doubles.SAMPLES} that are evaluated"
    assert one == other
    assert one.digest != read_calibration(world(rows(-3, -1)), "int8").digest


@given(st.integers(0, doubles.SAMPLES - 1), st.integers(0, 5))
def test_a_calibration_sample_that_is_evaluated_is_found(index: int, at: int) -> None:
    """Wherever it hides; the text says which sample it is in either set."""
    values = [-1.0 - n for n in range(6)]
    values[at] = float(index)
    with pytest.raises(BuildFailed) as caught:
        read_calibration(world(rows(*values)), "int8")

    assert f"(calibration sample {at} is evaluation sample {index})" in str(
        caught.value
    )
    assert "1 of 6 calibration samples are evaluated too" in str(caught.value)


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        (doubles.Echo(doubles.numbers()), "has no calibration samples"),
        (world(), "the calibration set is empty"),
        (world(kind="official"), "the calibration set is empty"),
    ],
)
def test_no_calibration_samples_are_a_failure(
    workload: doubles.Echo, said: str
) -> None:
    """Scales out of nothing would be noise; fp16 needs none."""
    with pytest.raises(BuildFailed, match=said) as caught:
        read_calibration(workload, "int8")

    assert "--mlperf-precision fp16" in str(caught.value)


def test_the_official_list_is_taken_as_it_is() -> None:
    """MLCommons draws it from the validation set; the text says what it is."""
    found = read_calibration(world(rows(1, 2), kind="official"), "int8")

    assert found.summary == "2 samples of the official list"


@given(st.integers(0, 5), st.integers(0, 5))
def test_padding_does_not_hide_a_sample(one: int, other: int) -> None:
    """Of models with a dynamic length; of others every value counts."""
    row = np.array([[5, 0, 7]], np.int64)
    padded = [{"ids": np.pad(row, ((0, 0), (0, n)))} for n in (one, other)]
    trimmed = [sample_digests(b, dynamic_length=True) for b in padded]
    whole = [sample_digests(b) for b in padded]

    assert trimmed[0] == trimmed[1]
    assert (whole[0] == whole[1]) == (one == other)
    assert trimmed[0] != sample_digests({"ids": row[:, ::2]})
