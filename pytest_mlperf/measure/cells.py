"""Which cells the options allow, and who may be named in them."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from functools import cache

from pytest_mlperf.api import registry
from pytest_mlperf.config.options import DEFAULT_ENGINE
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.types import Cell

SERVICE = "endpoint"
"""The service that answers where a benchmark asks for one."""


@cache
def cells(
    engines: tuple[str, ...], round_name: str | None, *, rehearsal: bool = False
) -> tuple[Cell, ...]:
    """Return every cell of the installed benchmarks on these engines, sorted.

    Benchmarks that a service answers have their cells once, whatever the engines.
    A rehearsal has every benchmark of the rounds that an oracle can answer.
    Raises ``ValueError`` for an engine that is not installed.
    """
    from pytest_mlperf.core import matrix
    from pytest_mlperf.core import rounds

    for spec in engines:
        registry.check("engine", spec)
    names = (round_name,) if round_name else rounds.ROUNDS
    rules = [rule for name in names for rule in rounds.get(name).rules]
    present = canonical_names()
    if rehearsal:
        present = matrix.rehearsable(rules)
    benchmarks = [
        (name, tuple(sorted({r.target for r in rules if r.benchmark == name})))
        for name in sorted(present)
    ]
    short = tuple(registry.short_name(spec) for spec in engines)
    served = set()
    if not rehearsal:
        served = {name for name in present if registry.is_answered_by_service(name)}
    by_engine = [one for one in benchmarks if one[0] not in served]
    by_service = [one for one in benchmarks if one[0] in served]
    made = matrix.cells(by_engine, short, names)
    made += matrix.cells(by_service, (SERVICE,), names)
    return tuple(sorted(made, key=matrix.build_order))


def check_engines(options: Options) -> None:
    """Raise ``UsageError`` for an engine the user named that cannot be meant."""
    import pytest

    try:
        registry.refuse_same_names(options.engine)
        # The default is checked where it is used: most sessions never do.
        for spec in set(options.engine) - {DEFAULT_ENGINE}:
            registry.check("engine", spec)
    except ValueError as error:
        raise pytest.UsageError(f"--mlperf-engine: {error}") from None


def of_options(options: Options) -> tuple[Cell, ...]:
    """Return the cells these options allow: of a submission, its category's.

    Raises ``UsageError`` for an unknown engine or a benchmark that cannot be imported.
    """
    import pytest

    try:
        found = cells(options.engine, options.round, rehearsal=options.rehearsal)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    return found if not options.submission else tuple(of_category(found, options))


def of_category(cells: Iterable[Cell], options: Options) -> Iterator[Cell]:
    """Yield the cells that a submission's category has; all where it is not known."""
    from pytest_mlperf.core import rounds

    wanted = (options.category or "").replace("datacenter,edge", "datacenter_edge")
    for cell in cells:
        rule = rounds.get(cell.round).find(cell.benchmark, cell.target, cell.scenario)
        if not wanted or (rule and wanted in rule.categories):
            yield cell


def import_engines(options: Options) -> None:
    """Raise ``UsageError`` for a ``module:object`` that cannot be imported.

    Only where items are collected: test files extend the path it is found on.
    """
    import pytest

    try:
        for spec in options.engine:
            if ":" in spec:
                registry.engine(spec)
    except ValueError as error:
        raise pytest.UsageError(f"--mlperf-engine: {error}") from None


def known(options: Options) -> tuple[Cell, ...]:
    """Return the cells these options allow, none where that cannot be told.

    For hooks of everybody's session: an mlperf item will say what is broken.
    """
    import pytest

    try:
        return of_options(options)
    except pytest.UsageError:
        return ()


def canonical_names() -> set[str]:
    """Return the benchmarks' names without the entry points that are aliases."""
    return set(registry.names("benchmark")) - set(registry.aliases())
