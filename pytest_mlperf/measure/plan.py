"""From a cell and the user's choices to a task that needs nothing looked up."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import fields
from dataclasses import replace
from typing import Any

from pytest_mlperf.api import registry
from pytest_mlperf.api.benchmark import Rehearses
from pytest_mlperf.api.embedded_server import read_variables
from pytest_mlperf.api.engine import ChoosesPrecision
from pytest_mlperf.api.engine import TakesOptions
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.object_ref import ObjectRef
from pytest_mlperf.config.option_types import suggest
from pytest_mlperf.config.options import Options
from pytest_mlperf.core import rounds
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.measure import residency
from pytest_mlperf.measure.cells import installed_benchmarks
from pytest_mlperf.measure.cells import why_not_installed
from pytest_mlperf.measure.folders import logs_folder
from pytest_mlperf.measure.placement import VISIBLE
from pytest_mlperf.measure.placement import Placement
from pytest_mlperf.measure.session import MeasureSession
from pytest_mlperf.runner.messages import ServerSpec
from pytest_mlperf.runner.messages import ServiceSpec
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.service_secrets import hide_secrets
from pytest_mlperf.sut.tuned_load import TunedLoad

STALL_SHARE = 0.75
"""Of --mlperf-stall, after which a silent stream fails: before the watchdog, which
cannot name the request."""
STARTED = ("port", "health", "ready_s", "grace_s")
ASKED = (
    "model", "chat", "balance", "concurrency", "warm_up", "timeout_s", "token_env",
)  # fmt: skip
"""Keys of a system file's ``[server]`` table, by what they are about."""


def plan_task(
    session: MeasureSession,
    placement: Placement,
    cell: Cell,
    mode: Mode,
    name: str,
) -> Task:
    """Return the task of one cell in a mode, on these devices.

    ``name``: the run's, ``performance`` or ``TEST01``, by which its folder is called;
    the folder is not made yet (``make_task_folder``).

    Raises ``RequirementMissing`` for a benchmark that is not installed, and
    ``RunRefused`` for what the machine or the rules do not allow.
    """
    options = session.options
    if why := why_not_installed(cell, options):
        raise RequirementMissing(why)
    spec = options.engine_spec(cell.engine)
    kind = registry.provider_kind(spec)
    service = None
    if kind == "service":
        table = session.system.server.lookup(cell.benchmark, cell.target)
        service = plan_service(options, table, placement, spec)
    tuning = plan_tuning(session, cell)
    return Task(
        cell=cell,
        mode=mode,
        residency=residency.check_residency_allowed(
            options, session.system, cell, placement.count
        ),
        seeds=rounds.get(cell.round).seeds,
        provider=registry.reference(kind, spec),
        benchmark=plan_benchmark(cell, options),
        precision=plan_precision(cell, spec, tuning, service, options),
        folder=logs_folder(session.reports, cell, name),
        workload=options.workload,
        cache=options.cache,
        cpus=placement.cpus,
        device_name=placement.name,
        visible=placement.visible,
        slots=placement.slots if service is None else (),
        scratch=options.scratch,
        tuning=tuning,
        engine_options=plan_engine_options(session, cell, spec),
        shortening=options.shortening,
        time_limit_s=options.run_limit_s,
        service=service,
        tuned=plan_pinned_tuning(session, cell, mode, tuning),
        record=options.query_record == "on",
    )


def plan_pinned_tuning(
    session: MeasureSession, cell: Cell, mode: Mode, given: Tuning
) -> TunedLoad | None:
    """Return the tuning of the run that this one is compared with; None for a probe.

    What the user or the system file says counts more.
    """
    is_given = given != Tuning(precision=given.precision)
    if session.baseline is None or mode is not Mode.PERFORMANCE or is_given:
        return None
    return session.baseline.tuning_of(cell)


def plan_benchmark(cell: Cell, options: Options) -> ObjectRef:
    """Return who opens the cell's workload; of a rehearsal, who makes it up."""
    name = cell.benchmark
    if not options.rehearsal:
        return registry.reference("benchmark", name)
    if name in installed_benchmarks():
        benchmark = registry.benchmark(name)
        if isinstance(benchmark, Rehearses) and benchmark.rehearses:
            return registry.reference("benchmark", name)
    return registry.reference("rehearsal", "synthetic")


