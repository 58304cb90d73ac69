"""Check a submission tree: the union of the official checkers' rules, and more.

Sources are named in each rule: the newest checker (mlcommons/inference b66003e1), the
stricter one of v5.1.1, and what neither looks at: validity, and that logs agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pytest_mlperf.core.submission.check import audits
from pytest_mlperf.core.submission.check import endpoints
from pytest_mlperf.core.submission.check import extras
from pytest_mlperf.core.submission.check import hygiene
from pytest_mlperf.core.submission.check import logs
from pytest_mlperf.core.submission.check import measurements
from pytest_mlperf.core.submission.check import nameplate
from pytest_mlperf.core.submission.check import power
from pytest_mlperf.core.submission.check import power_time
from pytest_mlperf.core.submission.check import scenarios
from pytest_mlperf.core.submission.check import sealed
from pytest_mlperf.core.submission.check import system
from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.submission.check.since import is_asked
from pytest_mlperf.core.submission.check.tree import Result
from pytest_mlperf.core.submission.check.tree import Tree
from pytest_mlperf.core.submission.check.tree import read_tree

__all__ = [
    "Problem",
    "Result",
    "Tree",
    "check_tree",
    "read_tree",
    "result_problems",
    "tree_problems",
]


def check_tree(
    root: Path,
    round_name: str | None = None,
    *,
    division: str | None = None,
    submitter: str | None = None,
) -> Iterator[Problem]:
    """Yield everything that is wrong with a submission tree.

    Never raises for what is in the tree; ``ValueError`` for an unknown round.
    """
    tree, problems = read_tree(root, round_name, division=division, submitter=submitter)
    yield from problems
    yield from tree_problems(tree)
    for result in tree.results:
        yield from result_problems(tree, result)


def tree_problems(tree: Tree) -> Iterator[Problem]:
    """Yield what is wrong with everything but the single results."""
    for problem in _tree_problems(tree):
        if is_asked(problem.rule, tree.round.name):
            yield problem


def _tree_problems(tree: Tree) -> Iterator[Problem]:
    yield from hygiene.tree_problems(tree)
    for home in tree.homes:
        yield from system.system_problems(tree, home)
        yield from nameplate.nameplate_problems(tree, home)
        yield from measurements.home_problems(tree, home)
        yield from scenarios.entry_problems(tree, home)
        yield from sealed.seal_problems(tree, home)


def result_problems(tree: Tree, result: Result) -> Iterator[Problem]:
    """Yield what is wrong with one result."""
    if endpoints.has_endpoints(tree, result):
        yield from endpoints.endpoints_problems(tree, result)
        yield from extras.example_problems(tree, result)
        yield from measurements.measurement_problems(tree, result, by_loadgen=False)
        yield from measurements.code_problems(tree, result)
        return
    run = str(tree.layout.performance(*result.names))
    with_power = power.has_power_logs(tree, result)
    yield from logs.performance_problems(tree, result, run, power=with_power)
    if with_power:
        yield from power_time.problems(tree, result)
    yield from logs.accuracy_problems(tree, result)
    yield from extras.example_problems(tree, result)
    yield from extras.network_problems(tree, result)
    yield from measurements.measurement_problems(tree, result)
    yield from measurements.code_problems(tree, result)
    yield from audits.audit_problems(tree, result)
