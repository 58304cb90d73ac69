"""The arguments of the mark ``mlperf``: which there are, and what each may be."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import pytest

from pytest_mlperf.api import registry
from pytest_mlperf.config.option_types import suggest
from pytest_mlperf.config.options import Options
from pytest_mlperf.core import rounds
from pytest_mlperf.core.rounds import ROUNDS
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario

MARK_ARGUMENTS = (
    "benchmark", "target", "scenario", "engine", "mode", "round", "audit",
)  # fmt: skip
"""The arguments by which ``-m`` selects."""


def refuse_unknown_arguments(
    asked: Mapping[str, Any],
    where: str,
    options: Options,
    others: Iterable[str],
    audits: Iterable[str],
) -> None:
    """Raise ``UsageError`` for a mark's argument that no item can have.

    ``others``: arguments that select nothing; ``audits``: the compliance tests.
    """
    benchmarks = {*registry.benchmark_names()}
    benchmarks |= {rule.benchmark for r in ROUNDS for rule in rounds.get(r).rules}
    engines = {*registry.provider_names(), *map(registry.short_name, options.engine)}
    legal: dict[str, Iterable[str]] = {
        "benchmark": benchmarks,
        "target": ("", "99", "99.9"),
        "scenario": [scenario.slug for scenario in Scenario],
        "engine": engines,
        "mode": [mode.value for mode in Mode],
        "round": ROUNDS,
        "audit": audits,
    }
    for name, value in asked.items():
        if name in others:
            continue
        if name not in legal:
            raise pytest.UsageError(
                f"{where}: mlperf mark has {name}=, but should have some of "
                f"{', '.join((*legal, *others))}.{suggest(name, legal)}"
            )
        if value not in legal[name]:
            known = ", ".join(sorted(filter(None, legal[name])))
            raise pytest.UsageError(
                f"{where}: mlperf mark has {name}={value!r}, but should be one of "
                f"{known}.{suggest(str(value), legal[name])}"
            )
