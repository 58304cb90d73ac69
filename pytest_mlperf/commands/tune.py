"""``pytest-mlperf tune``: a cell's largest load, settings and precision."""

from __future__ import annotations

import argparse
from importlib import import_module

from pytest_mlperf.commands.shared.output import describe_os_error
from pytest_mlperf.commands.shared.output import print_text
from pytest_mlperf.commands.tuning.arguments import add_actions

HELP = "find the largest load of a cell, its best settings, or its precision"
REFUSED = 2
"""Exit code for wrong arguments, or something that is missing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_actions(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run an action and return its exit code."""
    # Imported here: its help needs nothing that measures.
    from pytest_mlperf.commands import tuning
    from pytest_mlperf.commands.tuning.measuring import FAILURES

    try:
        action = import_module(f"{tuning.__name__}.{arguments.action}")
        code: int = action.run(arguments)
    except FAILURES as error:
        text = describe_os_error(error) if isinstance(error, OSError) else str(error)
        print_text(f"pytest-mlperf tune {arguments.action}: {text}", error=True)
        return REFUSED
    return code
