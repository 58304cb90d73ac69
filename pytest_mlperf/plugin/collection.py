"""Which items a session has: parameter sets, their marks, ids and order.

A test function takes part when it carries ``@pytest.mark.mlperf(mode=...)`` and asks
for ``cell``. Anybody else's fixture named ``cell`` is left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import pytest

from pytest_mlperf.api import registry
from pytest_mlperf.config.option_types import parse_device_count
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.matrix import build_order
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.measure.cells import find_cells
from pytest_mlperf.measure.cells import import_providers
from pytest_mlperf.measure.cells import known_cells
from pytest_mlperf.measure.cells import register_compliance_tests
from pytest_mlperf.measure.cells import why_not_installed
from pytest_mlperf.plugin.mark_arguments import refuse_unknown_arguments
from pytest_mlperf.plugin.usage_errors import as_usage_errors

MARKER = (
    "mlperf(benchmark=, target=, scenario=, engine=, mode=, round=): what an MLPerf "
    "item runs; on a test function that asks for 'cell', mode= is required and the "
    "others narrow its cells; devices= (a number or 'all') is how many it takes"
)
DEVICES = "devices"
"""The mark's argument that says how many devices an item takes; it selects nothing."""
_SLUGS = tuple(scenario.slug for scenario in Scenario)


def list_audits() -> tuple[str, ...]:
    """Return the names of the known compliance tests, in the order of items."""
    # Imported here: sessions without mlperf items load no compliance test.
    from pytest_mlperf.core import compliance

    return compliance.names()


def find_cell_in(text: str, cells: Iterable[Cell]) -> Cell | None:
    """Return the cell whose id stands in a node id's brackets, or None.

    Other parameters of the item may stand before or after the cell's.
    """
    _, bracket, inside = text.partition("[")
    if not bracket or not any(slug in inside for slug in _SLUGS):
        return None
    inside = f"-{inside.removesuffix(']')}-"
    found = [cell for cell in cells if f"-{cell.id}-" in inside]
    return max(found, key=lambda cell: len(cell.id), default=None)


def rewrite_aliases(argument: str, options: Options) -> str:
    """Return a command-line argument with benchmark aliases in ids made canonical.

    ``test_performance[resnet-Offline-onnxruntime]`` names the resnet50 item too.
    """
    head, bracket, inside = argument.partition("[")
    lowered = inside.lower().removesuffix("]")
    if not bracket or not any(slug in lowered for slug in _SLUGS):
        return argument
    audit = audit_in(argument.upper())
    lowered = lowered.removesuffix(f"-{audit.lower()}") if audit else lowered
    tail = f"-{audit}" if audit else ""
    ids = {cell.id for cell in known_cells(options)}
    for alias, name in {"": "", **(registry.aliases() if ids else {})}.items():
        candidate = name + lowered.removeprefix(alias)
        if lowered.startswith(alias) and candidate in ids:
            return f"{head}[{candidate}{tail}]"
    return argument


def describe(cell: Cell, mode: str, audit: str = "") -> dict[str, str]:
    """Return what the item runs, as text: the marker's arguments."""
    facts = {
        "benchmark": cell.benchmark,
        "target": cell.target,
        "scenario": cell.scenario.slug,
        "engine": cell.engine,
        "round": cell.round,
        "mode": mode,
    }
    return {**facts, "audit": audit} if audit else facts


def make_marks(
    cell: Cell, mode: str, options: Options, audit: str = ""
) -> list[pytest.MarkDecorator | pytest.Mark]:
    """Return the ``mlperf`` marks (one a name the benchmark has) and bare marks.

    A benchmark that no installed package runs is skipped with the reason.
    """
    names = [cell.benchmark, *_aliases_of(cell.benchmark)]
    facts = describe(cell, mode, audit)
    spelled = dict.fromkeys([*names, cell.model])
    full = [pytest.mark.mlperf(**{**facts, "benchmark": name}) for name in spelled]
    bare = [*names, cell.scenario.slug, cell.engine, mode]
    bare += [audit.lower()] * bool(audit)
    made = full + [getattr(pytest.mark, name) for name in bare]
    why = why_not_installed(cell, options)
    return made + [pytest.mark.skip(reason=why)] * bool(why)


