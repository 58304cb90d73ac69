"""``pytest-mlperf tune``: a cell's largest load, settings and precision."""

from __future__ import annotations

import argparse
from types import ModuleType

from pytest_mlperf.commands.shared.output import describe_os_error
from pytest_mlperf.commands.shared.output import print_text

HELP = "find the largest load of a cell, its best settings, or its precision"
REFUSED = 2
"""Exit code for wrong arguments, or something that is missing."""


def list_actions() -> dict[str, ModuleType]:
    """Return the name of each action -> its module."""
    from pytest_mlperf.commands.tuning import grid
    from pytest_mlperf.commands.tuning import peak
    from pytest_mlperf.commands.tuning import precision
    from pytest_mlperf.commands.tuning import server

    return {"grid": grid, "peak": peak, "precision": precision, "server": server}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, module in list_actions().items():
        # argparse formats the one and not the other.
        text = module.HELP.replace("%%", "%")
        module.add_arguments(
            actions.add_parser(name, help=module.HELP, description=text)
        )


def run(arguments: argparse.Namespace) -> int:
    """Run an action and return its exit code."""
    from pytest_mlperf.commands.tuning.measuring import FAILURES

    try:
        code: int = list_actions()[arguments.action].run(arguments)
    except FAILURES as error:
        text = describe_os_error(error) if isinstance(error, OSError) else str(error)
        print_text(f"pytest-mlperf tune {arguments.action}: {text}", error=True)
        return REFUSED
    return code
