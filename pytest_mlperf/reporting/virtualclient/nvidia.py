"""Reads the summaries that NVIDIA's harness leaves under ``build/logs``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_mlperf.reporting.virtualclient.results import AccuracyValue
from pytest_mlperf.reporting.virtualclient.results import ConfigResult

ACCURACY, PERFORMANCE = "accuracy_summary.json", "perf_harness_summary.json"
METADATA = "metadata.json"
NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
FIGURES = re.compile(rf"(\w+)\s*=\s*({NUMBER})")
KEY = re.compile(rf"([\w.]+)\s*:\s*({NUMBER})")


def find_summaries(folder: Path) -> list[Path]:
    """Return the summary files of a tree, sorted."""
    names = (ACCURACY, PERFORMANCE, METADATA)
    return sorted(path for path in folder.rglob("*.json") if path.name in names)


def read_summary(path: Path) -> list[ConfigResult]:
    """Return the runs of a summary file, by its name.

    An entry of a run that was not made (``AccuracyOnly`` beside performance) is left
    out. ``ValueError`` for any other entry without a result, with file and entry.
    """
    readers: dict[str, Callable[[str, str, str], ConfigResult | None]] = {
        ACCURACY: _read_accuracy, PERFORMANCE: _read_performance
    }  # fmt: skip
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: an object is needed, found {type(data).__name__}")
    if path.name == METADATA:
        return [_read_metadata(path, data)]
    return list(_read_entries(path, data, readers[path.name]))


def _read_entries(
    path: Path,
    data: dict[str, Any],
    read: Callable[[str, str, str], ConfigResult | None],
) -> Iterator[ConfigResult]:
    for config_name, models in data.items():
        if not isinstance(models, dict):
            raise ValueError(
                f"{path}: {config_name} is {models!r}, and should be an object of "
                "benchmark and text"
            )
        for model, text in models.items():
            try:
                result = read(config_name, model, str(text))
            except ValueError as error:
                where = f"{path}: {config_name}, {model}"
                raise ValueError(f"{where}: {error}, found {text!r}") from None
            if result:
                yield result


def _read_accuracy(config_name: str, model: str, text: str) -> ConfigResult | None:
    if "No accuracy results" in text:
        return None
    if ("PASSED" in text) == ("FAILED" in text):
        raise ValueError("PASSED or FAILED is needed")
    is_passed = "PASSED" in text
    figures = {name: float(value) for name, value in FIGURES.findall(text)}
    accuracy: tuple[AccuracyValue, ...] = ()
    if len(figures) == 2 and "Threshold" in figures:
        threshold = figures.pop("Threshold")
        ((_, value),) = figures.items()
        accuracy = (AccuracyValue("", value, threshold, is_passed),)
    return ConfigResult(model, config_name, _scenario_of(config_name),
                     is_passed=is_passed, accuracy=accuracy)  # fmt: skip


def _read_performance(config_name: str, model: str, text: str) -> ConfigResult | None:
    if "Cannot find performance result" in text:
        return None
    if "VALID" not in text:
        raise ValueError("VALID or INVALID is needed")
    found = KEY.search(text)
    return ConfigResult(
        model, config_name, _scenario_of(config_name), is_valid="INVALID" not in text,
        performance=(found[1], float(found[2])) if found else None,
    )  # fmt: skip


def _read_metadata(path: Path, data: dict[str, Any]) -> ConfigResult:
    try:
        config_name, full = str(data["config_name"]), str(data["benchmark_full"])
        model = str(data.get("benchmark_short") or full.removesuffix("-99.9"))
        model = model.removesuffix("-99")
        scenario = str(data.get("scenario") or _scenario_of(config_name))
        if data["test_mode"] == "AccuracyOnly":
            values = tuple(
                AccuracyValue(str(one["name"]), float(one["value"]),
                              float(one["threshold"]), bool(one["pass"]))
                for one in data["accuracy"]
            )  # fmt: skip
            passed = bool(values) and all(one.is_passed for one in values)
            return ConfigResult(model, config_name, scenario, full, passed, values)
        key = str(data["scenario_key"])
        return ConfigResult(
            model, config_name, scenario, full,
            is_valid=data["result_validity"] == "VALID",
            performance=(key, float(data[key])) if key in data else None,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: {what}; should be metadata of one run") from None


def _scenario_of(config_name: str) -> str:
    return config_name.rpartition("-")[2]
