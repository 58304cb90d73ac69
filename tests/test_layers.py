"""Who may import what: the arrows of docs/architecture.md, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_mlperf

PACKAGE = Path(pytest_mlperf.__file__).parent
MODULES = sorted(
    p.relative_to(PACKAGE).as_posix()
    for p in PACKAGE.rglob("*.py")
    if not {"suites", "fixtures"} & set(p.relative_to(PACKAGE).parts)
)
PYTEST_SIDE = {
    "collection.py",
    "ending.py",
    "header.py",
    "options.py",
    "plugin.py",
    "progress.py",
    "selection.py",
    "state.py",
    "summary.py",
    "xdist.py",
}
ENGINE_PACKAGES = {
    "ml_dtypes",
    "onnx",
    "onnxruntime",
    "pycuda",
    "tensorrt",
    "tensorrt_rtx",
    "tensorrt_rtx_bindings",
    "torch",
    "tritonclient",
}


def imports(module: str, *, top: bool = False) -> Iterator[str]:
    """Yield the dotted names a module imports; ``top``: not inside functions."""
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if top and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: imports are absolute here"
            yield node.module or ""
        stack.extend(ast.iter_child_nodes(node))


def roots(module: str, *, top: bool = False) -> set[str]:
    return {name.partition(".")[0] for name in imports(module, top=top)}


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("core/")])
def test_core_imports_the_standard_library_and_itself(module: str) -> None:
    """The judge runs anywhere: no pytest, no LoadGen, no numpy."""
    foreign = roots(module) - sys.stdlib_module_names - {"pytest_mlperf"}
    ours = {n for n in imports(module) if n.startswith("pytest_mlperf")}

    assert foreign == set()
    assert {n for n in ours if not n.startswith("pytest_mlperf.core")} == set()


def test_loadgen_is_imported_in_one_module() -> None:
    """LoadGen's edges are met in one place."""
    found = {m for m in MODULES if "mlperf_loadgen" in roots(m)}

    assert found == {"loadgen.py"}


def test_pytest_is_imported_on_the_plugins_side_alone() -> None:
    """What measures and judges can be used and tested without pytest."""
    found = {m for m in MODULES if "pytest" in roots(m)}

    assert found <= PYTEST_SIDE | {m for m in MODULES if m.startswith("reporting/")}


@pytest.mark.parametrize("module", MODULES)
def test_engine_packages_are_imported_inside_functions(module: str) -> None:
    """Collection works where no engine is installed."""
    found = roots(module, top=True) & ENGINE_PACKAGES

    assert found == set()


def test_kernels_are_imported_inside_functions() -> None:
    """Triton compiles from source: its kernels stand at the top of modules of their
    own, which nothing imports before there is a device.
    """
    kernels = {m for m in MODULES if "triton" in roots(m, top=True)}
    names = {m.rpartition("/")[2].removesuffix(".py") for m in kernels}
    early = {
        module
        for module in MODULES
        for node in ast.parse((PACKAGE / module).read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        and names & {part for a in node.names for part in a.name.split(".")}
    }

    assert len(kernels) == 3
    assert early == set()


def test_importing_the_plugin_loads_nothing_heavy() -> None:
    """``pytest --version`` pays nothing for the plugin being installed."""
    heavy = {"numpy", "mlperf_loadgen", "onnxruntime", "onnx", "PIL", "tokenizers"}
    code = (
        f"import sys, pytest_mlperf.plugin.hooks; print({heavy!r} & set(sys.modules))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert out.stdout.strip() == "set()"
