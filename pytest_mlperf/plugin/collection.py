"""Which items a session has: parameter sets, their marks and ids.

A test function takes part when it carries ``@pytest.mark.mlperf(mode=...)`` and asks
for ``cell``. Anybody else's fixture named ``cell`` is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import pytest

from pytest_mlperf.api import registry
from pytest_mlperf.config.option_types import parse_device_count
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.cell import Cell
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
    "mlperf(benchmark=, target=, scenario=, engine=, mode=, round=, audit=): what an "
    "MLPerf item runs; on a test function that asks for 'cell', mode= is required and "
    "the others narrow its cells; devices= (a number or 'all') is how many it takes"
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


def parametrize(metafunc: pytest.Metafunc, options: Options) -> None:
    """Give a function that asks for cells its cells, and leave others alone.

    Raises ``UsageError`` for a mark that no item can have.
    """
    mark = metafunc.definition.get_closest_marker("mlperf")
    if mark is None or "cell" not in metafunc.fixturenames:
        return
    asked, where = mark.kwargs, metafunc.definition.nodeid
    mode = _read_mode(asked, where)
    refuse_unknown_arguments(asked, where, options, (DEVICES,), list_audits())
    with as_usage_errors("--mlperf-engine"):
        import_providers(options)
    with as_usage_errors():
        register_compliance_tests()
        every = find_cells(options)
    register_markers(metafunc.config, options)
    is_audit = mode == Mode.COMPLIANCE.value
    if is_audit and "audit" not in metafunc.fixturenames:
        raise pytest.UsageError(
            f"{where}: a compliance item needs its test's name; ask for 'audit' "
            "beside 'cell'"
        )
    params = [
        pytest.param(
            *((cell, audit) if is_audit else (cell,)),
            id=f"{cell.id}-{audit}" if is_audit else cell.id,
            marks=make_marks(cell, mode, options, audit),
        )
        for cell in every
        for audit in (cell.rule.compliance if is_audit else ("",))
        if _matches(describe(cell, mode, audit), asked)
    ]
    metafunc.parametrize(("cell", "audit") if is_audit else ("cell",), params)


def _read_mode(asked: Mapping[str, Any], where: str) -> str:
    """Return the mode of a mark; raises ``UsageError`` for a wrong one, or a wrong
    number of devices.
    """
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
    return mode


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
