"""Datasets kept on a device: which samples are there, and what refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.api.device_dataset import CHUNK
from pytest_mlperf.api.device_dataset import DeviceDataset
from pytest_mlperf.api.device_dataset import PlacedWorkload
from pytest_mlperf.api.device_dataset import ResidentSamples
from pytest_mlperf.api.device_dataset import place_workload
from pytest_mlperf.api.device_dataset import residency_texts
from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.workload import ArrayDataset
from pytest_mlperf.core.residency.rules import Probe
from pytest_mlperf.core.residency.rules import Residency
from pytest_mlperf.engines.null import NULL
from tests.support import doubles
from tests.support.resident_doubles import Shelf


def numbers(count: int) -> ArrayDataset:
    return ArrayDataset({"x": np.arange(count)[:, None]}, count)


def test_each_sample_is_brought_once_and_found_by_its_index() -> None:
    """In parts, so that a host need not hold everything twice."""
    library = DeviceDataset(numbers(1000), shelf := Shelf())
    library.load([7, 3, *range(400, 1000)])
    rows = library.gather([999, 7, 3])["rows"].tolist()
    brought = np.concatenate([batch["x"] for batch in shelf.kept])[:, 0]

    assert rows == [601, 0, 1]
    assert brought[rows].tolist() == [999, 7, 3]
    assert len(shelf.kept) == -(-602 // CHUNK)
    assert library.amount == "602 samples, 4,816 bytes"


def test_a_sample_that_is_not_there_is_an_error() -> None:
    """LoadGen loads what it will ask for; anything else is no answer."""
    library = DeviceDataset(numbers(10), Shelf())
    library.load([1, 2])
    with pytest.raises(KeyError, match="sample 3 is not on the device"):
        library.gather([1, 3])
    library.unload([1, 2])
    with pytest.raises(KeyError, match="sample 1 is not on the device"):
        library.gather([1])


def test_memory_is_given_back_between_sets() -> None:
    """An accuracy run loads one set after the other."""
    library = DeviceDataset(numbers(10), shelf := Shelf())
    library.load([0, 1])
    library.unload([0, 1])
    library.load([2, 3])

    assert library.gather([2, 3])["rows"].tolist() == [0, 1]
    assert shelf.drops == 3


def build_with(residency: Residency) -> Build:
    workload = doubles.NUMBERS.open_workload("embedded", None)
    request = BuildRequest(workload, "fp32", Path(), residency=residency)
    return Build("digest", None, request, "made up")


@pytest.mark.parametrize(
    ("residency", "flags"),
    [
        (Residency(start=True), "start_from_device"),
        (Residency(end=True), "end_on_device"),
        (Residency(True, True), "start_from_device and end_on_device"),
    ],
)
def test_an_engine_that_cannot_is_refused(residency: Residency, flags: str) -> None:
    """With what it lacks, and the engines that can."""
    with pytest.raises(BuildFailed, match=f"cannot do {flags} .it can: neither"):
        place_workload(NULL, build_with(residency))


def test_nothing_asked_leaves_the_workload_alone() -> None:
    """Both are off by default."""
    build = build_with(Residency())

    assert build.request.workload is place_workload(NULL, build)


def test_only_the_dataset_of_a_placed_workload_is_another() -> None:
    """Answers, reference, score and digest are the workload's own."""
    workload = doubles.NUMBERS.open_workload("embedded", None)
    library = DeviceDataset(workload.dataset, Shelf())
    library.load([0, 1])
    there = PlacedWorkload(workload, library)
    kept = ResidentSamples.of(there, Probe(2e9, 1e9, 3e9, "G", 1))
    facts = residency_texts(kept)

    for name in ("kind", "title", "digest", "model", "reference"):
        assert getattr(workload, name) == getattr(there, name), name
    assert library is there.dataset
    assert facts == {
        "samples on the device": "2 samples, 16 bytes",
        "pinned copies": "in 2.00, out 1.00, both 3.00 GB/s",
    }


def test_of_several_devices_the_slowest_counts() -> None:
    """A path that one of them lacks is none; a device that nobody measured neither."""
    fast, slow = Probe(4e9, 1e9, 5e9, "G", 1), Probe(2e9, 3e9, 4e9, "G", 1)
    each = [
        ResidentSamples(1.0, "2 samples", fast),
        ResidentSamples(4.0, "2 samples", slow),
    ]

    assert ResidentSamples(
        4.0, "2 samples on each", Probe(2e9, 1e9, 4e9, "G", 1)
    ) == ResidentSamples.slowest(each)
    assert ResidentSamples.slowest([*each, ResidentSamples()]).copies is None
