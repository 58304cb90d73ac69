"""A set of samples that was read before is the same set when it is read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_mlperf.core.logs import samples
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.logs.samples import RecentSets
from pytest_mlperf.core.logs.samples import Sets
from tests.support import logs


@pytest.fixture(autouse=True)
def recent(monkeypatch: pytest.MonkeyPatch) -> RecentSets:
    """Sets that this test alone has read."""
    fresh = RecentSets()
    monkeypatch.setattr(samples, "RECENT", fresh)
    return fresh


def write_record(indices: list[int]) -> str:
    """Return a record as LoadGen writes it."""
    return f'{samples.LISTING}{",".join(map(str, indices))}], "time_ms": 1}}'


def read_record(sets: Sets, text: str) -> str:
    """Add a record's set as the reader of detail logs does; return what was parsed."""
    parsed = sets.shorten(text)
    assert sets.add(json.loads(parsed)["value"])
    return parsed


LISTS = [
    [*range(5000, 0, -1)],
    [*range(4999), 17],
    [*range(0, 600_000, 300)],
    [0, 524_287] * 600,
    [*range(524_280, 526_000)],
]


@pytest.mark.parametrize("indices", LISTS, ids=["all", "twice", "thin", "far", "high"])
def test_a_set_is_the_same_the_second_time(indices: list[int]) -> None:
    """Its figures are those of Python's own set, and so is what it covers."""
    text = write_record(indices)
    for _ in range(2):
        sets = Sets()
        read_record(sets, text)
        (found,) = sets.loaded

        assert (found.size, found.distinct) == (len(indices), len({*indices}))
        assert found.highest == max(indices)
        assert (found.first, found.last) == (tuple(indices[:7]), tuple(indices[-7:]))
        assert sets.covered == len({*indices})


def test_a_known_list_is_not_parsed_again_and_another_is() -> None:
    """One index apart, and of the same length."""
    first, other = [*range(5000)], [*range(4999), 4998]
    read_record(Sets(), write_record(first))
    sets = Sets()

    assert '"value": []' in read_record(sets, write_record(first))
    assert read_record(sets, write_record(other)) == write_record(other)
    assert [one.distinct for one in sets.loaded] == [5000, 4999]
    assert sets.covered == 5000


def test_sets_of_every_kind_cover_together() -> None:
    """Masks, a known one among them, a sparse set and high indices; overlaps once."""
    parts = [
        [*range(3000)],
        [*range(2000, 5000)],
        [4000, 500_000],
        [*range(524_288, 526_000)],
    ]
    read_record(Sets(), write_record(parts[0]))
    sets = Sets()
    for part in parts:
        read_record(sets, write_record(part))

    assert sets.covered == len({index for part in parts for index in part})


def test_the_oldest_masks_are_forgotten(recent: RecentSets) -> None:
    """What is kept is bounded, whatever is read."""
    for number in range(40):
        read_record(Sets(), write_record([number, *range(number + 1, 520_000, 50)]))

    kept = [mask for _, mask in recent._found.values()]
    assert 0 < sum(mask.bit_length() // 8 for mask in kept) <= samples.RECENT_BYTES


def test_a_log_is_read_the_same_twice(tmp_path: Path) -> None:
    """As a whole, and with another list of the same length the third time."""
    folder = logs.performance(tmp_path, "Offline", loaded=5000)
    path = folder / "mlperf_log_detail.txt"

    assert Log.read(folder) == Log.read(folder)
    path.write_text(path.read_text().replace("4998, 4999]", "4998, 4998]"))
    assert Log.read(folder).loaded[0].distinct == 4999