def _aliases_of(name: str) -> list[str]:
    return sorted(a for a, target in registry.aliases().items() if target == name)


def register_markers(config: pytest.Config, options: Options) -> None:
    """Declare the bare marks, which ``--strict-markers`` asks for."""
    words = {
        "benchmark": [
            *registry.benchmark_names(),
            *{cell.benchmark for cell in known_cells(options)},
        ],
        "scenario": _SLUGS,
        "engine": [registry.short_name(s) for s in options.engine]
        + list(registry.names("engine")),
        "service": registry.names("service"),
        "mode": [mode.value for mode in Mode],
        "compliance test": [name.lower() for name in list_audits()],
    }
    declared = {line.split(":")[0] for line in config.getini("markers")}
    for kind, names in words.items():
        for name in sorted(set(names) - declared):
            config.addinivalue_line("markers", f"{name}: MLPerf {kind}")


def parametrize(metafunc: pytest.Metafunc, options: Options) -> bool:
    """Give a function that asks for cells its cells; False where it does not ask."""
    mark = metafunc.definition.get_closest_marker("mlperf")
    if mark is None or "cell" not in metafunc.fixturenames:
        return False
    asked = mark.kwargs
    where = metafunc.definition.nodeid
    try:
        mode = Mode(asked.get("mode")).value
    except ValueError:
        legal = ", ".join(m.value for m in Mode)
        raise pytest.UsageError(
            f"{where}: mlperf mark has mode={asked.get('mode')!r}, but should be one "
            f"of {legal}; write @pytest.mark.mlperf(mode='performance')"
        ) from None
    try:
        parse_device_count(str(asked.get(DEVICES, 1)))
    except ValueError as error:
        raise pytest.UsageError(
            f"{where}: mlperf mark has devices={asked[DEVICES]!r}, but should be "
            f"{error}"
        ) from None
    refuse_unknown_arguments(asked, where, options, (DEVICES,), list_audits())
    with as_usage_errors("--mlperf-engine"):
        import_providers(options)
    with as_usage_errors():
        register_compliance_tests()
        every = find_cells(options)
    register_markers(metafunc.config, options)
    chosen = [c for c in every if _matches(describe(c, mode), asked)]
    if mode == Mode.COMPLIANCE.value:
        if "audit" not in metafunc.fixturenames:
            raise pytest.UsageError(
                f"{where}: a compliance item needs its test's name; ask for 'audit' "
                "beside 'cell'"
            )
        pairs = [(c, a) for c in chosen for a in c.rule.compliance]
        pairs = [(c, a) for c, a in pairs if _matches(describe(c, mode, a), asked)]
        audited = [
            pytest.param(c, a, id=f"{c.id}-{a}", marks=make_marks(c, mode, options, a))
            for c, a in pairs
        ]
        metafunc.parametrize(("cell", "audit"), audited)
        return True
    params = [
        pytest.param(c, id=c.id, marks=make_marks(c, mode, options)) for c in chosen
    ]
    metafunc.parametrize("cell", params)
    return True


def _matches(facts: Mapping[str, str], asked: Mapping[str, Any]) -> bool:
    asked = {key: value for key, value in asked.items() if key != DEVICES}
    if "benchmark" in asked:
        asked["benchmark"] = registry.aliases().get(
            asked["benchmark"], asked["benchmark"]
        )
    return all(facts.get(key) == value for key, value in asked.items())


def cell_of(item: pytest.Item) -> Cell | None:
    """Return the cell an item runs; None for anybody else's item."""
    found = getattr(item, "callspec", None)
    cell = found.params.get("cell") if found else None
    return cell if isinstance(cell, Cell) and mode_of(item) else None


def list_items(items: Iterable[pytest.Item]) -> list[tuple[Cell, str]]:
    """Return cell and mode of the mlperf items among these."""
    return [(cell, mode_of(item)) for item in items if (cell := cell_of(item))]


