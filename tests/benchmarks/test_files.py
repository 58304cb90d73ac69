"""What ships of the stand-ins: every file is one that its manifest records."""

from __future__ import annotations

import hashlib

import pytest

from pytest_mlperf.benchmarks import files

FOLDERS = sorted(path.parent.name for path in files.EMBEDDED.glob("*/manifest.json"))
LARGEST = 20e6
"""Bytes of a stand-in: all of them are in the wheel."""
BESIDE = ("manifest.json", "PROVENANCE.md")


@pytest.mark.parametrize("name", FOLDERS)
def test_the_manifest_covers_every_shipped_file(name: str) -> None:
    """One that nobody recorded could be changed without anybody noticing."""
    folder = files.EMBEDDED / name
    manifest = (folder / "manifest.json").read_text(encoding="utf-8")
    shipped = [p for p in folder.rglob("*") if p.is_file() and p.name not in BESIDE]
    unknown = [
        path.name
        for path in shipped
        if hashlib.sha256(path.read_bytes()).hexdigest() not in manifest
    ]

    assert shipped
    assert unknown == []
    assert sum(path.stat().st_size for path in shipped) < LARGEST


def test_every_stand_in_has_a_manifest() -> None:
    """And says where it comes from."""
    folders = sorted(path for path in files.EMBEDDED.iterdir() if path.is_dir())

    assert [path.name for path in folders] == FOLDERS
    assert [f.name for f in folders if not (f / "PROVENANCE.md").is_file()] == []
