"""Packages of the extra ``recommender``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pytest_mlperf.api.errors import RequirementMissing


def import_package(name: str, database: str) -> Any:
    """Return a package; ``RequirementMissing`` names the extra that has it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise RequirementMissing(
            f"the package {name} is not installed, and rows cannot be kept in "
            f"{database} without it; pip install 'pytest-mlperf[recommender]'."
        ) from error
