"""``pytest-mlperf``: work that is not a test.

A command's module is imported when the command is used, so that the others' imports
cost nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "explain": "judge LoadGen logs and say why; no LoadGen needed",
    "machine": "what this machine is, and what would spoil a run on it",
    "submit": "check and pack a submission tree",
}
"""Name -> one line of help; the module of the same name is in ``commands``."""
INTERRUPTED = 130
"""What a shell expects of a command that Ctrl-C ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; 2 for arguments that are wrong."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        "pytest-mlperf", description=__doc__.split("\n")[0]
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in given if word in COMMANDS), None)
    for name, text in COMMANDS.items():
        added = commands.add_parser(name, help=text, description=text)
        if name == chosen:
            module = import_module(f"pytest_mlperf.commands.{name}")
            module.add(added)
    arguments = parser.parse_args(given)
    try:
        code: int = module.run(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough; Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code
