"""The plugin's options on a command that measures without pytest."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from pytest_mlperf.api import registry
from pytest_mlperf.config.option_specs import SPECS
from pytest_mlperf.config.option_types import suggest
from pytest_mlperf.config.options import Given
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.measure.cells import find_cells

LEFT_OUT = (
    "rehearsal", "compliance", "mode", "require", "export", "compare", "fail_below",
    "submission", "tree", "division", "category", "checker", "find_peak", "retarget",
    "save", "label", "repeat", "repeat_rule",
)  # fmt: skip
"""Options of a session of items."""


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add every option that a run has, spelt as pytest's."""
    group = parser.add_argument_group("options of the runs, as pytest has them")
    for spec in SPECS.values():
        if spec.name in LEFT_OUT:
            continue
        if spec.is_switch:
            group.add_argument(
                spec.flag, dest=spec.dest, action="store_const", const="true",
                help=spec.help,
            )  # fmt: skip
        else:
            group.add_argument(
                spec.flag, dest=spec.dest, metavar=spec.metavar, help=spec.help,
                action="append" if spec.repeats else "store",
            )  # fmt: skip


def read_run_options(
    arguments: argparse.Namespace, more: Mapping[str, str] | None = None
) -> Options:
    """Return the options that were given; ``ValueError`` says what to change.

    ``more``: name -> text of options from elsewhere, which count more.
    """
    given: dict[str, Given] = {}
    for name, spec in SPECS.items():
        value = getattr(arguments, spec.dest, None)
        if value is not None:
            text = ",".join(value) if isinstance(value, list) else value
            given[name] = Given(text, spec.flag, is_typed=True)
    for name, text in (more or {}).items():
        if name not in SPECS or name in LEFT_OUT:
            legal = [one for one in SPECS if one not in LEFT_OUT]
            raise ValueError(f"no run has the option {name}.{suggest(name, legal)}")
        given[name] = Given(text, f"{name} in the grid's file", is_typed=True)
    here, installed = Path.cwd(), registry.benchmark_names()
    return Options.from_given(given, here=here, root=here, installed=installed)


def find_cell(options: Options, wanted: str) -> Cell:
    """Return the cell of an id, or of its beginning: ``bert-99-server``.

    ``ValueError`` names what there is instead.
    """
    cells = {cell.id: cell for cell in find_cells(options)}
    wanted = wanted.lower().replace(" ", "-")
    found = [cell for name, cell in cells.items() if name.startswith(wanted)]
    if wanted in cells:
        return cells[wanted]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(cell.id for cell in found)
        raise ValueError(f"cell {wanted!r} may be {names}; name one of them")
    raise ValueError(
        f"cell {wanted!r}, but should be the id of an item, such as "
        f"bert-99-server-onnxruntime.{suggest(wanted, cells)} pytest --collect-only -q "
        "lists them"
    )
