"""The package's source, read but not run: modules, imports, definitions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pytest_mlperf"


class Import(NamedTuple):
    """One name that a module imports."""

    name: str
    """In full: ``pytest_mlperf.core.cell.Cell``, ``numpy``."""
    target: str
    """The module that the name is in."""
    line: int
    is_early: bool
    """True where importing the module runs it: not in a function, nor for types."""


@cache
def find_modules() -> dict[str, Path]:
    """Return dotted name -> file of every module of the package, sorted."""
    return {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def name_of(path: Path) -> str:
    """Return the dotted name of a file below the root; a package's without __init__."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def folder_of(module: str) -> str:
    """Return the package's folder that a module is in; empty for the package."""
    return module.split(".")[1] if "." in module else ""


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def read_imports(path: Path) -> tuple[Import, ...]:
    """Return every import of a file, wherever in it."""
    return tuple(_walk(parse(path), is_early=True))


def _walk(node: ast.AST, *, is_early: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, alias.name, node.lineno, is_early)
    if isinstance(node, ast.ImportFrom):
        assert not node.level, f"line {node.lineno}: imports are absolute here"
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            target = full if full in find_modules() else str(node.module)
            yield Import(full, target, node.lineno, is_early)
    is_later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
        isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    )
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, is_early=is_early and not is_later)
