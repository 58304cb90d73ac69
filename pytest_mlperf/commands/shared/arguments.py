"""Types of arguments that several commands have."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pytest_mlperf.config import option_types
from pytest_mlperf.config import share
from pytest_mlperf.config.option_types import parse_whole


def parse_round(text: str) -> str:
    """Return a round's name; ``6.1`` is v6.1."""
    try:
        return option_types.parse_round(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}, but should be {error}") from None


def parse_count(text: str) -> int:
    """Return a whole number from 1 on."""
    try:
        return parse_whole(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}, but should be {error}") from None


def parse_number(text: str) -> float:
    """Return a number above 0."""
    try:
        return option_types.parse_number(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}, but should be {error}") from None


def parse_share(text: str) -> float:
    """Return a share of an earlier speed."""
    try:
        return share.parse_share(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}, but should be {error}") from None


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
