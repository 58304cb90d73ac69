"""A run's tuning as a file of its folder: what is compared with it runs just so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytest_mlperf.api.engine import Streams
from pytest_mlperf.tuning.server_load import Tuned
from pytest_mlperf.tuning.service_probe import Load

FILE = "tuning.json"


def write(folder: Path, tuned: Tuned | Load) -> None:
    """Write ``tuning.json`` into a run's folder."""
    text = json.dumps(asdict(tuned), indent=1) + "\n"
    (folder / FILE).write_text(text, encoding="utf-8")


def tuned_as(kept: Mapping[str, Any]) -> Tuned:
    """Return the tuning of the contents of a ``tuning.json``."""
    given = {**kept, "streams": Streams(**kept["streams"])}
    return Tuned(**{**given, "preferred": tuple(kept["preferred"])})
