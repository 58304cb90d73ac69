"""The rules of every round as data; oldest to newest.

A round's module is read when it is asked for, so that judging one run does not load
the tables of all.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from pytest_mlperf.core.rounds.rule import AccuracyLimit
from pytest_mlperf.core.rounds.rule import Round
from pytest_mlperf.core.rounds.rule import Rule
from pytest_mlperf.core.types import Scenario

__all__ = ["ROUNDS", "AccuracyLimit", "Round", "Rule", "find_newest", "get"]

ROUNDS: tuple[str, ...] = ("v2.0", "v4.1", "v5.0", "v5.1", "v6.0", "v6.1")


@cache
def get(name: str) -> Round:
    """Return a round by its name; ``ValueError`` lists the legal ones."""
    if name not in ROUNDS:
        legal = ", ".join(ROUNDS)
        raise ValueError(f"{name!r} is not a round; legal: {legal}")
    module = import_module(f"{__name__}.{name.replace('.', '_')}")
    found: Round = module.ROUND
    return found


def find_newest(benchmark: str, target: str, scenario: Scenario) -> Round | None:
    """Return the newest round that has the combination; None when none has."""
    for name in reversed(ROUNDS):
        found = get(name)
        if found.find(benchmark, target, scenario):
            return found
    return None
