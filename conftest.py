"""Loads the fixtures that wire suites to runners; nothing else."""

from __future__ import annotations

from importlib.util import find_spec

# A wheel carries suites and fixtures inside the package; a clone has them beside it.
HOME = "pytest_mlperf.fixtures" if find_spec("pytest_mlperf.fixtures") else "fixtures"

pytest_plugins = [f"{HOME}.device", f"{HOME}.run", f"{HOME}.submission"]
