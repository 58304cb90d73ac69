"""Whether what the user named is there: engines, servers, precisions, engine options.

Only a default may be absent: then its items are skipped with the reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress

from pytest_mlperf.api import registry
from pytest_mlperf.api.embedded_server import NamesPrecisions
from pytest_mlperf.api.engine import ChecksInOwnProcess
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import TakesOptions
from pytest_mlperf.api.service import FindsAbsentServers
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.config.option_types import suggest
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.error_text import read_text
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.measure.session import MeasureSession

ASK = "pytest_mlperf.run.availability"
ASK_S = 300.0
"""How long an engine may take to say so: it may import a framework."""


def check_named(
    session: MeasureSession, cells: Sequence[Cell], *, names_engine: bool
) -> None:
    """Raise ``ValueError`` for what the user named and these cells cannot have.

    ``names_engine``: --mlperf-engine is the user's own choice.
    """
    options = session.options
    engines = find_engines(options, cells)
    if options.precision:
        embedded = _find_embedded_precisions(session, cells)
        _refuse_unknown_precision(options, engines, embedded)
    if options.all_engine_options:
        services = {
            name: registry.load("service", name)
            for name in find_services(options, cells)
        }
        takers = {n: s for n, s in services.items() if isinstance(s, TakesOptions)}
        _refuse_unknown_options(options, {**engines, **takers})
    if why := find_unavailable(session, cells, names_engine=names_engine):
        raise ValueError(why)


def find_unavailable(
    session: MeasureSession, cells: Iterable[Cell], *, names_engine: bool
) -> str:
    """Return why a provider that the user named cannot answer; empty where all can.

    ``names_engine``: --mlperf-engine is the user's own choice. A provider that no cell
    uses is left out.
    """
    options = session.options
    if options.rehearsal and not options.triton:
        return ""
    named = options.engine if names_engine else ()
    reasons = [
        _find_absent_server(session, spec, own)
        for spec, own in find_services(options, cells).items()
        if spec in named or options.service_urls(spec)
    ]
    reasons += [
        _find_missing_package(spec)
        for spec in map(options.engine_spec, find_engines(options, cells))
        if spec in named
    ]
    return next(filter(None, reasons), "")


def _find_missing_package(spec: str) -> str:
    provider: EngineProvider = registry.load("engine", spec)
    own = isinstance(provider, ChecksInOwnProcess) and provider.checks_in_own_process
    why = _ask_process(spec) if own else provider.unavailable()
    return f"--mlperf-engine {spec}: {why}" if why else ""


def _ask_process(spec: str) -> str | None:
    """Return an engine's own answer, or how the process that asked it ended."""
    command = [sys.executable, "-P", "-m", ASK, spec]
    # It can import what this process can, such as an engine in development.
    paths = os.pathsep.join(path for path in sys.path if path)
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=ASK_S,
            env={**os.environ, "PYTHONPATH": paths},
        )
    except subprocess.TimeoutExpired:
        return f"it did not say within {ASK_S:g} s whether it can run here"
    with suppress(ValueError):
        found: str | None = json.loads(done.stdout)
        return found
    last = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
    return f"asking whether it can run here ended with {done.returncode}: {last}"


def _find_absent_server(session: MeasureSession, spec: str, cells: list[Cell]) -> str:
    options = session.options
    urls = options.service_urls(spec)
    if not urls and has_server(session, cells):
        return ""  # it is going to be started
    provider = registry.load("service", spec)
    if not isinstance(provider, FindsAbsentServers):
        return ""
    ca_file = str(options.endpoint_ca) if options.endpoint_ca else None
    target = ServiceTarget(urls, ca_file=ca_file)
    try:
        why = provider.unavailable(target)
    except RunRefused as error:
        return read_text(error)
    return f"--mlperf-engine {spec}: {why}" if why else ""


def has_server(session: MeasureSession, cells: Iterable[Cell]) -> bool:
    """Return whether the system file starts a server for one of these cells."""
    tables = (session.system.server.lookup(c.benchmark, c.target) for c in cells)
    return any("command" in table for table in tables)


def find_services(options: Options, cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    """Return the services that answer some of these cells -> those cells."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        spec = options.engine_spec(cell.engine)
        if registry.provider_kind(spec) == "service":
            found.setdefault(spec, []).append(cell)
    return found


def find_engines(options: Options, cells: Iterable[Cell]) -> dict[str, EngineProvider]:
    """Return name -> the engines of these cells that can be imported."""
    found: dict[str, EngineProvider] = {}
    for name in sorted({cell.engine for cell in cells}):
        spec = options.engine_spec(name)
        with suppress(ValueError):  # the items say which one cannot be imported
            if registry.provider_kind(spec) == "engine":
                found[name] = registry.load("engine", spec)
    return found


def _find_embedded_precisions(
    session: MeasureSession, cells: Iterable[Cell]
) -> dict[str, tuple[str, ...]]:
    """Return service -> precisions of its embedded server; empty where another one
    answers, whose precision is its own.
    """
    found: dict[str, tuple[str, ...]] = {}
    for spec, own in find_services(session.options, cells).items():
        provider = registry.load("service", spec)
        if session.options.service_urls(spec) or has_server(session, own):
            return {}
        if isinstance(provider, NamesPrecisions):
            found[spec] = provider.embedded_precisions
    return found


def _refuse_unknown_precision(
    options: Options,
    engines: Mapping[str, EngineProvider],
    embedded: Mapping[str, tuple[str, ...]],
) -> None:
    """Raise ``ValueError`` for a precision that none of the providers has."""
    each = {name: engine.precisions for name, engine in engines.items()}
    each.update(embedded)
    legal = {precision for own in each.values() for precision in own}
    if legal and options.precision not in legal:
        raise ValueError(
            f"--mlperf-precision {options.precision}: no precision of "
            f"{' or '.join(each)}; it should be one of {', '.join(sorted(legal))}."
            f"{suggest(str(options.precision), legal)}"
        )


def _refuse_unknown_options(
    options: Options, engines: Mapping[str, EngineProvider | TakesOptions]
) -> None:
    """Raise ``ValueError`` for an engine option that none of the engines takes, and for
    a value that one of them does not.
    """
    given = options.all_engine_options
    known = {
        name: engine.options if isinstance(engine, TakesOptions) else {}
        for name, engine in engines.items()
    }
    legal = {option for own in known.values() for option in own}
    for option in given if engines else ():
        if option not in legal:
            each = (f"{n} takes {', '.join(own) or 'none'}" for n, own in known.items())
            raise ValueError(
                f"--mlperf-engine-options {option}={given[option]}: no engine of this "
                f"session takes {option!r}; {'; '.join(each)}.{suggest(option, legal)}"
            )
    for name, engine in engines.items():
        if isinstance(engine, TakesOptions):
            own = {k: v for k, v in given.items() if k in engine.options}
            try:
                engine.check_options(own)
            except ValueError as error:
                raise ValueError(f"--mlperf-engine-options ({name}): {error}") from None
