"""Which scenarios a benchmark's folder must and may hold.

Source: mlcommons/inference b66003e1, tools/submission/submission_checker/loader.py,
check_scenarios; v5.1.1 the same in check_results_dir. The open division is not held
to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from itertools import groupby

from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.submission.check.benchmark import name_problems
from pytest_mlperf.core.submission.check.benchmark import scenario_problems
from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.submission.check.problem import make_fault
from pytest_mlperf.core.submission.check.tree import Home
from pytest_mlperf.core.submission.check.tree import Result
from pytest_mlperf.core.submission.check.tree import Tree
from pytest_mlperf.core.submission.layout import scenario_folder
from pytest_mlperf.core.types import Scenario

CHOICE = (Scenario.SERVER, Scenario.INTERACTIVE)
"""One of them is required where both are optional."""

required_rule = make_fault("required_scenarios")
known_rule = make_fault("scenario")
stray_rule = make_fault("results")


def entry_problems(tree: Tree, home: Home) -> Iterator[Problem]:
    """Yield what is wrong with the names below results/, and what is missing."""
    listing = tree.listing
    top = f"{home.path}/results"
    for system in listing.folders(top):
        if not listing.folders(f"{top}/{system}"):
            remedy = "add its benchmarks, or remove it"
            path = f"{top}/{system}"
            yield stray_rule(path, "no benchmark", "folders of benchmarks", remedy)
        for folder in listing.folders(f"{top}/{system}"):
            path = f"{top}/{system}/{folder}"
            if not listing.folders(path):
                remedy = "add its scenarios, or remove it"
                required = "folders of scenarios"
                yield stray_rule(path, "no scenario", required, remedy)
    own = [r for r in tree.results if (r.division, r.org) == (home.division, home.org)]
    for _, group in groupby(own, lambda result: (result.system, result.folder)):
        yield from benchmark_problems(tree, list(group))


def benchmark_problems(tree: Tree, results: Sequence[Result]) -> Iterator[Problem]:
    """Yield what is wrong with one benchmark of one system."""
    first = results[0]
    path = first.path.rpartition("/")[0]
    name = tree.round.name
    own = first.benchmark
    yield from name_problems(path, first.folder, own, name, strict=first.is_strict)
    for result in results:
        folder, scenario = result.scenario_folder, result.scenario
        exact = tree.layout.together
        yield from scenario_problems(result.path, folder, scenario, exact=exact)
    category = tree.category(first)
    rules = [r for r in tree.round.rules if (r.benchmark, r.target) == own]
    if not first.is_strict or category is None or not rules:
        return
    have = {result.scenario for result in results if result.scenario}
    yield from scenario_set_problems(path, category, rules, have, name)


def scenario_set_problems(
    path: str, category: str, rules: Sequence[Rule], have: set[Scenario], name: str
) -> Iterator[Problem]:
    """The scenarios are those of the system's category: none missing, none unknown."""
    kind = category.replace("_", ",")
    legal = {r.scenario for r in rules if category in r.categories}
    required = {r.scenario for r in rules if category in r.required_in}
    if not legal:
        model = rules[0].model
        categories = sorted({c for r in rules for c in r.categories})
        shown = f"{model} on a system of type {kind!r}"
        wanted = f"one of {', '.join(categories)}".replace("_", ",")
        remedy = f"remove it, or correct system_type: {name} has it there alone"
        yield known_rule(path, shown, wanted, remedy)
        return
    for scenario in sorted(have - legal, key=lambda s: s.value):
        wanted = ", ".join(sorted(s.value for s in legal))
        remedy = f"remove it: {name} does not have it for {kind}"
        folder = f"{path}/{scenario_folder(scenario, name)}"
        yield known_rule(folder, scenario.value, f"one of {wanted}", remedy)
    for scenario in sorted(required - have, key=lambda s: s.value):
        folder = f"{path}/{scenario_folder(scenario, name)}"
        shown = f"no {scenario.value}"
        wanted = f"{scenario.value}, which {name} requires for {kind}"
        remedy = "run it and add the result, or remove the benchmark"
        yield required_rule(folder, shown, wanted, remedy)
    if set(CHOICE) <= legal - required and not have & set(CHOICE):
        wanted = "one of Server and Interactive"
        remedy = "run one of them and add the result"
        yield required_rule(path, "neither Server nor Interactive", wanted, remedy)
