"""The two JSON files of a submission that say what its runs are."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

LARGEST = 1 << 20
"""Bytes of such a file; an official one has 3 KB."""


def read_category(file: Path) -> str:
    """Return system_type of systems/<system>.json: ``edge``; empty if it has none."""
    found = read_json(str(file)).get("system_type", "")
    return found.strip().lower() if isinstance(found, str) else ""


def read_model_mapping(home: Path) -> dict[str, str]:
    """Return custom model -> official one, from an open submitter's model_mapping.json.

    Empty where there is none.
    """
    found = read_json(str(home / "model_mapping.json"))
    return {name: model for name, model in found.items() if isinstance(model, str)}


@cache
def read_json(file: str) -> dict[str, Any]:
    """Return a JSON object; an empty one for whatever cannot be read as such.

    What is wrong with these files is the submission check's to say.
    """
    try:
        with Path(file).open("rb") as stream:
            found = json.loads(stream.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
