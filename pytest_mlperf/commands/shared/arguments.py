"""Types of arguments that several commands have."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pytest_mlperf.config import option_types
from pytest_mlperf.config import share

Parsed = TypeVar("Parsed")


def as_argument(parse: Callable[[str], Parsed]) -> Callable[[str], Parsed]:
    """Return an option's parser as argparse takes one: its refusal has the reason."""

    def parse_argument(text: str) -> Parsed:
        try:
            return parse(text)
        except ValueError as error:
            message = f"{text!r}, but should be {error}"
            raise argparse.ArgumentTypeError(message) from None

    return parse_argument


parse_round = as_argument(option_types.parse_round)
"""A round's name; ``6.1`` is v6.1."""
parse_count = as_argument(option_types.parse_whole)
"""A whole number from 1 on."""
parse_number = as_argument(option_types.parse_number)
"""A number above 0."""
parse_share = as_argument(share.parse_share)
"""A share of an earlier speed."""


def add_workload_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which model and data are meant, and where the official ones lie."""
    parser.add_argument(
        "--workload", default="embedded", metavar="KIND",
        choices=("embedded", "official", "generated"),
        help="embedded (default), official or generated",
    )  # fmt: skip
    parser.add_argument(
        "--scratch", type=Path, metavar="DIR", help="folder of the official files",
        default=os.environ.get("MLPERF_SCRATCH_PATH"),
    )  # fmt: skip


def name_own_options(error: Exception) -> str:
    """Return an error's text with these arguments as a command has them: pytest's
    options of the same meaning have a prefix.
    """
    text = str(error)
    for name in ("scratch", "workload", "cache"):
        text = text.replace(f"--mlperf-{name}", f"--{name}")
    return text
