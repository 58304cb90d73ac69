"""The two JSON files of a submission that say what its runs are."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from pytest_mlperf.core.regular_file import open_regular

LARGEST = 1 << 20
"""Bytes of such a file; an official one has 3 KB."""


def read_category(home: Path, system: str) -> str:
    """Return system_type of systems/<system>.json: ``edge``; empty if it has none."""
    found = read_json(home / "systems" / f"{system}.json", home).get("system_type", "")
    return found.strip().lower() if isinstance(found, str) else ""


def read_model_mapping(home: Path) -> dict[str, str]:
    """Return custom model -> official one, from an open submitter's model_mapping.json.

    Empty where there is none.
    """
    found = read_json(home / "model_mapping.json", home)
    return {name: model for name, model in found.items() if isinstance(model, str)}


@cache
def read_json(file: Path, home: Path) -> dict[str, Any]:
    """Return a JSON object; an empty one for whatever cannot be read as such.

    ``home`` is the submitter's folder. Its divisions may share a file by a link; a link
    that leads further is not followed. What is wrong with these files is the submission
    check's to say.
    """
    try:
        with open_regular(file, home.parent.parent) as stream:
            found = json.loads(stream.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
