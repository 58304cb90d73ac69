"""Trees that nothing is wrong with, and copies of them that may be changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import trees
from tests.support.power_sessions import make_tree
from tests.support.tree_changes import BERT


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bert-99 on an edge system, v6.1, closed."""
    return trees.make(tmp_path_factory.mktemp("trees") / "v6.1", "v6.1", BERT)


@pytest.fixture(scope="session")
def powered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with power measured in Offline."""
    return make_tree(tmp_path_factory.mktemp("powered") / "v6.1", "v6.1")


@pytest.fixture
def tree(original: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(original, tmp_path / "tree"))
