"""``pytest-mlperf COMMAND``: work that is not a test."""

from __future__ import annotations

import argparse
import os
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol
from typing import cast

from pytest_mlperf import commands
from pytest_mlperf.commands.shared.output import describe_os_error
from pytest_mlperf.commands.shared.output import print_text
from pytest_mlperf.commands.shared.parser import CommandParser

IMPOSSIBLE = 2
"""A file cannot be read or written."""
INTERRUPTED = 130
"""What a shell expects of a command that Ctrl-C ended."""


class Command(Protocol):
    """What a module of ``commands`` has."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


class _VersionAction(argparse.Action):
    """Prints the version; looked up when asked for, which takes a tenth of a second."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"pytest-mlperf {version('pytest-mlperf')}\n")
        parser.exit()


def list_commands() -> list[str]:
    """Return the names of all commands, in order, without importing them."""
    own = __name__.rpartition(".")[2]
    modules = pkgutil.iter_modules(commands.__path__)
    return sorted(m.name for m in modules if not m.ispkg and m.name != own)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; 2 for invalid arguments.

    Without any word the commands are listed.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return run_command(words)
    except KeyboardInterrupt:  # also while the command is imported
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough; Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # A folder that is none, a full disk: the user's to mend, whoever met it.
        command = " ".join(["pytest-mlperf", *words[:1]])
        print_text(f"{command}: {describe_os_error(error)}", error=True)
        return IMPOSSIBLE


def run_command(words: Sequence[str]) -> int:
    """Import, parse and run the command of these words; return its exit code."""
    names = list_commands()
    if words and words[0] in names:
        names = [words[0]]  # the imports of other commands would only cost time
    parser, modules = make_parser(names)
    if not words:
        parser.print_help()
        return 0
    arguments = parser.parse_args(words)
    return modules[arguments.command].run(arguments)


def make_parser(
    names: Sequence[str],
) -> tuple[argparse.ArgumentParser, dict[str, Command]]:
    """Return the parser of these commands, and name -> command."""
    parser = CommandParser(
        "pytest-mlperf",
        description="Work that is not a test.",
        epilog="COMMAND --help has its options, examples and exit statuses.",
    )
    parser.add_argument("--version", action=_VersionAction)
    actions = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    modules = {}
    for name in names:
        module = cast("Command", import_module(f"{commands.__name__}.{name}"))
        module.add_arguments(
            actions.add_parser(name, help=module.HELP, description=module.HELP)
        )
        modules[name] = module
    return parser, modules
