"""Which cells the options allow, and who can answer them."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from functools import cache

from pytest_mlperf.api import registry
from pytest_mlperf.config.options import DEFAULT_ENGINE
from pytest_mlperf.config.options import Options
from pytest_mlperf.core import matrix
from pytest_mlperf.core import rounds
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.rounds.rule import Rule

SERVICE = "endpoint"
"""The service that answers prompts where the user names no other, and recordings where
the user names a server.
"""
TENSORS = frozenset({"tensors"})
PROMPTS = frozenset({"prompts"})
RECORDINGS = frozenset({"recordings"})
Offer = tuple[str, frozenset[str]]
"""A provider's name in ids, and what it answers."""


def find_cells(options: Options) -> tuple[Cell, ...]:
    """Return the cells these options allow: of a submission, its category's.

    Benchmarks that nobody here can run are among them: their items skip with the
    reason. Raises ``ValueError`` for an unknown provider, or a benchmark that cannot
    be imported.
    """
    offers = tuple(_offer_of(spec) for spec in options.engine)
    is_served = bool(options.endpoint) and tuple(options.engine) == (DEFAULT_ENGINE,)
    every = _cells(
        offers, options.round, rehearsal=options.rehearsal, is_served=is_served
    )
    if options.submission:
        every = tuple(_of_category(every, options))
    return tuple(c for c in every if options.selects(c.benchmark, c.target, c.scenario))


def _offer_of(spec: str) -> Offer:
    if registry.provider_kind(spec) == "engine":
        return registry.short_name(spec), TENSORS
    return registry.short_name(spec), registry.load("service", spec).offers


@cache
def _cells(
    offers: tuple[Offer, ...],
    round_name: str | None,
    *,
    rehearsal: bool,
    is_served: bool,
) -> tuple[Cell, ...]:
    """Return every cell of the rounds' and the installed benchmarks, sorted.

    A rehearsal has every benchmark of the rounds that an oracle can answer.
    """
    names = (round_name,) if round_name else rounds.ROUNDS
    every = [rule for name in names for rule in rounds.get(name).rules]
    if rehearsal:
        rehearsing = filter(_rehearses, installed_benchmarks())
        named = {rule.benchmark for rule in every}
        present = matrix.find_rehearsable(every) | named.intersection(rehearsing)
    else:
        present = {rule.benchmark for rule in every} | installed_benchmarks()
    cells = []
    for name in sorted(present):
        rules = _own_rules(name, names) or _newest_rules(name, every, names)
        takes = TENSORS if rehearsal else takes_of(name, every)
        for rule in rules:
            able = [SERVICE] if is_served and takes >= RECORDINGS else []
            able = able or _providers(takes, offers)
            cells += [Cell(rule, one) for one in _replace_default(name, able)]
    return tuple(sorted(cells, key=matrix.build_order))


def _rehearses(name: str) -> bool:
    """Return whether a benchmark opens a synthetic workload of its own."""
    # Imported here: sessions without mlperf items load no NumPy.
    from pytest_mlperf.api.benchmark import Rehearses

    benchmark = registry.benchmark(name)
    return isinstance(benchmark, Rehearses) and benchmark.rehearses


def _providers(takes: frozenset[str], offers: Iterable[Offer]) -> list[str]:
    """Return who answers: those named that can, else the service for prompts."""
    able = [name for name, offered in offers if offered & takes]
    return able or [SERVICE] * (takes >= PROMPTS)


def _replace_default(benchmark: str, providers: list[str]) -> list[str]:
    """Return the providers, with a benchmark's own engine for the default one, which
    cannot read its model.
    """
    if benchmark not in installed_benchmarks() or DEFAULT_ENGINE not in providers:
        return providers
    # Imported here: sessions without mlperf items load no NumPy.
    from pytest_mlperf.api.benchmark import NamesEngine

    loaded = registry.benchmark(benchmark)
    own = loaded.engine if isinstance(loaded, NamesEngine) else DEFAULT_ENGINE
    return list(dict.fromkeys(p.replace(DEFAULT_ENGINE, own) for p in providers))


def takes_of(benchmark: str, every: Iterable[Rule]) -> frozenset[str]:
    """Return what a benchmark takes; one that is not installed is taken for a language
    model where a round times its tokens.
    """
    if benchmark in installed_benchmarks():
        return registry.benchmark(benchmark).takes
    own = (rule for rule in every if rule.benchmark == benchmark)
    return PROMPTS if any(rule.use_token_latencies for rule in own) else TENSORS


def _own_rules(benchmark: str, names: Iterable[str]) -> tuple[Rule, ...]:
    """Return the rules that a benchmark brings, of these rounds."""
    if benchmark not in installed_benchmarks():
        return ()
    rules = registry.benchmark(benchmark).rules
    return tuple(rule for rule in rules if rule.round in names)


def _newest_rules(
    benchmark: str, every: Iterable[Rule], names: tuple[str, ...]
) -> list[Rule]:
    targets = sorted({rule.target for rule in every if rule.benchmark == benchmark})
    return matrix.newest_rules([(benchmark, targets)], names)


def _of_category(cells: Iterable[Cell], options: Options) -> Iterator[Cell]:
    """Yield the cells that a submission's category has; all where it is not known."""
    wanted = (options.category or "").replace("datacenter,edge", "datacenter_edge")
    for cell in cells:
        if not wanted or wanted in cell.rule.categories:
            yield cell


def check_providers(options: Options) -> None:
    """Raise ``ValueError`` for a provider the user named that cannot be meant."""
    registry.refuse_same_names(options.engine)
    # The default is checked where it is used: most sessions never do.
    for spec in set(options.engine) - {DEFAULT_ENGINE}:
        registry.check_provider(spec)


def import_providers(options: Options) -> None:
    """Raise ``ValueError`` for a ``module:object`` that cannot be imported.

    Only where items are collected: test files extend the path it is found on.
    """
    for spec in options.engine:
        if ":" in spec:
            registry.provider(spec)


def known_cells(options: Options) -> tuple[Cell, ...]:
    """Return the cells these options allow, none where that cannot be told.

    For hooks of everybody's session: an mlperf item will say what is broken.
    """
    try:
        return find_cells(options)
    except ValueError:
        return ()


def why_not_installed(cell: Cell, options: Options) -> str:
    """Return why no package here can run a cell's benchmark; empty where one can."""
    if options.rehearsal or cell.benchmark in installed_benchmarks():
        return ""
    return (
        f"{cell.benchmark} is a benchmark of {cell.round}, but no installed package "
        "runs it; one adds it by an entry point in 'pytest_mlperf.benchmarks' "
        "(docs/extend/benchmark.md). Its logs can be judged: pytest-mlperf explain"
    )


@cache
def installed_benchmarks() -> frozenset[str]:
    """Return the benchmarks' names without the entry points that are aliases."""
    return frozenset(registry.names("benchmark")) - set(registry.aliases())


@cache
def register_compliance_tests() -> None:
    """Make the installed packages' compliance tests known to the rules.

    Raises ``ValueError`` for one that cannot be imported or has another's name.
    """
    from pytest_mlperf.core import compliance

    for test in registry.load_all("compliance_test").values():
        compliance.register(test)
