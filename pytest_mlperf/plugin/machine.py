"""The machine and the providers that a user named, or the error in their names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_mlperf.api import registry
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.plugin.usage_errors import as_usage_errors

if TYPE_CHECKING:
    from pytest_mlperf.machine.system import System
    from pytest_mlperf.measure.session import MeasureSession

THREADS_A_CPU = 4
"""Threads of a session for each CPU, at most; more are a slip of the pen."""


def refuse_unknown_providers(options: Options) -> None:
    """Raise ``UsageError`` for an engine or a service that cannot be meant."""
    from pytest_mlperf.measure.cells import check_providers

    with as_usage_errors("--mlperf-engine"):
        check_providers(options)


def detect_machine(options: Options, rootdir: Path) -> System:
    """Return this machine; raises ``UsageError`` for a bad system file or name."""
    from pytest_mlperf.machine.system import detect_system

    with as_usage_errors():
        system = detect_system(
            options.system, rootdir=rootdir, numa_config=options.numa_config
        )
        providers = {*map(registry.short_name, options.engine)}
        providers |= {*registry.provider_names()}
        system.server.check(registry.names("benchmark"))
        system.tuning.check(registry.names("benchmark"), providers)
    return system


def refuse_impossible(
    session: MeasureSession, cells: Sequence[Cell], *, names_engine: bool
) -> None:
    """Raise ``UsageError`` for what the user named and no item can have.

    ``names_engine``: the engine is the user's own choice.
    """
    from pytest_mlperf.measure.named import check_named
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
    with as_usage_errors():
        check_named(session, cells, names_engine=names_engine)
