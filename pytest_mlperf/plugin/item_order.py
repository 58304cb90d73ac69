"""The order of a session's items: the mlperf items of one build together.

Anybody else's items keep their places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.matrix import build_key
from pytest_mlperf.core.matrix import build_order
from pytest_mlperf.core.types import Mode
from pytest_mlperf.plugin.collection import audit_of
from pytest_mlperf.plugin.collection import cell_of
from pytest_mlperf.plugin.collection import list_audits
from pytest_mlperf.plugin.collection import mode_of


def sort_items(items: list[pytest.Item]) -> None:
    """Bring mlperf items of one build together; the others keep their places.

    Performance stands before accuracy, so that a run that is already INVALID is
    known before the long accuracy run begins; compliance needs both.
    """
    modes, tests = [mode.value for mode in Mode], list_audits()

    def key(item: pytest.Item) -> tuple[Any, ...]:
        cell = cell_of(item)
        assert cell is not None
        audit = audit_of(item)
        place = tests.index(audit) if audit in tests else 0
        return (*build_order(cell), modes.index(mode_of(item)), place)

    _reorder(items, lambda own: sorted(own, key=key))


def regroup_items(items: list[pytest.Item]) -> None:
    """Bring mlperf items of one build together again, wherever plugins put them.

    The order is theirs (``--ff``, pytest-randomly) as far as it builds nothing twice
    and has compliance tests behind what they are compared with.
    """

    def regroup(own: list[pytest.Item]) -> list[pytest.Item]:
        builds: dict[tuple[str, str, str], list[pytest.Item]] = {}
        for item in own:
            cell = cell_of(item)
            assert cell is not None
            builds.setdefault(build_key(cell), []).append(item)
        return [item for build in builds.values() for item in _put_behind(build)]

    _reorder(items, regroup)


def _put_behind(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Yield the items of one build, each compliance test behind its cell's runs."""
    runs = Counter(cell_of(item) for item in items if not audit_of(item))
    waiting: dict[Cell | None, list[pytest.Item]] = {}
    for item in items:
        cell = cell_of(item)
        if audit_of(item) and runs[cell]:
            waiting.setdefault(cell, []).append(item)
            continue
        yield item
        if not audit_of(item):
            runs[cell] -= 1
            yield from waiting.pop(cell, []) if not runs[cell] else []


def _reorder(
    items: list[pytest.Item],
    arrange: Callable[[list[pytest.Item]], list[pytest.Item]],
) -> None:
    """Arrange the mlperf items among their places; the others keep theirs."""
    places = [i for i, item in enumerate(items) if cell_of(item) is not None]
    arranged = arrange([items[i] for i in places])
    for place, item in zip(places, arranged, strict=True):
        items[place] = item
