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
from pytest_mlperf.sut.tuned_load import ServiceTuned
from pytest_mlperf.sut.tuned_load import Tuned
from pytest_mlperf.sut.tuned_load import TunedLoad

FILE = "tuning.json"


def write(folder: Path, tuned: TunedLoad) -> None:
    """Write ``tuning.json`` into a run's folder."""
    text = json.dumps(asdict(tuned), indent=1) + "\n"
    (folder / FILE).write_text(text, encoding="utf-8")


def read(folder: Path) -> TunedLoad:
    """Return a run's tuning.

    ``OSError`` or ``ValueError`` where its folder does not say.
    """
    return from_values(json.loads(read_text(folder / FILE)))


def from_values(values: Mapping[str, Any]) -> TunedLoad:
    """Return the tuning that the contents of a ``tuning.json`` are: an engine's has
    streams. ``ValueError`` for what is none.
    """
    try:
        # An older version listed none.
        trials = LoadTrial.read_all(values.get("trials", ()))
        if "streams" not in values:
            return ServiceTuned(**{**values, "trials": trials})
        return Tuned(
            **{
                **values,
                "streams": Streams(**values["streams"]),
                "preferred": tuple(values["preferred"]),
                "trials": trials,
            }
        )
    except (AttributeError, KeyError, TypeError) as error:
        text = f"{type(error).__name__}: {error}"
        raise ValueError(f"no tuning of this version ({text})") from error
