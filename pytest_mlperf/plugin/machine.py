"""The machine and the providers that a user named, or the error in their names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_mlperf.api import registry
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.errors import RunRefused

if TYPE_CHECKING:
    from pytest_mlperf.machine.system import System
    from pytest_mlperf.measure.session import MeasureSession


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


def refuse_too_many_devices(session: MeasureSession) -> None:
    """Raise ``UsageError`` where no item can have the devices that all are to."""
    from pytest_mlperf.measure.placement import place

    try:
        place(session, session.options.devices_per_item or 1)
    except RunRefused as error:
        raise pytest.UsageError(str(error)) from None
