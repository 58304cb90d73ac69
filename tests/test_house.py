"""The house rules of CONTRIBUTING.md, held to the source: names and sizes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.support.slow_files import SLOW_FILES
from tests.support.source import ROOT
from tests.support.source import find_modules
from tests.support.source import parse

MOST_LINES = {"file": 350, "class": 200, "function": 60}
IRREGULAR = {
    "begun", "bound", "built", "chosen", "done", "drawn", "found", "given", "gone",
    "heard", "held", "hidden", "kept", "known", "left", "lost", "made", "meant", "met",
    "said", "sent", "shown", "spent", "taken", "told", "understood", "written",
}  # fmt: skip
NOUNS = {"embed", "exceed", "feed", "need", "proceed", "seed", "speed"}
"""Words that end like a participle and are none."""
OUTSIDE = {
    "appraise", "copying", "ending", "errand", "evidence", "gate", "hints", "inquiry",
    "kept", "neighbours", "orders", "said", "seat", "seats", "slice", "surroundings",
    "told", "untold", "wish", "wished", "workbench", "workplace",
}  # fmt: skip
"""Private words: each has a name in the vocabulary of docs/architecture.md."""
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def find_definitions(*, is_nested: bool = True) -> Iterator[tuple[str, Definition]]:
    """Yield (place, definition) of every class and function; or of outermost ones."""
    for path in find_modules().values():
        tree = parse(path)
        for node in ast.walk(tree) if is_nested else tree.body:
            if isinstance(node, Definition):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def is_participle(name: str) -> bool:
    """Return whether a name is one word that says what became of something."""
    word = name.strip("_")
    if "_" in word or word in NOUNS:
        return False
    return word in IRREGULAR or (len(word) > 3 and word.endswith("ed"))


def count_lines(node: Definition) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def test_a_public_class_name_is_used_once() -> None:
    """Whoever searches for a class finds one."""
    places: dict[str, list[str]] = {}
    for place, node in find_definitions(is_nested=False):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            places.setdefault(node.name, []).append(place)

    assert [found for found in places.values() if len(found) > 1] == []


def test_functions_are_verbs() -> None:
    """``run_task()`` acts; ``judged()`` does not say so."""
    wrong = [
        place
        for place, node in find_definitions(is_nested=False)
        if not isinstance(node, ast.ClassDef) and is_participle(node.name)
    ]

    assert wrong == []


def test_names_are_words_of_the_vocabulary() -> None:
    """No word that only its author knows."""
    wrong = [
        place
        for place, node in find_definitions()
        if OUTSIDE & {w.lower() for w in re.findall(r"[A-Z]?[a-z]+", node.name)}
    ]

    assert wrong == []


def test_files_are_short() -> None:
    """A file that is longer has two subjects."""
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
        for path in find_modules().values()
    }

    assert {k: n for k, n in sizes.items() if n > MOST_LINES["file"]} == {}


def test_the_slow_files_are_there() -> None:
    """Several workers begin with them; a moved one would be begun with last."""
    missing = [name for name in SLOW_FILES if not (ROOT / "tests" / name).is_file()]

    assert missing == []


def test_classes_and_functions_are_short() -> None:
    """One is read on two screens, the other on one."""
    long = {}
    for place, node in find_definitions():
        kind = "class" if isinstance(node, ast.ClassDef) else "function"
        if (lines := count_lines(node)) > MOST_LINES[kind]:
            long[place] = lines

    assert long == {}
