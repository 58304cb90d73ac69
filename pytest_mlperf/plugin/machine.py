"""The machine and the providers that a user named, or the error in their names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_mlperf.api import registry
from pytest_mlperf.config.option_types import suggest
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.errors import RunRefused

if TYPE_CHECKING:
    from pytest_mlperf.machine.system import System
    from pytest_mlperf.measure.session import MeasureSession

THREADS_A_CPU = 4
"""Threads of a session for each CPU, at most; more are a slip of the pen."""


def refuse_unknown_providers(options: Options) -> None:
    """Raise ``UsageError`` for an engine or a service that cannot be meant."""
    from pytest_mlperf.measure.cells import check_providers

    try:
        check_providers(options)
    except ValueError as error:
        raise pytest.UsageError(f"--mlperf-engine: {error}") from None


def detect_machine(options: Options, rootdir: Path) -> System:
    """Return this machine; raises ``UsageError`` for a bad system file or name."""
    from pytest_mlperf.machine.system import detect_system

    try:
        system = detect_system(
            options.system, rootdir=rootdir, numa_config=options.numa_config
        )
        providers = {*map(registry.short_name, options.engine)}
        providers |= {*registry.provider_names()}
        system.server.check(registry.names("benchmark"))
        system.tuning.check(registry.names("benchmark"), providers)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    return system


def refuse_impossible(session: MeasureSession, cells: Iterable[Cell]) -> None:
    """Raise ``UsageError`` for what the user named and no item can have."""
    from pytest_mlperf.measure.placement import place

    options = session.options
    try:
        place(session, options.devices_per_item or 1)
    except RunRefused as error:
        raise pytest.UsageError(str(error)) from None
    if options.workload == "official" and not Path(options.scratch or "").is_dir():
        raise pytest.UsageError(
            f"{options.scratch}: no such folder, but --mlperf-scratch (or "
            "MLPERF_SCRATCH_PATH) names the folder of official models and data; "
            "correct it, or choose --mlperf-workload embedded"
        )
    most = THREADS_A_CPU * len(os.sched_getaffinity(0))
    if options.threads and options.threads > most:
        raise pytest.UsageError(
            f"--mlperf-threads {options.threads}: this machine gives {most} at most, "
            f"{THREADS_A_CPU} for each of its CPUs; ask for as many threads as CPUs, "
            "or leave the option out and have the probe find them"
        )
    if options.precision:
        _refuse_unknown_precision(options, {cell.engine for cell in cells})


def _refuse_unknown_precision(options: Options, engines: Iterable[str]) -> None:
    """Raise ``UsageError`` for a precision that none of the engines has."""
    specs = [options.engine_spec(name) for name in engines]
    specs = [spec for spec in specs if registry.provider_kind(spec) == "engine"]
    try:
        legal = {p for spec in specs for p in registry.load("engine", spec).precisions}
    except ValueError:
        return  # the items say which engine cannot be imported
    if legal and options.precision not in legal:
        raise pytest.UsageError(
            f"--mlperf-precision {options.precision}: none of {', '.join(engines)} has "
            f"it; it should be one of {', '.join(sorted(legal))}."
            f"{suggest(str(options.precision), legal)}"
        )
