"""Metrics of BERT training (MLPerf Training): from stdout and ``:::MLLOG`` lines."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlperf.reporting.virtualclient.metric import Relativity
from pytest_mlperf.reporting.virtualclient.metric import VirtualClientMetric

EXTRA = "pip install 'pytest-mlperf[training]'"
RULESET = "2.1.0"
"""mlperf-logging reads a line alike for every round; this one's keys it knows."""
NUMBER = r"([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"
LAST_ACCURACY = re.compile(
    rf"'eval_mlm_accuracy':\s*{NUMBER}\s*\}}\s*\n(?:.*\n)?\(.*'final_loss'"
)
"""The last evaluation: the one that the final loss follows."""
TIMES = {
    "e2e_time": ("s", Relativity.LOWER),
    "training_sequences_per_second": ("", Relativity.HIGHER),
    "final_loss": ("", Relativity.LOWER),
    "raw_train_time": ("s", Relativity.LOWER),
}
"""Name -> unit and which way it is better. NVIDIA's logs have 0 for the loss."""
SUCCESS = "success"
CONFIG = re.compile(
    r"config_(?P<system>[A-Za-z0-9]+)_(?P<nodes>\d+)x(?P<gpus>\d+)x(?P<batch>\d+)"
    r"x(?P<accumulation>\d+)(?:_(?P<kind>\w+))?\.sh"
)


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """What the name of a configuration file says: ``config_DGXA100_1x8x56x1.sh``."""

    system: str
    nodes: int
    gpus: int
    """Of each node."""
    batch: int
    """Of each GPU."""
    accumulation: int
    """Steps of gradient accumulation."""
    kind: str = ""
    """``pack`` in ``config_DGXA100_512x8x2x1_pack.sh``."""

    @classmethod
    def parse(cls, name: str) -> TrainingConfig:
        """Read a file's name; ``ValueError`` for another grammar."""
        found = CONFIG.fullmatch(name)
        if not found:
            raise ValueError(
                f"{name!r} is no configuration of BERT training: it should be "
                "config_SYSTEM_NODESxGPUSxBATCHxACCUMULATION.sh"
            )
        return cls(
            found["system"],
            int(found["nodes"]),
            int(found["gpus"]),
            int(found["batch"]),
            int(found["accumulation"]),
            found["kind"] or "",
        )

    @property
    def model(self) -> str:
        """VirtualClient's scenario."""
        return name_model(self.batch, self.gpus * self.nodes)


def name_model(batch: int, gpus: int) -> str:
    """Return VirtualClient's scenario of a training run."""
    return f"training-mlperf-bert-batchsize-{batch}-gpu-{gpus}"


@dataclass(frozen=True, slots=True)
class TrainingLog:
    """What one run's log says."""

    path: Path
    values: dict[str, float]
    """The five metrics that the log has; means where ranks repeat one."""
    time_to_train_s: float | None
    """From ``run_start`` to ``run_stop``, which is MLPerf Training's result."""
    is_success: bool | None
    """The run reached its target accuracy; None where no ``:::MLLOG`` line tells."""

    def list_metrics(self, model: str) -> Iterator[VirtualClientMetric]:
        """Yield the metrics under a scenario's name."""
        for name, value in self.values.items():
            # VirtualClient's page says %, but the value is a fraction: no unit.
            unit, better = TIMES.get(name, ("", Relativity.HIGHER))
            yield VirtualClientMetric(model, name, value, unit, better)
        if self.time_to_train_s is not None:
            yield VirtualClientMetric(
                model, "time_to_train", self.time_to_train_s, "s", Relativity.LOWER
            )


def read_training_log(path: Path) -> TrainingLog:
    """Read a run's stdout.

    A run without ``run_stop`` did not end, and has no time. Raises ``ValueError`` for a
    file that has neither training's metrics nor ``run_start``; ``ModuleNotFoundError``
    names the extra where mlperf-logging is missing.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    values = {}
    if found := LAST_ACCURACY.findall(text):
        values["eval_mlm_accuracy"] = statistics.fmean(map(float, found))
    for name in TIMES:
        if found := re.findall(rf"'{name}':\s*{NUMBER}", text):
            values[name] = statistics.fmean(map(float, found))
    started, stopped = _find_interval(path) if ":::MLLOG" in text else (None, None)
    if started is None and not values:
        raise ValueError(
            f"{path}: no training log: neither {', '.join(TIMES)} nor run_start in "
            ":::MLLOG lines"
        )
    seconds = None
    if started is not None and stopped is not None:
        seconds = (stopped["time_ms"] - started["time_ms"]) / 1000
    status = (stopped or {}).get("metadata", {}).get("status")
    is_success = None if started is None else status == SUCCESS
    return TrainingLog(path, values, seconds, is_success)


def _find_interval(path: Path) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the first ``run_start`` and the last ``run_stop``."""
    try:
        from mlperf_logging.compliance_checker import mlp_parser
    except ModuleNotFoundError:
        text = f"training logs need the package mlperf-logging: {EXTRA}"
        raise ModuleNotFoundError(text) from None
    lines, _ = mlp_parser.parse_file(str(path), ruleset=RULESET)
    found: dict[str, list[dict[str, Any]]] = {"run_start": [], "run_stop": []}
    for line in lines:
        if line.key in found:
            metadata = line.value.get("metadata") or {}
            found[line.key].append({"time_ms": line.timestamp, "metadata": metadata})
    starts, stops = found["run_start"], found["run_stop"]
    return (starts[0] if starts else None, stops[-1] if stops else None)


def compute_score_s(logs: Sequence[TrainingLog]) -> float | None:
    """Return MLPerf Training's result of several runs, in seconds.

    The mean without the fastest and the slowest. A run that missed its target counts as
    the slowest: two of them have no result. Source: training_policies, "Training
    results", and mlperf-logging's result_summarizer.
    """
    times = sorted(
        log.time_to_train_s
        if log.is_success and log.time_to_train_s is not None
        else math.inf
        for log in logs
    )
    if len(times) < 3 or math.isinf(times[-2]):
        return None
    return statistics.fmean(times[1:-1])
