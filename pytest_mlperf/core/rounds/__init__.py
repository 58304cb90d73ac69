"""The rules of every round as data, one file a round: ``v6_1.py``.

A round's module is read when it is asked for, so that judging one run does not load
the tables of all.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from pytest_mlperf.core.rounds.rule import AccuracyLimit
from pytest_mlperf.core.rounds.rule import Round
from pytest_mlperf.core.rounds.rule import Rule
from pytest_mlperf.core.types import Scenario

__all__ = [
    "ROUNDS",
    "AccuracyLimit",
    "Round",
    "Rule",
    "find_newest",
    "get",
    "is_before",
    "is_official",
]

_NUMBERS = (re.fullmatch(r"v(\d+)_(\d+)", one.name) for one in iter_modules(__path__))
ROUNDS: tuple[str, ...] = tuple(
    f"v{major}.{minor}"
    for major, minor in sorted((int(n[1]), int(n[2])) for n in _NUMBERS if n)
)
"""Oldest to newest; found by listing this folder."""


@cache
def get(name: str) -> Round:
    """Return a round by its name; ``ValueError`` lists the legal ones."""
    if name not in ROUNDS:
        legal = ", ".join(ROUNDS)
        raise ValueError(f"{name!r} is not a round; legal: {legal}")
    module = import_module(f"{__name__}.{name.replace('.', '_')}")
    found: Round = module.ROUND
    return found


def is_before(name: str, other: str) -> bool:
    """Return whether a round is older than another."""
    return ROUNDS.index(name) < ROUNDS.index(other)


def find_newest(benchmark: str, target: str, scenario: Scenario) -> Round | None:
    """Return the newest round that has the combination; None when none has."""
    for name in reversed(ROUNDS):
        found = get(name)
        if found.find(benchmark, target, scenario):
            return found
    return None


def is_official(rule: Rule) -> bool:
    """Return whether a rule is its round's, not one that a benchmark brings."""
    return rule in get(rule.round).rules