def mode_of(item: pytest.Item) -> str:
    """Return the mode in an item's mark: ``performance``, ``accuracy``; else empty."""
    mark = item.get_closest_marker("mlperf")
    return str(mark.kwargs.get("mode", "")) if mark else ""


def devices_of(item: pytest.Item, options: Options) -> int | str:
    """Return how many devices an item takes: by its mark, else by the option."""
    for mark in item.iter_markers("mlperf"):
        if DEVICES in mark.kwargs:
            return parse_device_count(str(mark.kwargs[DEVICES]))
    return options.devices_per_item or 1


def audit_of(item: pytest.Item) -> str:
    """Return the compliance test an item runs; empty for any other item."""
    found = getattr(item, "callspec", None)
    return str(found.params.get("audit", "")) if found and cell_of(item) else ""


def audit_in(nodeid: str) -> str:
    """Return the compliance test in a node id's brackets, empty where there is none."""
    inside = nodeid.partition("[")[2].removesuffix("]")
    return max(
        (a for a in list_audits() if inside.endswith(f"-{a}")), key=len, default=""
    )


def mode_in(nodeid: str) -> str:
    """Return the mode in a function's name, ``?`` where it has none."""
    function = nodeid.partition("[")[0].rpartition("::")[2]
    return next((mode.value for mode in Mode if mode.value in function), "?")


def list_runs(items: Iterable[pytest.Item]) -> frozenset[tuple[str, str]]:
    """Return the id of the cell and the name of the run of the mlperf items."""
    return frozenset(
        (cell.id, audit_of(item) or mode_of(item))
        for item in items
        if (cell := cell_of(item))
    )


def build_key(cell: Cell) -> tuple[str, str, str]:
    """Return what cells must share to use one engine build.

    The precision follows from benchmark and target.
    """
    return (cell.engine, cell.benchmark, cell.target)


def sort_items(items: list[pytest.Item]) -> None:
    """Bring mlperf items of one build together; the others keep their places.

    Performance stands before accuracy, so that a run that is already INVALID is
    known before the long accuracy run begins; compliance needs both.
    """
    modes, tests = [mode.value for mode in Mode], list_audits()

    def key(item: pytest.Item) -> tuple[Any, ...]:
        cell = cell_of(item)
        assert cell is not None
        audit = audit_of(item)
        place = tests.index(audit) if audit in tests else 0
        return (*build_order(cell), modes.index(mode_of(item)), place)

    _reorder(items, lambda own: sorted(own, key=key))


def regroup_items(items: list[pytest.Item]) -> None:
    """Bring mlperf items of one build together again, wherever plugins put them.

    The order is theirs (``--ff``, pytest-randomly) as far as it builds nothing twice
    and has compliance tests behind what they are compared with.
    """

    def regroup(own: list[pytest.Item]) -> list[pytest.Item]:
        builds: dict[tuple[str, str, str], list[pytest.Item]] = {}
        for item in own:
            cell = cell_of(item)
            assert cell is not None
            builds.setdefault(build_key(cell), []).append(item)
        return [item for build in builds.values() for item in _put_behind(build)]

    _reorder(items, regroup)


def _put_behind(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Yield the items of one build, each compliance test behind its cell's runs."""
    runs = Counter(cell_of(item) for item in items if not audit_of(item))
    waiting: dict[Cell | None, list[pytest.Item]] = {}
    for item in items:
        cell = cell_of(item)
        if audit_of(item) and runs[cell]:
            waiting.setdefault(cell, []).append(item)
            continue
        yield item
        if not audit_of(item):
            runs[cell] -= 1
            yield from waiting.pop(cell, []) if not runs[cell] else []


def _reorder(
    items: list[pytest.Item],
    arrange: Callable[[list[pytest.Item]], list[pytest.Item]],
) -> None:
    """Arrange the mlperf items among their places; the others keep theirs."""
    places = [i for i, item in enumerate(items) if cell_of(item) is not None]
    arranged = arrange([items[i] for i in places])
    for place, item in zip(places, arranged, strict=True):
        items[place] = item
