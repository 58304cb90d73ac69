"""``pytest-mlperf tune precision CELL``: which precisions keep the accuracy target."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_mlperf.commands.shared.run_options import find_cell
from pytest_mlperf.commands.shared.run_options import read_run_options
from pytest_mlperf.commands.tuning.measuring import Measuring
from pytest_mlperf.commands.tuning.measuring import open_measuring
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.paired_scores import KEPT
from pytest_mlperf.core.paired_scores import OPEN
from pytest_mlperf.core.paired_scores import PairedScores
from pytest_mlperf.measure.precision_answers import PrecisionAnswers
from pytest_mlperf.measure.precision_answers import PrecisionRuns
from pytest_mlperf.measure.tuned_system import write_system_file

FOUND, NOT_FOUND = 0, 1
"""Exit codes: one keeps the target; none is shown to."""
REFERENCE = "fp32"


def run(arguments: argparse.Namespace) -> int:
    """Answer all questions in each precision, print the comparison, return the code."""
    if arguments.write and arguments.write.exists():
        raise ValueError(f"--write {arguments.write} exists; name a new file")
    precisions = read_precisions(arguments)
    options = read_run_options(arguments)
    if options.precision:
        raise ValueError("--mlperf-precision is what is compared: --precisions")
    cell = find_cell(options, "-".join(arguments.cell))
    with open_measuring(options) as measuring:
        return compare(arguments, measuring, cell, precisions)


def read_precisions(arguments: argparse.Namespace) -> list[str]:
    """Return the precisions of ``--precisions``; ``ValueError`` where there is none."""
    names = [name.strip() for name in arguments.precisions.split(",") if name.strip()]
    others = [name for name in dict.fromkeys(names) if name != REFERENCE]
    if not others:
        raise ValueError(
            f"--precisions {arguments.precisions!r}, but should name what is compared "
            f"with {REFERENCE}: fp8,fp16"
        )
    return others


def compare(
    arguments: argparse.Namespace,
    measuring: Measuring,
    cell: Cell,
    precisions: list[str],
) -> int:
    """Compare each precision with fp32, print a table and return the exit code."""
    share = cell.rule.accuracy[0].ratio
    runs = PrecisionRuns(measuring.rig, cell)

    options = {
        name: read_run_options(arguments, {"precision": name})
        for name in (REFERENCE, *precisions)
    }
    for one in options.values():  # a wrong one is said before anything runs
        runs.check(one)
    reference = runs.answer(options[REFERENCE])
    title = reference.title
    metric = cell.rule.accuracy[0].metric
    measuring.tell(
        f"{cell.id} on {title}: {len(reference.scores):,} questions, {metric} "
        f"of {REFERENCE} {reference.scores.mean():.3f}; the target is {share:.1%} of it"
    )
    kept = None
    for precision in precisions:
        answers = runs.answer(options[precision])
        paired = PairedScores.compare(
            answers.scores.tolist(), reference.scores.tolist()
        )
        measuring.tell(f"  {precision}: {describe(answers, paired, metric, share)}")
        if kept is None and paired.judge(share) == KEPT:
            kept = precision, paired
    if kept is None:
        measuring.tell(f"none is shown to keep {share:.1%}; the default stays")
        return NOT_FOUND
    measuring.tell(f"keeps {share:.1%}: {kept[0]}; use it with --mlperf-precision")
    if arguments.write:
        write(arguments.write, measuring, cell, kept[0], kept[1])
    return FOUND


def describe(
    answers: PrecisionAnswers, paired: PairedScores, metric: str, share: float
) -> str:
    """Return the line of a precision."""
    outcome = paired.judge(share)
    said = f"keeps {share:.1%}" if outcome == KEPT else f"does not keep {share:.1%}"
    if outcome == OPEN:
        needed = paired.questions_to_tell(share)
        more = "no number of questions" if needed is None else f"about {needed:,}"
        said = f"not decided: {more} would tell"
    return (
        f"{metric} {answers.scores.mean():.3f}, {paired.ratio:.2%} of {REFERENCE} "
        f"(95 %: {paired.low:.2%} to {paired.high:.2%}); {paired.better} answers "
        f"better, {paired.worse} worse; {said}"
    )


def write(
    path: Path, measuring: Measuring, cell: Cell, precision: str, paired: PairedScores
) -> None:
    """Write the system file that was asked for, with where it comes from."""
    how = (
        "tune precision",
        f"{precision} scores {paired.ratio:.3%} of {REFERENCE} on {paired.questions:,}",
        f"questions, 95 %: {paired.low:.3%} to {paired.high:.3%}",
    )
    write_system_file(
        path, measuring.session.system, cell, how, (("precision", precision),)
    )
    measuring.tell(f"written: {path}; see it used with --mlperf-system")
