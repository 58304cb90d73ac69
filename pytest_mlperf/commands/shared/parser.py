"""The parser of every command: what its help and its refusals look like."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import NoReturn

from pytest_mlperf.commands.shared.examples import EXAMPLES
from pytest_mlperf.config.option_types import suggest

RUN_OPTION = "--mlperf-"
"""How the options of runs begin, which a usage line does not name each."""


class HelpFormatter(argparse.HelpFormatter):
    """Keeps the lines of an epilog, and names the options of runs once in the usage."""

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[Any],
        prefix: str | None = None,
    ) -> None:
        """Add the usage without its sixty lines of options that pytest has too."""
        kept, left_out = [], False
        for action in actions:
            is_run_option = any(s.startswith(RUN_OPTION) for s in action.option_strings)
            left_out = left_out or is_run_option
            kept += [] if is_run_option else [action]
        if left_out:
            flag = f"{RUN_OPTION}OPTION"
            kept.insert(1, argparse.Action([flag], flag, metavar="VALUE"))
        super().add_usage(usage, kept, groups, prefix)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        # What argparse's own formatters for raw text override too.
        if "\n" not in text:
            return super()._fill_text(text, width, indent)
        return "".join(f"{indent}{line}" for line in text.splitlines(keepends=True))


class CommandParser(argparse.ArgumentParser):
    """Refuses what it does not know, and says what was probably meant."""

    def __init__(self, prog: str | None = None, **options: Any) -> None:
        # pytest takes no abbreviation of an option either: a typo is no other option.
        super().__init__(
            prog, allow_abbrev=False, formatter_class=HelpFormatter, **options
        )
        # Of a command with actions, each action has its own.
        self.epilog = describe_use(self.prog.partition(" ")[2]) or self.epilog

    def parse_known_args(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        namespace: argparse.Namespace | None = None,
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse, and refuse an unknown option where its command is known."""
        found, rest = super().parse_known_args(args, namespace)
        if rest and self._subparsers is None:
            flags = [s for action in self._actions for s in action.option_strings]
            near = suggest(rest[0].partition("=")[0], flags)
            self.error(f"unrecognized arguments: {' '.join(rest)}.{near}")
        return found, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            near = suggest(str(value), map(str, action.choices or ()))
            raise argparse.ArgumentError(action, f"{error.message}.{near}") from None

    def error(self, message: str) -> NoReturn:
        """Print usage, error and where the rest stands; exit with 2."""
        super().error(f"{message.rstrip('.')}\n{self.prog} --help says more")


def describe_use(command: str) -> str | None:
    """Return examples and exit statuses of a command's help; None where it has none."""
    if command not in EXAMPLES:
        return None
    lines, statuses = EXAMPLES[command]
    examples = "".join(
        f"  pytest-mlperf {command} {line}".rstrip() + "\n" for line in lines
    )
    codes = "".join(f"  {line}\n" for line in statuses)
    return f"examples:\n{examples}\nexit status:\n{codes}"
