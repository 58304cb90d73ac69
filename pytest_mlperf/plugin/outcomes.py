"""What a run's end means to pytest, and what an item asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.errors import describe_full_disk
from pytest_mlperf.core.types import BOUNDED
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.machine.lease import DeviceHeld
from pytest_mlperf.machine.lease import LeaseError
from pytest_mlperf.measure.placement import Placement
from pytest_mlperf.measure.placement import place
from pytest_mlperf.measure.session import MeasureSession
from pytest_mlperf.plugin.collection import cell_of
from pytest_mlperf.plugin.collection import devices_of
from pytest_mlperf.plugin.collection import mode_of
from pytest_mlperf.runner.runner import RunFailed

SPREAD = (Scenario.OFFLINE, *BOUNDED)
"""Scenarios that can use several devices; a stream waits for each of its answers."""
FAILURES = (RunFailed, RunRefused, BuildFailed, DeviceHeld, LeaseError)


@contextmanager
def as_outcomes() -> Iterator[None]:
    """Skip for what this machine lacks; fail with the cause alone where a run did.

    In a fixture a failure is an error in set-up.
    """
    __tracebackhide__ = True
    try:
        yield
    except RequirementMissing as missing:
        pytest.skip(str(missing))
    except FAILURES as failed:
        # Not pytest.fail(), whose report would show the handled error again.
        raise pytest.fail.Exception(str(failed), pytrace=False) from None
    except OSError as error:
        if full := describe_full_disk(error):
            raise pytest.fail.Exception(full, pytrace=False) from None
        raise


def require_mode(item: pytest.Item) -> Mode:
    """Return what an item's mark says is to be measured; fails the item without it."""
    if mode := mode_of(item):
        return Mode(mode)
    pytest.fail(
        f"{item.nodeid}: measuring needs to know what to measure; mark the test "
        "@pytest.mark.mlperf(mode='performance')",
        pytrace=False,
    )


def require_cell(item: pytest.Item) -> Cell:
    """Return the item's cell; fails the item that has none."""
    if cell := cell_of(item):
        return cell
    pytest.fail(
        f"{item.nodeid}: its fixtures are about a cell, but the test has none; mark it "
        "@pytest.mark.mlperf(mode='performance') and ask for 'cell'",
        pytrace=False,
    )


def place_item(session: MeasureSession, item: pytest.Item | None) -> Placement | None:
    """Return the devices that an item takes; None for anybody else's item.

    Raises ``RunRefused`` where the machine has fewer.
    """
    cell = cell_of(item) if item else None
    if item is None or cell is None:
        return None
    placement = place(session, devices_of(item, session.options))
    return placement if cell.scenario in SPREAD else placement.single
