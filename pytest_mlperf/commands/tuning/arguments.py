"""The actions of ``pytest-mlperf tune``: what each is for, and its arguments.

Apart from what they do, so that help and a wrong argument need nothing that measures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.commands.shared.run_options import add_run_options


@dataclass(frozen=True, slots=True)
class TuneAction:
    """An action, which is the module of ``commands.tuning`` with its name."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]


def add_actions(parser: argparse.ArgumentParser) -> None:
    """Add every action, with the options of the runs that it makes."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, action in ACTIONS.items():
        # argparse formats the one and not the other.
        shown, text = action.help.replace("%", "%%"), action.help
        one = actions.add_parser(name, help=shown, description=text)
        action.add_arguments(one)
        add_run_options(one)


def add_grid_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tune grid``."""
    add_grid_file(parser, "docs/reference/tuning.md")
    parser.add_argument(
        "--again", action="store_true", help="begin anew, whatever the journal has"
    )
    parser.add_argument(
        "--exhaustive", action="store_true",
        help="run every combination as long as the last ones, to compare with",
    )  # fmt: skip
    add_write(parser, "the best settings")
    parser.add_argument(
        "--heat-map", type=Path, metavar="OUT.html",
        help="draw the results, two settings at a time, as one HTML file",
    )  # fmt: skip
    parser.add_argument(
        "--csv", type=Path, metavar="OUT.csv",
        help="write every run of the journal: its settings, seconds and figure",
    )  # fmt: skip
    parser.add_argument(
        "--sampler", choices=("tpe", "random"),
        help="let optuna choose what to try (the extra tune), for grids that are too "
        "large for halving",
    )  # fmt: skip
    parser.add_argument(
        "--trials", type=int, default=50, metavar="N",
        help="with --sampler: in all, of every machine (default 50)",
    )  # fmt: skip
    parser.add_argument(
        "--storage", metavar="WHERE",
        help="with --sampler: journal:FILE (default: beside FILE.toml), redis://… or "
        "postgresql://… for several machines",
    )  # fmt: skip


def add_peak_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tune peak``."""
    add_cell(parser, "bert-99-server")
    parser.add_argument(
        "--again", action="store_true", help="search, even where a peak is known"
    )
    add_noisy(parser)


def add_precision_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tune precision``."""
    add_cell(parser, "bert-99.9-offline")
    parser.add_argument(
        "--precisions", required=True, metavar="LIST",
        help="what to compare with fp32, the fastest first: fp8,fp16",
    )  # fmt: skip
    add_write(parser, "the first that keeps the target")


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tune server``."""
    add_grid_file(parser, "its first combination is where the search begins")
    parser.add_argument(
        "--again", action="store_true", help="search, whatever is known already"
    )
    add_noisy(parser)
    add_write(parser, "load and settings")


def add_cell(parser: argparse.ArgumentParser, example: str) -> None:
    parser.add_argument(
        "cell", metavar="CELL", nargs="+",
        help=f"id of an item, or its beginning: {example}",
    )  # fmt: skip


def add_grid_file(parser: argparse.ArgumentParser, note: str) -> None:
    parser.add_argument(
        "file", type=Path, metavar="FILE.toml", help=f"the grid; {note}"
    )


def add_noisy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--noisy", action="store_true",
        help="count trials that other programs disturbed too",
    )  # fmt: skip


def add_write(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--write", type=Path, metavar="SYSTEM.toml",
        help=f"write {what} as a new system file's [tuning]",
    )  # fmt: skip


ACTIONS = {
    "grid": TuneAction(
        "the best of many combinations of a cell's settings, by successive halving; a "
        "search that was killed goes on where it was",
        add_grid_arguments,
    ),
    "peak": TuneAction(
        "the largest VALID load of a Server or Interactive cell, by short runs and one "
        "of the whole length; of other scenarios, the rate or latency to expect",
        add_peak_arguments,
    ),
    "precision": TuneAction(
        "which of an engine's precisions keep a cell's accuracy target, question by "
        "question against fp32, with a 95 % interval",
        add_precision_arguments,
    ),
    "server": TuneAction(
        "the settings with the largest load of a Server or Interactive cell: its peak, "
        "the lowest latency at that load, and again until nothing changes",
        add_server_arguments,
    ),
}
