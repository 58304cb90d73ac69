"""An item's reports of set-up, call and teardown become its record."""

from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_mlperf.config.options import Options
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.redaction import redact_values
from pytest_mlperf.core.session_results import INTERRUPTED
from pytest_mlperf.core.session_results import SET_UP
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.cells import known_cells
from pytest_mlperf.plugin import collection
from pytest_mlperf.reporting import junit

CELL_KEY = "mlperf.cell"
"""The item's property that says what it runs, whether or not it gets a verdict."""
DescribeCell = Callable[[str], dict[str, str]]


def note_cell(item: pytest.Item, cell: Cell) -> None:
    """Say in an item's properties what it runs, whatever becomes of it.

    Those of an earlier attempt at it (pytest-rerunfailures) go.
    """
    mode, audit = collection.mode_of(item), collection.audit_of(item)
    text = json.dumps(collection.describe(cell, mode, audit))
    others = [x for x in item.user_properties if x[0].partition(".")[0] != junit.KEY]
    own = [(CELL_KEY, text), *junit.list_item(cell, mode)]
    item.user_properties[:] = [*others, *own]


def require_measured(item: pytest.Item) -> None:
    """Fail an mlperf item whose test has ended without a verdict; a bare engine, which
    no rule judges, needs none.
    """
    mode = collection.mode_of(item)
    if collection.cell_of(item) is None or mode == Mode.BARE.value:
        return
    if any(key == junit.KEY for key, _ in item.user_properties):
        return
    call = "measure(cell, audit)" if collection.audit_of(item) else "measure(cell)"
    raise pytest.fail.Exception(
        f"{item.nodeid}: the test has ended and nothing was measured, but its mark has "
        f"mode={mode!r}, so it should measure a run; ask for the fixture 'measure' and "
        f"call {call} in it, or write mode='bare' for a test of the engine alone",
        pytrace=False,
    )


def describe_cell(nodeid: str, options: Options) -> dict[str, str]:
    """Return what an item runs, as far as its id tells; empty for others' items."""
    cell = collection.find_cell_in(nodeid, known_cells(options))
    if cell is None:
        return {}
    mode, audit = collection.mode_in(nodeid), collection.audit_in(nodeid)
    return collection.describe(cell, mode, audit)


class RecordCollector:
    """The phases of items that run; a record of each that ends.

    ``describe_cell`` reads the cell of a crashed worker's item out of its node id: such
    a report carries no properties.
    """

    def __init__(self, describe_cell: DescribeCell) -> None:
        self._describe_cell = describe_cell
        self._phases: dict[str, list[pytest.TestReport]] = {}

    def begin(self, nodeid: str) -> None:
        """Note an item, which has no phase yet when an interrupt ends its set-up."""
        self._phases[nodeid] = []

    def add(self, report: pytest.TestReport) -> Record | None:
        """Take one phase; return the record with the last one of an mlperf item."""
        self._phases.setdefault(report.nodeid, []).append(report)
        if report.when != "teardown" and not is_crash(report):
            return None
        phases = self._phases.pop(report.nodeid)
        return make_record(report.nodeid, phases, self._describe_cell, has_ended=True)

    def drain(self) -> Iterator[Record]:
        """Yield the records of items that have begun and will not end."""
        for nodeid, phases in self._phases.items():
            record = make_record(nodeid, phases, self._describe_cell, has_ended=False)
            if record is not None:
                yield record
        self._phases = {}


def make_record(
    nodeid: str,
    phases: list[pytest.TestReport],
    describe_cell: DescribeCell,
    *,
    has_ended: bool,
) -> Record | None:
    """Return one record of an item's phases; None for anybody else's item."""
    properties = {key: value for p in phases for key, value in p.user_properties}
    cell: dict[str, Any] = json.loads(str(properties.get(CELL_KEY, "{}")))
    if not cell and (not phases or is_crash(phases[-1])):
        cell = describe_cell(nodeid)
    if not cell:
        return None
    verdict = properties.get(junit.KEY)
    blamed = next((p for p in phases if not p.passed), None)
    outcome = "passed" if any(p.when == "call" for p in phases) else SET_UP
    outcome = outcome if has_ended else INTERRUPTED
    return Record(
        nodeid=nodeid,
        outcome=name_outcome(blamed) if blamed else outcome,
        cell=cell,
        verdict=Verdict.from_json(str(verdict)) if verdict else None,
        reason=read_reason(blamed) if blamed else "",
        seconds=round(sum(p.duration for p in phases), 3),
    )


def redact_report(report: pytest.TestReport) -> None:
    """Hide the secrets in what a report shows; its properties have none."""
    report.longrepr = redact_values(report.longrepr)
    report.sections = redact_values(report.sections)


def is_crash(report: pytest.TestReport) -> bool:
    """Return whether this is xdist's report of an item that ended its worker."""
    return report.when not in ("setup", "call", "teardown")


def name_outcome(blamed: pytest.TestReport) -> str:
    """Return pytest's word for an item by the phase that did not pass."""
    if hasattr(blamed, "wasxfail"):
        return "xfailed" if blamed.skipped else "xpassed"
    if blamed.skipped:
        return "skipped"
    return "failed" if blamed.when == "call" else "error"


def read_reason(blamed: pytest.TestReport) -> str:
    """Return why a phase did not pass, as the user of ``pytest.fail`` wrote it."""
    if isinstance(blamed.longrepr, tuple):
        return blamed.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(blamed.longrepr, "reprcrash", None)
    text = str(crash.message if crash else blamed.longrepr)
    return text.removeprefix("Failed: ")
