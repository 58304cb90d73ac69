"""The one opener: what it opens, and that nothing of a tree is opened otherwise."""

from __future__ import annotations

import ast
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_mlperf.core.regular_file import identify_file
from pytest_mlperf.core.regular_file import is_below
from pytest_mlperf.core.regular_file import open_regular
from pytest_mlperf.core.regular_file import read_text
from tests.support.source import PACKAGE
from tests.support.source import find_modules
from tests.support.source import parse


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with a file in it and a file beside it."""
    root = tmp_path / "tree"
    (root / "folder").mkdir(parents=True)
    (root / "folder" / "file").write_text("mine")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("secret")
    return root


def make_linked_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


ODD: dict[str, Callable[[Path], None]] = {
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "nowhere": lambda path: path.symlink_to("nowhere"),
    "itself": lambda path: path.symlink_to(path.name),
    "pipe by a link": make_linked_pipe,
}


@pytest.mark.parametrize("is_rooted", [False, True])
@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_regular_file_is_an_error_and_no_wait(
    tree: Path, kind: str, *, is_rooted: bool
) -> None:
    """With a root and without."""
    path = tree / "odd"
    ODD[kind](path)

    with pytest.raises(OSError, match=r"odd|nowhere"):
        open_regular(path, tree if is_rooted else None)


@pytest.mark.parametrize(
    "target", ["../outside/file", "/etc/hostname", "folder/../../outside/file"]
)
def test_a_link_out_of_the_tree_is_not_followed(tree: Path, target: str) -> None:
    """However it is spelled."""
    (tree / "link").symlink_to(target)

    with pytest.raises(OSError, match="leaves the tree"):
        open_regular(tree / "link", tree)


def test_a_folder_that_is_a_link_is_not_followed_out(tree: Path) -> None:
    """Nor is a path with dots in it."""
    (tree / "way").symlink_to("../outside")

    for path in (tree / "way" / "file", tree / "folder" / "../../outside/file"):
        with pytest.raises(OSError, match="leaves the tree"):
            open_regular(path, tree)
    assert not is_below(tree / "way", tree)


def test_links_inside_a_tree_are_followed(tree: Path, tmp_path: Path) -> None:
    """By file and by folder, and where the root itself is a link."""
    (tree / "link").symlink_to("folder/file")
    (tree / "way").symlink_to("folder")
    (tmp_path / "latest").symlink_to("tree")

    for path in ("link", "way/file", "folder/file"):
        assert read_text(tree / path, tree) == "mine"
        assert read_text(tmp_path / "latest" / path, tmp_path / "latest") == "mine"


def test_a_file_that_was_replaced_is_another_file(tree: Path) -> None:
    """With the same name, size and content."""
    path = tree / "folder" / "file"
    listed = identify_file(path.stat())
    with open_regular(path, tree, listed=listed) as file:
        assert file.read() == b"mine"
    path.rename(tree / "before")
    path.write_text("mine")

    with pytest.raises(OSError, match="changed since it was listed"):
        open_regular(path, tree, listed=listed)


def test_a_text_is_not_read_without_an_end(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of gigabytes where a verdict belongs."""
    monkeypatch.setattr("pytest_mlperf.core.regular_file.LARGEST_TEXT", 3)

    with pytest.raises(OSError, match="more than 3 bytes"):
        read_text(tree / "folder" / "file")


OWN = {
    "core/published.py",
    "core/redaction.py",
    "core/regular_file.py",
    "submission/pack.py",
    "submission/encryption.py",
    "submission/checkers.py",
    "submission/tree.py",
}
"""The opener, and what opens files that the program itself brings or has just written,
or that the user named."""


def is_other_opener(node: ast.AST) -> bool:
    """True for a call that reads a file by itself."""
    if not isinstance(node, ast.Call):
        return False
    text = ast.unparse(node.func)
    mode = (
        node.args[0].value
        if node.args and isinstance(node.args[0], ast.Constant)
        else "rb"
    )
    if text.endswith(".open") and "listing" not in text and text != "self.open":
        return mode in ("r", "rb")
    return text == "open" or text.endswith((".read_text", ".read_bytes"))


def test_nothing_of_a_tree_is_opened_by_another_opener() -> None:
    """In the layers that read trees: no ``open``, ``read_text`` or ``read_bytes``."""
    found = []
    for module in find_modules().values():
        path = module.relative_to(PACKAGE).as_posix()
        if path.startswith(("core/", "submission/")) and path not in OWN:
            calls = filter(is_other_opener, ast.walk(parse(module)))
            found += [f"{path}: {ast.unparse(call)[:60]}" for call in calls]

    assert found == []


@pytest.mark.parametrize(
    ("code", "is_other"),
    [
        ("path.open('rb')", True), ("(root / name).open()", True), ("open(x)", True),
        ("path.read_text()", True), ("listing.open(path)", False),
        ("tree.listing.open(path)", False), ("path.open('wb')", False),
        ("read_text(path)", False),
    ],
)  # fmt: skip
def test_another_opener_is_recognized(code: str, *, is_other: bool) -> None:
    """The test above can fail."""
    assert is_other_opener(ast.parse(code, mode="eval").body) is is_other
