"""What is left of a session's items, and why nothing is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field

import pytest

from pytest_mlperf.api import registry
from pytest_mlperf.config.option_types import suggest
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.measure.cells import find_cells
from pytest_mlperf.measure.cells import installed_benchmarks
from pytest_mlperf.plugin import collection
from pytest_mlperf.plugin import item_order
from pytest_mlperf.plugin.mark_arguments import MARK_ARGUMENTS
from pytest_mlperf.plugin.mark_arguments import refuse_unknown_arguments
from pytest_mlperf.plugin.options import refuse_unused_aliases

EMPTY = "mlperf_empty_selection"
"""What a worker tells its controller where nothing is left."""


@dataclass(slots=True)
class Selection:
    """What one process of a session selects from the mlperf items that there are."""

    hides_audits: bool = False
    """True when compliance tests were left out, because no option asks for them."""
    has_audits_alone: bool = False
    """True when there was nothing else."""
    is_refused: bool = False
    """True when an option's value was refused while collecting; of a worker of xdist
    its controller does not know."""
    is_empty: bool = False
    """True when there were mlperf items and none is left."""
    names: set[str] = field(default_factory=set)
    """What -k and -m can find in the items that there were, where none is left."""

    def hide_audit(self, function: object, options: Options) -> bool:
        """Return whether to leave a function out as a compliance test, and note it."""
        is_hidden = is_hidden_audit(function, options)
        self.hides_audits = self.hides_audits or is_hidden
        return is_hidden

    def note_refusal(self, text: str) -> None:
        """Note what was refused while collecting: an option's value, or the code of a
        suite, which is an error as pytest has them.
        """
        self.is_refused = self.is_refused or text.startswith("--mlperf-")

    def choose_status(self, exitstatus: int) -> int:
        """Return the exit status of an option that was refused while collecting: pytest
        calls that interrupted, as it does Ctrl-C.
        """
        if self.is_refused and exitstatus == pytest.ExitCode.INTERRUPTED:
            return int(pytest.ExitCode.USAGE_ERROR)
        return exitstatus

    @contextmanager
    def narrow(
        self, session: pytest.Session, items: list[pytest.Item], options: Options
    ) -> Iterator[None]:
        """Deselect and sort items before the block; see after it what other plugins
        left, and in what order.
        """
        config, has_cells = session.config, any(map(is_mlperf, items))
        self.has_audits_alone = (
            self.hides_audits and not has_cells and not session.testsfailed
        )
        is_worker = hasattr(config, "workeroutput")
        if not (has_cells or self.hides_audits or is_worker or session.testsfailed):
            refuse_unused_aliases(config)
        deselect(config, items, options)
        item_order.sort_items(items)
        before = list(items)
        yield
        item_order.regroup_items(items)
        self.is_empty = (has_cells or self.has_audits_alone) and not items
        if self.is_empty:
            self.names = {
                w.lower() for item in before for w in item.listextrakeywords()
            }
        if self.is_empty and is_worker:
            config.workeroutput[EMPTY] = True  # type: ignore[attr-defined]


def is_hidden_audit(function: object, options: Options) -> bool:
    """Return whether a function is a compliance test of a session without them."""
    modes = [
        mark.kwargs.get("mode")
        for mark in getattr(function, "pytestmark", ())
        if getattr(mark, "name", "") == "mlperf"
    ]
    return Mode.COMPLIANCE.value in modes and not options.has_compliance


def list_absent(options: Options) -> list[str]:
    """Return the benchmark x scenario pairs that no round has: ``bert interactive``."""
    every = find_cells(options.without_selections())
    present = {(c.benchmark, c.scenario) for c in every}
    return [
        f"{name} {scenario.slug}"
        for name in sorted(installed_benchmarks())
        for scenario in Scenario
        if (name, scenario) not in present
    ]


def _known_words(options: Options) -> list[str]:
    """Return the words that items' names, and the expressions for them, consist of."""
    cells = find_cells(options.without_selections())
    benchmarks = sorted({cell.benchmark for cell in cells} | installed_benchmarks())
    scenarios = [scenario.slug for scenario in Scenario]
    modes = [mode.value for mode in Mode]
    engines = registry.names("engine")
    words = ["and", "or", "not", "mlperf", *MARK_ARGUMENTS]
    return [*words, *benchmarks, *scenarios, *modes, *engines]


def explain_empty(
    options: Options, typed: str = "", expression: str = "", names: Iterable[str] = ()
) -> str:
    """Return one line for a selection that matched no cell.

    ``typed`` is the whole command, ``expression`` what stands behind -k and -m.
    ``names``: the words of the items that were there.
    """
    words = ("compliance", *collection.list_audits())
    if not options.has_compliance and any(w.lower() in typed.lower() for w in words):
        return (
            "mlperf: nothing selected; compliance tests are collected with "
            "--mlperf-compliance, a closed --mlperf-submission or --mlperf-rehearsal: "
            "add one"
        )
    if problem := find_mark_problem(expression, options):
        return f"mlperf: nothing selected; {problem}"
    known = _known_words(options)
    for word in re.findall(r"[\w.-]+", expression.lower()):
        if not any(word in name for name in (*known, *names)):
            near = suggest(word, known) or " pytest --collect-only -q lists all items"
            return f"mlperf: nothing selected; no item is named {word!r}.{near}"
    by = f" by {' '.join(options.selections)}" if options.selections else ""
    asked = f"{expression} {' '.join(options.selections)}".lower()
    # Of a benchmark and a scenario that were both asked for.
    pairs = [
        pair for pair in list_absent(options) if all(w in asked for w in pair.split())
    ]
    if not pairs:
        return (
            f"mlperf: nothing selected{by}; what was typed together leaves no item. "
            "pytest --collect-only -q lists all items"
        )
    rules = f"round {options.round}" if options.round else "no round"
    verb = "does not have" if options.round else "has"
    return f"mlperf: nothing selected{by}; {rules} {verb}: {', '.join(pairs)}"


def find_mark_problem(expression: str, options: Options) -> str:
    """Return what is wrong with the arguments of a mark in -m: the name of one, or a
    value that no item has; empty where nothing is.
    """
    for inside in re.findall(r"\bmlperf\(([^)]*)\)", expression):
        asked = dict(re.findall(r"""(\w+)\s*=\s*["']([^"']*)["']""", inside))
        try:
            refuse_unknown_arguments(
                asked, "-m", options, (collection.DEVICES,), collection.list_audits()
            )
        except pytest.UsageError as error:
            return str(error)
    return ""


def is_mlperf(item: pytest.Item) -> bool:
    """Return whether an item asks for a cell, also where no cell is left for it."""
    found = getattr(item, "callspec", None)
    return bool(found and "cell" in found.params and collection.mode_of(item))


def deselect(config: pytest.Config, items: list[pytest.Item], options: Options) -> None:
    """Take away the items that the options do not select."""
    if not options.selections:
        return
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        is_selected = not is_mlperf(item) or (
            collection.cell_of(item) is not None
            and options.selects_mode(Mode(collection.mode_of(item)))
        )
        (kept if is_selected else dropped).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept
