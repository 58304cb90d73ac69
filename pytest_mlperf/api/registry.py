"""Finds engines and benchmarks by name, through entry points.

Names are listed without importing what they name. An object is imported when it is
asked for, so a package that is not used costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING
from typing import Any

from pytest_mlperf.config.option_types import suggest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pytest_mlperf.api.engine import EngineProvider
    from pytest_mlperf.api.service import ServiceProvider
    from pytest_mlperf.api.workload import Benchmark
    from pytest_mlperf.api.workload import RequestBenchmark
    from pytest_mlperf.core.rounds import Rule
    from pytest_mlperf.core.types import Mode

GROUPS = {
    "engine": "pytest_mlperf.engines",
    "benchmark": "pytest_mlperf.benchmarks",
    "service": "pytest_mlperf.services",
}
REHEARSED = ("bert", "resnet50")
"""Benchmarks with a synthetic workload of their own."""
_METHODS = ("unavailable", "build", "open", "layouts")
_SERVICE_METHODS = ("check", "requests", "open")


@cache
def _entry_points(kind: str) -> dict[str, EntryPoint]:
    """Return name -> entry point, sorted; the scan takes milliseconds, so once."""
    # Imported here: a session without mlperf items never scans the packages.
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUPS[kind]):
        # The first on the path wins, as with modules.
        found.setdefault(point.name, point)
    return dict(sorted(found.items()))


def names(kind: str) -> tuple[str, ...]:
    """Return the installed names of a kind (``engine``, ``service`` …), sorted."""
    return tuple(_entry_points(kind))


def check(kind: str, name: str) -> None:
    """Raise ``ValueError`` unless the name is installed or a ``module:object``."""
    if ":" in name or name in _entry_points(kind):
        return
    legal = names(kind)
    raise ValueError(
        f"{name!r} is not an installed {kind}; installed: "
        f"{', '.join(legal) or 'none'}.{suggest(name, legal)} A package adds one by an "
        f"entry point in {GROUPS[kind]!r}; module:object names one in development"
    )


def refuse_same_names(specs: Sequence[str]) -> None:
    """Raise ``ValueError`` for two engines that items could not tell apart."""
    taken: dict[str, str] = {}
    for spec in specs:
        other = taken.setdefault(short_name(spec), spec)
        if other != spec:
            raise ValueError(
                f"{other!r} and {spec!r} would both be called {short_name(spec)!r} in "
                "ids, reports and folders, but each should have a name of its own; "
                "run one at a time, or give one object a second name in its module "
                "(OTHER = ENGINE) and ask for that"
            )


def _load(kind: str, name: str) -> Any:
    check(kind, name)
    point = _entry_points(kind).get(name)
    module, _, attribute = (point.value if point else name).partition(":")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:  # whatever somebody's module raises
        origin = f" from {point.value}" if point else ""
        remedy = "repair or uninstall the package that names it"
        if not point:
            remedy = "correct module:object, or see that pytest finds the module"
        raise ValueError(
            f"{kind} {name!r} cannot be imported{origin}: {type(error).__name__}: "
            f"{error}; {remedy}"
        ) from error


@cache
def engine(name: str) -> EngineProvider:
    """Return an engine by installed name or ``module:object``.

    Raises ``ValueError`` that lists what is installed.
    """
    found: EngineProvider = _load("engine", name)
    _refuse_incomplete(found, f"engine {name!r}", _METHODS, "an EngineProvider")
    return found


@cache
def service(name: str) -> ServiceProvider:
    """Return a service by installed name or ``module:object``; ``ValueError``."""
    found: ServiceProvider = _load("service", name)
    what = "a ServiceProvider"
    _refuse_incomplete(found, f"service {name!r}", _SERVICE_METHODS, what)
    return found


def _refuse_incomplete(
    found: object, who: str, methods: Sequence[str], what: str
) -> None:
    missing = [m for m in methods if not callable(getattr(found, m, None))]
    if isinstance(found, type) or missing:
        kind = "a class" if isinstance(found, type) else f"without {missing[0]}()"
        raise ValueError(
            f"{who} is {kind}, but should be an object with the methods "
            f"{', '.join(methods)}; name an instance of {what}"
        )


@cache
def benchmark(name: str) -> Benchmark:
    """Return a benchmark by installed name, alias or ``module:object``.

    Raises ``ValueError`` that lists what is installed.
    """
    if name not in _entry_points("benchmark"):
        name = aliases().get(name, name)
    found: Benchmark = _load("benchmark", name)
    return found


def request_benchmark(name: str) -> RequestBenchmark:
    """Return a benchmark that a service answers, as ``benchmark`` does."""
    found: Any = benchmark(name)
    return found  # type: ignore[no-any-return]


def is_answered_by_service(name: str) -> bool:
    """Return whether a benchmark's cells are answered by a service, not an engine."""
    return getattr(benchmark(name), "answered_by", "engine") == "service"


def rehearsed(rule: Rule, mode: Mode) -> Benchmark:
    """Return the benchmark that a rehearsal of this rule runs.

    Installed ones that have a synthetic workload score as they always do; for the
    others the rule says what there is to know.
    """
    from pytest_mlperf.benchmarks.standins.synthetic import SyntheticBenchmark

    if rule.benchmark in REHEARSED:
        return benchmark(rule.benchmark)
    return SyntheticBenchmark(rule, mode)


@cache
def aliases() -> dict[str, str]:
    """Return alias -> installed benchmark name; imports the (light) benchmarks."""
    return {
        alias: name
        for name in names("benchmark")
        for alias in _load("benchmark", name).aliases
    }


def short_name(spec: str) -> str:
    """Return the name an engine has in item ids: ``pkg.mod:FAST`` is ``fast``."""
    return spec.rpartition(":")[2].lower()
