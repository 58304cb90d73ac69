"""Which cells there are: benchmarks x engines x what the rounds have."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence

from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.rounds import ROUNDS
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.rounds import get
from pytest_mlperf.core.types import Scenario

# One build answers all scenarios of a target, so that they stand together; Server is
# last, because its probe profits from what the others found.
ORDER = (
    Scenario.SINGLE_STREAM,
    Scenario.MULTI_STREAM,
    Scenario.OFFLINE,
    Scenario.SERVER,
    Scenario.INTERACTIVE,
)


def newest_rules(
    benchmarks: Iterable[tuple[str, Sequence[str]]],
    rounds: Sequence[str] | None = None,
) -> list[Rule]:
    """Return the rule of every combination: of the newest of ``rounds``, or of all
    rounds, that has it. A combination that none has is left out.

    ``benchmarks`` pairs a name with its accuracy targets (``[""]`` where there is
    one). Raises ``ValueError`` for an unknown round.
    """
    names = ROUNDS if rounds is None else tuple(rounds)
    tables = [get(name) for name in sorted(names, key=read_age, reverse=True)]
    rules = []
    for benchmark, targets in benchmarks:
        for target in targets:
            for scenario in ORDER:
                for table in tables:
                    if rule := table.find(benchmark, target, scenario):
                        rules.append(rule)
                        break
    return rules


def find_rehearsable(rules: Iterable[Rule]) -> set[str]:
    """Return the benchmarks that an oracle can answer: no rule of theirs counts or
    times tokens.
    """
    every = tuple(rules)
    timed = {r.benchmark for r in every if r.use_token_latencies or "token" in r.unit}
    return {rule.benchmark for rule in every} - timed


def read_age(name: str) -> int:
    """Return a round's place in time; ``get`` words the error for an unknown one."""
    get(name)
    return ROUNDS.index(name)


def build_key(cell: Cell) -> tuple[str, str, str]:
    """Return what cells must share to use one engine build.

    The precision follows from benchmark and target.
    """
    return cell.engine, cell.benchmark, cell.target


def build_order(cell: Cell) -> tuple[str, str, str, int]:
    """Sort key: engine, benchmark, target, then scenario."""
    return (*build_key(cell), ORDER.index(cell.scenario))
