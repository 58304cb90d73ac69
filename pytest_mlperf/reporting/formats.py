"""Finds the formats that a session is exported to, by listing their folder."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from pytest_mlperf.reporting import exports

SUMMARY = "GITHUB_STEP_SUMMARY"
"""Names the file of a job's summary where GitHub runs it."""


def list_formats() -> list[str]:
    """Return the names of all formats, sorted, without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(exports.__path__))


def choose_exports(formats: Sequence[str]) -> list[str]:
    """Return the formats that a session writes: the named ones, and GitHub's there."""
    always = ["github"] if os.environ.get(SUMMARY) else []
    return list(dict.fromkeys([*formats, *always]))


def load_export(name: str) -> Any:
    """Return the ``Reporter`` of a format."""
    return import_module(f"{exports.__name__}.{name}").REPORTER
