"""Finds what packages install by entry point: providers, benchmarks, reporters ….

Names are listed without importing what they name. An object is imported when it is
asked for, so a package that is not used costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING
from typing import Any

from pytest_mlperf.api.object_ref import ObjectRef
from pytest_mlperf.config.option_types import suggest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pytest_mlperf.api.benchmark import Benchmark
    from pytest_mlperf.api.engine import EngineProvider
    from pytest_mlperf.api.service import ServiceProvider

GROUPS = {
    "engine": "pytest_mlperf.engines",
    "service": "pytest_mlperf.services",
    "benchmark": "pytest_mlperf.benchmarks",
    "rehearsal": "pytest_mlperf.rehearsals",
    "compliance_test": "pytest_mlperf.compliance_tests",
    "observer": "pytest_mlperf.observers",
    "reporter": "pytest_mlperf.reporters",
}
"""Kind of object -> entry-point group."""
METHODS = {
    "engine": ("unavailable", "build", "open", "layouts"),
    "service": ("check", "requests", "open"),
    "benchmark": ("precision", "open_workload"),
    "rehearsal": ("rehearse",),
    "compliance_test": ("resolve", "verify"),
    "observer": ("around",),
    "reporter": ("write",),
}
"""Kind of object -> methods that it needs."""
ATTRIBUTES = {
    "engine": ("precisions", "batches", "answers"),
    "service": ("offers",),
    "benchmark": ("name", "aliases", "metric", "takes", "rules"),
    "compliance_test": ("name", "files"),
    "reporter": ("name",),
}
"""Kind of object -> what else it needs."""
PROTOCOLS = {
    "engine": "an EngineProvider",
    "service": "a ServiceProvider",
    "benchmark": "a Benchmark",
    "rehearsal": "a Rehearsal",
    "compliance_test": "an AuditTest",
    "observer": "an Observer",
    "reporter": "a Reporter",
}
PROVIDERS = ("engine", "service")


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


def provider_names() -> tuple[str, ...]:
    """Return the installed names of engines and services."""
    return tuple(sorted({name for kind in PROVIDERS for name in names(kind)}))


def check_provider(name: str) -> None:
    """Raise ``ValueError`` unless a provider's name is installed or
    ``module:object``.
    """
    if ":" not in name and name not in provider_names():
        raise _unknown("engine", name, provider_names())


def _unknown(kind: str, name: str, legal: Sequence[str]) -> ValueError:
    return ValueError(
        f"{name!r} is not an installed {kind}; installed: "
        f"{', '.join(legal) or 'none'}.{suggest(name, legal)} A package adds one by an "
        f"entry point in {GROUPS[kind]!r}; module:object names one in development"
    )


def refuse_same_names(specs: Sequence[str]) -> None:
    """Raise ``ValueError`` for two providers that items could not tell apart."""
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


def reference(kind: str, name: str) -> ObjectRef:
    """Return where the object of a name is: installed, or ``module:object``.

    Raises ``ValueError`` that lists what is installed.
    """
    point = _entry_points(kind).get(name)
    if point is None and ":" not in name:
        raise _unknown(kind, name, names(kind))
    return ObjectRef.parse(point.value if point else name)


@cache
def load(kind: str, name: str) -> Any:
    """Import and return the object of a name.

    Raises ``ValueError`` for one that is not installed, cannot be imported, or lacks
    a method that its kind needs.
    """
    target = reference(kind, name)
    is_installed = name in _entry_points(kind)
    try:
        loaded = target.load()
    except Exception as error:  # whatever somebody's module raises
        origin = f" from {target}" if is_installed else ""
        remedy = "repair or uninstall the package that names it"
        if not is_installed:
            remedy = "correct module:object, or see that pytest finds the module"
        raise ValueError(
            f"{kind} {name!r} cannot be imported{origin}: {type(error).__name__}: "
            f"{error}; {remedy}"
        ) from error
    _refuse_incomplete(kind, name, loaded)
    return loaded


def _refuse_incomplete(kind: str, name: str, loaded: object) -> None:
    methods, attributes = METHODS[kind], ATTRIBUTES.get(kind, ())
    missing = [f"{m}()" for m in methods if not callable(getattr(loaded, m, None))]
    missing += [name for name in attributes if not hasattr(loaded, name)]
    if isinstance(loaded, type) or missing:
        lack = "a class" if isinstance(loaded, type) else f"without {missing[0]}"
        also = f" and the attributes {', '.join(attributes)}" if attributes else ""
        raise ValueError(
            f"{kind} {name!r} is {lack}, but should be an object with the methods "
            f"{', '.join(methods)}{also}; name an instance of {PROTOCOLS[kind]}"
        )


def load_all(kind: str) -> dict[str, Any]:
    """Return name -> object of everything installed of a kind."""
    return {name: load(kind, name) for name in names(kind)}


@cache
def provider_kind(spec: str) -> str:
    """Return ``engine`` or ``service``: what a provider is; imports ``module:object``.

    Raises ``ValueError`` for one that is not there or cannot be imported.
    """
    check_provider(spec)
    for kind in PROVIDERS:
        if spec in _entry_points(kind):
            return kind
    try:
        loaded = ObjectRef.parse(spec).load()
    except Exception:  # noqa: BLE001 - load() below words it
        return "engine"
    is_service = all(callable(getattr(loaded, m, None)) for m in METHODS["service"])
    is_engine = all(callable(getattr(loaded, m, None)) for m in METHODS["engine"])
    return "service" if is_service and not is_engine else "engine"


def provider(spec: str) -> EngineProvider | ServiceProvider:
    """Return an engine or a service by installed name or ``module:object``.

    Raises ``ValueError`` that lists what is installed.
    """
    loaded: EngineProvider | ServiceProvider = load(provider_kind(spec), spec)
    return loaded


def benchmark(name: str) -> Benchmark:
    """Return a benchmark by installed name, alias or ``module:object``.

    Raises ``ValueError`` that lists what is installed.
    """
    if name not in _entry_points("benchmark"):
        name = aliases().get(name, name)
    found: Benchmark = load("benchmark", name)
    return found


@cache
def aliases() -> dict[str, str]:
    """Return alias -> installed benchmark name; imports the (light) benchmarks."""
    return {
        alias: name
        for name in names("benchmark")
        for alias in load("benchmark", name).aliases
    }


def benchmark_names() -> dict[str, str]:
    """Return name or alias -> benchmark, of everything installed."""
    return {name: name for name in names("benchmark")} | aliases()


def short_name(spec: str) -> str:
    """Return the name a provider has in item ids: ``pkg.mod:FAST`` is ``fast``."""
    return spec.rpartition(":")[2].lower()