def plan_precision(
    cell: Cell,
    spec: str,
    tuning: Tuning,
    service: ServiceSpec | None,
    options: Options,
) -> str:
    """Return the precision that was asked for, else the engine's for the target.

    Empty for a server whose own precision nobody here knows.
    """
    if tuning.precision:
        return tuning.precision
    if service is not None and (service.urls or service.server):
        return ""
    if options.rehearsal and cell.benchmark not in installed_benchmarks():
        default = "fp32"
    else:
        default = registry.benchmark(cell.benchmark).precision(cell.target)
    provider = registry.provider(spec)
    if asked := read_variables(provider, os.environ).get("precision"):
        return asked
    if isinstance(provider, ChoosesPrecision):
        return provider.precision_for.get(default, default)
    return default


def plan_tuning(session: MeasureSession, cell: Cell) -> Tuning:
    """Return the system file's tuning, overridden by the command line."""
    options = session.options
    given: Mapping[str, object] = {}
    if not options.rehearsal:  # what a system file says is of engines that work
        given = session.system.tuning.lookup(
            cell.benchmark, cell.target, cell.scenario, cell.engine
        )
    known = {f.name for f in fields(Tuning)}
    chosen: dict[str, Any] = {k: v for k, v in given.items() if k in known}
    sizes = chosen.get("preferred")
    if isinstance(sizes, list):
        chosen["preferred"] = tuple(sorted(sizes))
    return Tuning(**{**chosen, **options.tuning_for(cell.scenario)})


def plan_engine_options(
    session: MeasureSession, cell: Cell, spec: str
) -> dict[str, str]:
    """Return the engine options that a provider takes: the command line's win over the
    environment variables that it understands, and these over the system file's.

    Raises ``RunRefused`` for an option of the system file that it does not take.
    """
    provider = registry.provider(spec)
    known = provider.options if isinstance(provider, TakesOptions) else {}
    tables = session.system.tuning
    given = tables.options(cell.benchmark, cell.target, cell.scenario, cell.engine)
    for name in given:
        if name not in known:
            raise RunRefused(
                f"{tables.path}: {name!r} among the options of the engine "
                f"{cell.engine}, but it takes {', '.join(known) or 'none'}."
                f"{suggest(name, known)}"
            )
    given |= read_variables(provider, os.environ)
    given |= session.options.all_engine_options
    return {name: text for name, text in given.items() if name in known}


def plan_service(
    options: Options,
    given: Mapping[str, Any],
    placement: Placement,
    engine: str = "",
) -> ServiceSpec:
    """Return where the service is: options win over the system file's table.

    ``engine``: the service's name.
    """
    table = dict(given)
    urls = options.service_urls(engine)
    spec = ServiceSpec(**{key: table[key] for key in ASKED if key in table})
    if "command" in table and not urls:
        command = table["command"]
        words = shlex.split(command) if isinstance(command, str) else command
        visible = placement.environment.get(VISIBLE, "")
        start = {key: table[key] for key in STARTED if key in table}
        spec = replace(spec, server=ServerSpec(tuple(words), visible, **start))
    own: dict[str, Any] = {
        "urls": urls or None,
        "model": options.endpoint_model,
        "chat": options.endpoint_chat or None,
        "balance": options.endpoint_balance,
        "concurrency": options.endpoint_concurrency,
        "timeout_s": options.endpoint_timeout,
        # A started server's own page is asked until it is ready.
        "health": options.endpoint_health or (table.get("health") if urls else None),
        "token_env": options.endpoint_token_env,
        "ca_file": str(options.endpoint_ca) if options.endpoint_ca else None,
    }
    chosen = {name: value for name, value in own.items() if value is not None}
    spec = replace(
        spec, **chosen, stall_s=STALL_SHARE * options.stall,
        over_network=options.division == "network",
    )  # fmt: skip
    hide_secrets(spec)
    return spec
