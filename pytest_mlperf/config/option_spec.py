"""How one option is declared: a field with its ``OptionSpec``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from pytest_mlperf.config.option_types import parse_switch


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """How an option is registered and read."""

    parse: Callable[[str], Any]
    """Raises ``ValueError`` whose text completes "but should be …"."""
    metavar: str
    """Empty for a switch."""
    help: str
    repeats: bool = False
    """May be given several times; the texts are joined by commas."""
    environment: str = ""
    """Variable that counts where neither option nor ini value is given."""
    name: str = ""

    @property
    def flag(self) -> str:
        return f"--mlperf-{self.name.replace('_', '-')}"

    @property
    def dest(self) -> str:
        """Name in pytest's namespace, and of the ini twin."""
        return f"mlperf_{self.name}"

    @property
    def is_switch(self) -> bool:
        return not self.metavar


def option(
    parse: Callable[[str], Any],
    metavar: str,
    help: str,  # noqa: A002 - argparse's own word
    *,
    default: Any = None,
    unset: str = "",
    repeats: bool = False,
    environment: str = "",
) -> Any:
    """Return the field of an option; ``unset`` tells what holds where it is not given
    and no default says it.
    """
    if isinstance(default, float) and not unset:
        unset = f"{default:g}"
    full = f"{help} (default: {unset or default})" if unset or default else help
    spec = OptionSpec(parse, metavar, full, repeats, environment)
    return field(default=default, metadata={"spec": spec})


def switch(help: str) -> Any:  # noqa: A002 - argparse's own word
    """Return the field of an option that is on or off."""
    return field(default=False, metadata={"spec": OptionSpec(parse_switch, "", help)})
