"""Successive halving: many candidates by short runs, the best by longer ones.

Jamieson and Talwalkar, *Non-stochastic best arm identification* (2016): each rung gives
the share of the candidates that the rung before liked best a longer run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Candidate = TypeVar("Candidate", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Rung:
    """One round of runs of one length."""

    seconds: float
    keeps: int
    """Candidates that go on to the next rung."""


def plan_rungs(candidates: int, seconds: float, keep: int) -> tuple[Rung, ...]:
    """Return the rungs, shortest runs first.

    ``seconds``: of the first; each keeps one candidate in ``keep``, for runs that are
    ``keep`` times as long. The last has at most ``keep`` candidates.
    """
    rungs: list[Rung] = []
    left = candidates
    while True:
        keeps = max(1, math.ceil(left / keep))
        rungs.append(Rung(seconds * keep ** len(rungs), keeps))
        if left <= keep:
            return tuple(rungs)
        left = keeps


def halve(
    candidates: Sequence[Candidate],
    rungs: Sequence[Rung],
    score: Callable[[Candidate, float], float | None],
) -> list[tuple[Candidate, float]]:
    """Return the last rung's candidates with their scores, best first.

    ``score``: a run of so many seconds -> its figure, more is better; None where a
    candidate cannot run, which is out. Empty where none can.
    """
    left, ranked = list(candidates), list[tuple[Candidate, float]]()
    for rung in rungs:
        found = [(one, score(one, rung.seconds)) for one in left]
        ranked = [(one, value) for one, value in found if value is not None]
        ranked.sort(key=lambda pair: -pair[1])
        left = [one for one, _ in ranked[: rung.keeps]]
    return ranked
