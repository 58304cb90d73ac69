"""How the tests of ``pytest-mlperf explain`` call it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.commands import main

Capture = pytest.CaptureFixture[str]
SAME: dict[str, object] = {
    "effective_performance_issue_same": True,
    "effective_performance_issue_same_index": 3,
}
WARNED = ["Found Audit Config file (audit.config). Overriding TestSettings"]


def run_of(root: Path, scenario: str = "Offline", model: str = "resnet50") -> Path:
    """Return where a run lies in a tree of results."""
    return root / model / scenario / "performance" / "run_1"


def explain_json(capsys: Capture, *words: object) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit code and the JSON list of one call."""
    code = main.main(["explain", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def explain_text(capsys: Capture, *words: object) -> tuple[int, str]:
    """Return the exit code and what people read."""
    code = main.main(["explain", *map(str, words)])
    return code, capsys.readouterr().out
