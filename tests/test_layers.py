"""Who may import what: the table of docs/architecture.md, held to the source.

Imports inside functions and for types alone count too, and there are no exceptions.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError
from graphlib import TopologicalSorter

import pytest

from tests.support.source import PACKAGE
from tests.support.source import ROOT
from tests.support.source import find_modules
from tests.support.source import folder_of
from tests.support.source import read_imports

MODULES = list(find_modules())
WINGS = {"engines", "services", "benchmarks"}
LIGHT = {"filelock", "mlperf_loadgen", "numpy", "pytest", "pytest_mlperf"}
"""What the package cannot be installed without."""
COMPILED = {"kernels": "triton", "scripted_calls": "torch"}
"""Modules whose functions a package compiles from source, and looks their names up in
the module -> that package."""


def read_layers() -> dict[str, int]:
    """Return folder -> rank, from the rows of the documented table."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| ((?:`\w+`(?:, )?)+) \|", text, re.MULTILINE)
    return {
        folder: int(rank)
        for rank, folders in rows
        for folder in re.findall(r"\w+", folders)
    }


def find_arrows() -> Iterator[tuple[str, str, str]]:
    """Yield (importer, imported, place) of every import of our own modules."""
    for module, path in find_modules().items():
        for one in read_imports(path):
            if one.target in find_modules():
                yield module, one.target, f"{path.relative_to(ROOT)}:{one.line}"


def roots_of(module: str, *, early: bool = False) -> set[str]:
    """Return the packages that a module imports; ``early``: as it is imported."""
    return {
        one.target.partition(".")[0]
        for one in read_imports(find_modules()[module])
        if one.is_early or not early
    }


def test_every_module_is_in_a_layer() -> None:
    """A folder that the table does not name would be held to nothing."""
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}

    assert folders == set(read_layers())
    assert [path.name for path in PACKAGE.glob("*.py")] == ["__init__.py"]


def test_arrows_go_down_only() -> None:
    """A folder imports itself and lower ones; none of its own rank."""
    rank = read_layers()
    wrong = [
        f"{place}: {module} imports {target}"
        for module, target, place in find_arrows()
        if folder_of(module) != folder_of(target)
        and rank[folder_of(module)] <= rank[folder_of(target)]
    ]

    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Inside a folder, too, a module can be read before those that import it."""
    graph: dict[str, set[str]] = {}
    for module, target, _ in find_arrows():
        graph.setdefault(module, set()).add(target)
    circle: list[str] = []
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]

    assert circle == []


def test_wings_are_imported_by_nobody_else() -> None:
    """Engines, services and benchmarks are found by entry point, as others' are."""
    wrong = [
        f"{place}: {module} imports {target}"
        for module, target, place in find_arrows()
        if folder_of(target) in WINGS and folder_of(target) != folder_of(module)
    ]

    assert wrong == []


@pytest.mark.parametrize("module", [m for m in MODULES if folder_of(m) == "core"])
def test_core_imports_the_standard_library_and_itself(module: str) -> None:
    """The judge runs anywhere: no pytest, no LoadGen, no numpy."""
    foreign = roots_of(module) - sys.stdlib_module_names - {"pytest_mlperf"}

    assert foreign == set()


def test_loadgen_is_imported_in_sut_alone() -> None:
    """LoadGen's edges are met in one place."""
    found = {folder_of(m) for m in MODULES if "mlperf_loadgen" in roots_of(m)}

    assert found == {"sut"}


def test_pytest_is_imported_in_plugin_alone() -> None:
    """What measures and judges can be used and tested without pytest."""
    theirs = {"pytest", "_pytest", "pluggy", "xdist"}
    found = {folder_of(m) for m in MODULES if theirs & roots_of(m)}

    assert found == {"plugin"}


@pytest.mark.parametrize("module", MODULES)
def test_heavy_packages_are_imported_inside_functions(module: str) -> None:
    """Collection works where no engine and no benchmark's package is installed."""
    heavy = roots_of(module, early=True) - sys.stdlib_module_names - LIGHT
    allowed = COMPILED.get(module.rpartition(".")[2], "")

    assert heavy <= {allowed}


def test_kernels_are_imported_inside_functions() -> None:
    """Nothing compiles a kernel before there is a device."""
    early = [
        f"{path.relative_to(ROOT)}:{one.line}"
        for path in find_modules().values()
        for one in read_imports(path)
        if one.is_early and one.target.rpartition(".")[2] in COMPILED
    ]

    assert early == []


def test_importing_the_plugin_loads_nothing_heavy() -> None:
    """``pytest --version`` pays nothing for the plugin being installed."""
    heavy = {root for module in MODULES for root in roots_of(module)}
    heavy -= {*sys.stdlib_module_names, "pytest", "pytest_mlperf"}
    code = (
        f"import sys, pytest_mlperf.plugin.hooks; print({heavy!r} & set(sys.modules))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert {"mlperf_loadgen", "numpy", "onnxruntime", "torch"} <= heavy
    assert out.stdout.strip() == "set()"


def test_no_test_module_imports_another() -> None:
    """What several tests need is in tests/support."""
    wrong = [
        f"{path.relative_to(ROOT)}:{one.line}: {one.name}"
        for path in (ROOT / "tests").rglob("*.py")
        for one in read_imports(path)
        if re.match(r"tests\.(\w+\.)*test_", one.name)
    ]

    assert wrong == []
