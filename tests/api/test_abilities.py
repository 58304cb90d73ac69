"""What only some engines, streams or services can do: a protocol, never a guess."""

from __future__ import annotations

import ast

from tests.support.source import find_modules
from tests.support.source import folder_of
from tests.support.source import parse

FOLDERS = {"run", "measure", "runner", "sut", "tuning"}


def test_nothing_looks_for_an_attribute_by_its_name() -> None:
    """Mypy sees an ``isinstance`` of a protocol; it does not see ``hasattr``."""
    wrong = [
        f"{module}:{call.lineno}: {ast.unparse(call)}"
        for module, path in find_modules().items()
        if folder_of(module) in FOLDERS
        for call in ast.walk(parse(path))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and (
            call.func.id == "hasattr"
            or (call.func.id == "getattr" and len(call.args) == 3)
        )
    ]

    assert wrong == []
