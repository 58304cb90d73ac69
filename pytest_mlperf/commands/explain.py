"""``pytest-mlperf explain PATH…``: judge LoadGen's logs and say why."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_mlperf.commands import explain_table
from pytest_mlperf.commands import explain_text
from pytest_mlperf.commands.explain_records import as_recorded
from pytest_mlperf.core import catalog
from pytest_mlperf.core import rounds
from pytest_mlperf.core.judge.identify import appraise
from pytest_mlperf.core.logs.discover import Place
from pytest_mlperf.core.logs.discover import find
from pytest_mlperf.core.logs.discover import named
from pytest_mlperf.core.rounds.names import canonical
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Verdict

CODES = {"VALID": 0, "INVALID": 1, "ERROR": 2}
"""Exit codes; the highest of all runs is the command's."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the user says instead of the path; empty and None leave it to the path."""

    round: str = ""
    benchmark: str = ""
    scenario: Scenario | None = None


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH",
                        help="a run's folder, an accuracy folder, or a tree of "
                        "results: a submission or this suite's reports")  # fmt: skip
    parser.add_argument("--round", type=a_round, metavar="ROUND",
                        help=f"judge by this round ({', '.join(rounds.ROUNDS)}); "
                        "otherwise the log's seeds tell")  # fmt: skip
    parser.add_argument("--benchmark", type=a_benchmark, metavar="NAME",
                        help="judge every run as this benchmark, with its accuracy "
                        "target: bert-99; otherwise the path tells")  # fmt: skip
    parser.add_argument("--scenario", type=a_scenario, metavar="NAME",
                        help="the scenario that every run stands for; otherwise the "
                        "path, or else the log, tells")  # fmt: skip
    parser.add_argument("--json", action="store_true",
                        help="print a JSON list with every check")  # fmt: skip


def a_round(text: str) -> str:
    """Return a round's name; ``6.1`` is v6.1."""
    name = text if text.startswith("v") else f"v{text}"
    try:
        return rounds.get(name).name
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def a_benchmark(text: str) -> str:
    """Return a benchmark's name if any round knows it, in whatever spelling."""
    if canonical(text) is None:
        legal = ", ".join(catalog.read_all())
        raise argparse.ArgumentTypeError(f"{text!r} is no benchmark; legal: {legal}")
    return text


def a_scenario(text: str) -> Scenario:
    """Return the scenario of any spelling."""
    try:
        return Scenario.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(arguments: argparse.Namespace) -> int:
    """Judge every run below the paths, print what was found, return the exit code."""
    given = Overrides(
        arguments.round or "", arguments.benchmark or "", arguments.scenario
    )
    verdicts = list(judged(arguments.paths, given))
    if arguments.json:
        write(json.dumps([record(verdict) for verdict in verdicts], indent=1))
    else:
        write("\n".join(told(verdicts, explain_text.width(), coloured())))
    return max(CODES[verdict.outcome] for verdict in verdicts)


def told(verdicts: Sequence[Verdict], columns: int, colour: bool) -> list[str]:
    """Return the lines for people: one run in full, several as a table."""
    if len(verdicts) == 1:
        return list(explain_text.one(verdicts[0], columns, colour))
    fit = sys.stdout.isatty()
    return explain_table.many(verdicts, columns, colour=colour, fit=fit)


def coloured() -> bool:
    """True on a terminal that shows colours and whose user wants them."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and sys.stdout.isatty()


def judged(paths: Sequence[Path], given: Overrides) -> Iterator[Verdict]:
    """Yield the verdict of every run below the paths; a run named twice comes once."""
    seen = set()
    for path in paths:
        for place in find(path):
            if place.path not in seen:
                seen.add(place.path)
                yield verdict_of(place, given)


def verdict_of(place: Place, given: Overrides) -> Verdict:
    """Return one run's verdict, in the context that a report of ours recorded."""
    if given.scenario:
        place = replace(place, scenario=given.scenario)
    if given.benchmark:
        place = named(place, given.benchmark)
    return as_recorded(place, lambda name: appraise(place, given.round or name))


def record(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as the JSON object that is printed of it."""
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


def write(text: str) -> None:
    """Print, whatever the terminal can show of it."""
    data = text.encode(sys.stdout.encoding or "ascii", "backslashreplace")
    sys.stdout.write(data.decode(sys.stdout.encoding or "ascii") + "\n")
    sys.stdout.flush()
