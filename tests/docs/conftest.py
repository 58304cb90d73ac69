"""A user's folder and the packages that the pages of docs/ show."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.documents import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty working directory, outside the clone, and a place for packages."""
    home, site = tmp_path / "home", tmp_path / "site"
    home.mkdir()
    site.mkdir()
    return Project(home, site)
