"""The options that repeat a session's runs, as a submission's README lists them."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_mlperf.config.options import Options
    from pytest_mlperf.machine.system import System

_NAMES = """
    fast rehearsal engine round scratch workload system reports cache progress stall
    build_timeout submission tree division category checker
    benchmark accuracy_target scenario mode
"""
_LEFT_OUT = frozenset(_NAMES.split())
"""Options that do not change how a run behaves, or are written separately below."""


def list_options(options: Options, system: System) -> list[str]:
    """Return the options that make a run behave as it did in this session."""
    words = [f"--mlperf-round={options.round}"]
    if options.rehearsal:
        words.append("--mlperf-rehearsal")
    else:
        words += [f"--mlperf-engine={name}" for name in options.engine]
        words.append(f"--mlperf-workload={options.workload}")
    words += ["--mlperf-fast"] * options.fast
    words += [f"--mlperf-system={system.name}"] * system.registered
    for option in fields(options):
        value = getattr(options, option.name)
        if option.name in _LEFT_OUT or value in (None, option.default):
            continue
        words.append(options.format(option.name))
    return words
