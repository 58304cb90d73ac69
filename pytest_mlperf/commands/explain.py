"""``pytest-mlperf explain PATH…``: judge LoadGen's logs and say why."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from pytest_mlperf.commands.explanation import details
from pytest_mlperf.commands.explanation import table
from pytest_mlperf.commands.explanation.judging import judge_all
from pytest_mlperf.commands.explanation.judging import show_progress
from pytest_mlperf.commands.explanation.records import judge_as_recorded
from pytest_mlperf.commands.explanation.style import choose_width
from pytest_mlperf.commands.explanation.style import is_colored
from pytest_mlperf.commands.shared.arguments import parse_round
from pytest_mlperf.commands.shared.output import print_text
from pytest_mlperf.config import option_types
from pytest_mlperf.config.option_types import suggest
from pytest_mlperf.core import catalog
from pytest_mlperf.core import rounds
from pytest_mlperf.core.endpoints.judge import identify_run
from pytest_mlperf.core.logs.discover import FoundRun
from pytest_mlperf.core.logs.discover import add_benchmark
from pytest_mlperf.core.logs.discover import find_runs
from pytest_mlperf.core.rounds.names import resolve_benchmark
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

CODES = {"VALID": 0, "INVALID": 1, "ERROR": 2}
"""Exit codes; the highest of all runs is the command's."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """The user's choices; empty and None leave the decision to the path."""

    round: str = ""
    benchmark: str = ""
    scenario: Scenario | None = None


HELP = "judge LoadGen logs and say why; no LoadGen needed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH",
                        help="a run's folder, an accuracy folder, or a tree of "
                        "results: a submission or this suite's reports")  # fmt: skip
    parser.add_argument("--round", type=parse_round, metavar="ROUND",
                        help=f"judge by this round ({', '.join(rounds.ROUNDS)}); "
                        "otherwise the log's seeds decide")  # fmt: skip
    parser.add_argument("--benchmark", type=parse_benchmark, metavar="NAME",
                        help="judge every run as this benchmark, with its accuracy "
                        "target: bert-99; otherwise the path decides")  # fmt: skip
    parser.add_argument("--scenario", type=parse_scenario, metavar="NAME",
                        help="the scenario that every run stands for; otherwise the "
                        "path, or else the log, decides")  # fmt: skip
    parser.add_argument("--json", action="store_true",
                        help="print a JSON list with every check")  # fmt: skip


def parse_benchmark(text: str) -> str:
    """Return the name of a benchmark that some round knows, as it is spelled."""
    if resolve_benchmark(text) is None:
        legal = sorted(catalog.read_all())
        raise argparse.ArgumentTypeError(
            f"{text!r}, but should be one of {', '.join(legal)}.{suggest(text, legal)}"
        )
    return text


def parse_scenario(text: str) -> Scenario:
    """Return the scenario of any spelling."""
    try:
        return Scenario.parse(option_types.parse_scenario(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}, but should be {error}") from None


def run(arguments: argparse.Namespace) -> int:
    """Judge every run below the paths, print the verdicts and return the exit code."""
    overrides = Overrides(
        arguments.round or "", arguments.benchmark or "", arguments.scenario
    )
    found = find_all(arguments.paths)
    verdicts = judge_runs(found, overrides)
    if arguments.json:
        return print_json(verdicts)
    # Of one run every check is shown, of many what did not pass.
    shown = [v if len(found) == 1 else without_passed(v) for v in verdicts]
    print_text("\n".join(format_verdicts(shown, choose_width(), is_colored())))
    return max(CODES[verdict.outcome] for verdict in shown)


def print_json(verdicts: Iterable[Verdict]) -> int:
    """Print a list of records, each as it comes, and return the exit code."""
    code, before = 0, "["
    for verdict in verdicts:
        text = json.dumps(to_record(verdict), indent=1).replace("\n", "\n ")
        print_text(f"{before}\n {text}", end="")
        code, before = max(code, CODES[verdict.outcome]), ","
    print_text("\n]")
    return code


def without_passed(verdict: Verdict) -> Verdict:
    """Return a verdict without its passed checks, which a table does not show.

    One is left where there is no other: a verdict without checks is an error.
    """
    rest = tuple(c for c in verdict.checks if c.status is not Status.PASS)
    return replace(verdict, checks=rest or verdict.checks[:1])


def format_verdicts(
    verdicts: Sequence[Verdict], columns: int, color: bool
) -> list[str]:
    """Return the lines for people: one run in full, several as a table."""
    if len(verdicts) == 1:
        return list(details.format_run(verdicts[0], columns, color))
    fit = sys.stdout.isatty()
    return table.format_runs(verdicts, columns, color=color, fit=fit)


def find_all(paths: Iterable[Path]) -> list[FoundRun]:
    """Return every run below the paths, each once."""
    found = chain.from_iterable(find_runs(path) for path in paths)
    return list({one.path: one for one in found}.values())


def judge_runs(found: Sequence[FoundRun], overrides: Overrides) -> Iterator[Verdict]:
    """Return the runs' verdicts in their order, as they come."""
    judge = partial(judge_run, overrides=overrides)
    return show_progress(judge_all(found, judge), len(found))


def judge_run(found_run: FoundRun, overrides: Overrides) -> Verdict:
    """Return one run's verdict, in the context that a report of this suite recorded."""
    if overrides.scenario:
        found_run = replace(found_run, scenario=overrides.scenario)
    if overrides.benchmark:
        found_run = add_benchmark(found_run, overrides.benchmark)
    return judge_as_recorded(
        found_run, lambda name: identify_run(found_run, overrides.round or name)
    )


def to_record(verdict: Verdict) -> dict[str, Any]:
    """Return the JSON object that ``--json`` prints of a verdict."""
    checks = [asdict(check) for check in verdict.checks]
    for check in checks:
        check["status"] = check["status"].value
    return {
        "path": verdict.folder,
        "verdict": verdict.outcome,
        "benchmark": verdict.benchmark,
        "scenario": verdict.scenario,
        "round": verdict.round,
        "metric": asdict(verdict.metric) if verdict.metric else None,
        "checks": checks,
        "mode": verdict.mode,
        "inferred": verdict.inferred,
        "labels": list(verdict.labels),
        "expected_s": verdict.expected_s,
        "actual_s": verdict.actual_s,
        "facts": dict(verdict.facts),
    }
