"""Where suites and fixtures are: in a wheel, or beside the package in a clone."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from importlib.util import module_from_spec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from pytest_mlperf.core.session_results import Record

PACKAGE = Path(__file__).resolve().parents[1]
FIXTURES = "pytest_mlperf.fixtures"
SUITES = "pytest_mlperf.suites"
"""As --pyargs names them."""
BAD = ("failed", "error")
MODULES = ("device", "run", "submission")


def find_home() -> Path:
    """Return the folder that has ``fixtures`` and ``suites``."""
    return PACKAGE if (PACKAGE / "fixtures").is_dir() else PACKAGE.parent


def is_bare_suite(path: Path) -> bool:
    """Return whether a path is the suite of the bare engines, which is shipped too."""
    return path == find_home() / "suites" / "test_bare.py"


def is_deployment_suite(path: Path) -> bool:
    """Return whether a path is the suite of deployments, which repeats accuracy."""
    return path == find_home() / "suites" / "test_deployment.py"


def explain_ids(config: pytest.Config, records: Sequence[Record]) -> list[str]:
    """Return how to select an item of the installed suites that did not pass.

    The ids that pytest prints of a module outside its root name no file.
    """
    if not any(argument.startswith(SUITES) for argument in config.args):
        return []
    for record in records:
        file, _, item = record.nodeid.partition("::")
        if record.outcome in BAD and not (config.rootpath / file).exists():
            name = shlex.quote(f"{SUITES}.{Path(file).stem}::{item}")
            line = (
                f"again: pytest --pyargs {name} and the same options; all that failed"
            )
            return [f"{line}: the same command and --lf"]
    return []


def register_fixtures(manager: pytest.PytestPluginManager) -> None:
    """Make the fixtures known, wherever the tests lie that ask for them."""
    folder = find_home() / "fixtures"
    _load(FIXTURES, folder / "__init__.py", [str(folder)])
    for name in MODULES:
        full = f"{FIXTURES}.{name}"
        manager.register(_load(full, folder / f"{name}.py"), f"mlperf-{name}")


def _load(name: str, path: Path, search: list[str] | None = None) -> ModuleType:
    """Import a module by its file; a clone's is no part of the package's folder."""
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path, submodule_search_locations=search)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
