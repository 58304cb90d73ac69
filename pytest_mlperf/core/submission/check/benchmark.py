"""What the names of a result's folders mean, and which of them are official."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytest_mlperf.core import catalog
from pytest_mlperf.core import rounds
from pytest_mlperf.core.rounds.names import is_interactive
from pytest_mlperf.core.rounds.names import resolve_benchmark
from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.submission.check.problem import make_fault
from pytest_mlperf.core.submission.layout import folder_name
from pytest_mlperf.core.types import Scenario

name_rule = make_fault("benchmark_name")
scenario_rule = make_fault("scenario_name")


def parse_folders(
    model: str, scenario_name: str, round_name: str
) -> tuple[tuple[str, str] | None, Scenario | None]:
    """Return benchmark with target, and scenario; None for what is not known."""
    try:
        scenario: Scenario | None = Scenario.parse(scenario_name)
    except ValueError:
        scenario = None
    if is_interactive(model) and scenario is Scenario.SERVER:
        scenario = Scenario.INTERACTIVE
    return resolve_benchmark(model, round_name), scenario


def is_official(name: str, benchmark: tuple[str, str], round_name: str) -> bool:
    """True for a folder name that the round's official checker understands."""
    names = {folder_name(*benchmark, round_name)}
    names.add(folder_name(*benchmark, round_name, Scenario.INTERACTIVE))
    taken = catalog.get(benchmark[0]).checker_folders
    return name in names or bool(re.fullmatch(taken, name))


def name_problems(
    path: str,
    folder: str,
    benchmark: tuple[str, str] | None,
    round_name: str,
    *,
    strict: bool,
) -> Iterator[Problem]:
    """The benchmark is one of the round's (submission checker v5.1.1, closed)."""
    table = rounds.get(round_name)
    known = {(r.benchmark, r.target) for r in table.rules}
    if benchmark is None or benchmark not in known:
        names = ", ".join(sorted({folder_name(*pair, round_name) for pair in known}))
        remedy = f"rename the folder to one of {names}"
        if not strict:
            remedy = f"map {folder!r} to one in model_mapping.json: {names}"
        required = f"a benchmark of {round_name}"
        yield name_rule(path, repr(folder), required, remedy)
    elif strict and not is_official(folder, benchmark, round_name):
        required = folder_name(*benchmark, round_name)
        yield name_rule(path, repr(folder), required, f"rename it to {required}")


def scenario_problems(
    path: str, folder: str, scenario: Scenario | None, *, exact: bool
) -> Iterator[Problem]:
    """The folder has a scenario's name, and where ``exact`` as LoadGen spells it.

    Checker since v6.0, results.py: the published table takes another spelling for an
    inferred result. The one of v5.1 maps lower case.
    """
    legal = {member.value for member in Scenario}
    if scenario is None:
        remedy = f"rename or remove it; scenarios are {', '.join(sorted(legal))}"
        yield scenario_rule(path, repr(folder), "a scenario", remedy)
    elif folder not in legal and (exact or folder != folder.lower()):
        required = scenario.loadgen if folder.lower() == "server" else scenario.value
        remedy = f"rename it to {required}: other spellings are listed as inferred"
        yield scenario_rule(path, repr(folder), required, remedy)
