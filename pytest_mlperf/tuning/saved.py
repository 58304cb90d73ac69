"""A run's tuning as a file of its folder: what is compared with it runs just so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytest_mlperf.api.engine import Streams
from pytest_mlperf.core.load_trials import LoadTrial
from pytest_mlperf.core.regular_file import read_text
from pytest_mlperf.tuning.tuned import ServiceTuned
from pytest_mlperf.tuning.tuned import Tuned
from pytest_mlperf.tuning.tuned import TunedLoad

FILE = "tuning.json"


def write(folder: Path, tuned: TunedLoad) -> None:
    """Write ``tuning.json`` into a run's folder."""
    text = json.dumps(asdict(tuned), indent=1) + "\n"
    (folder / FILE).write_text(text, encoding="utf-8")


def read(folder: Path) -> Mapping[str, Any]:
    """Return a run's tuning.

    ``OSError`` or ``ValueError`` where its folder does not say.
    """
    values: Mapping[str, Any] = json.loads(read_text(folder / FILE))
    return values


def engine_tuning(values: Mapping[str, Any]) -> Tuned:
    """Return an engine's tuning from the contents of a ``tuning.json``."""
    given = {**values, "streams": Streams(**values["streams"])}
    preferred = tuple(values["preferred"])
    return Tuned(**{**given, "preferred": preferred, "trials": _read_trials(values)})


def service_tuning(values: Mapping[str, Any]) -> ServiceTuned:
    """Return a service's tuning from the contents of a ``tuning.json``."""
    return ServiceTuned(**{**values, "trials": _read_trials(values)})


def _read_trials(values: Mapping[str, Any]) -> tuple[LoadTrial, ...]:
    # An older version listed none.
    return LoadTrial.read_all(values.get("trials", ()))
