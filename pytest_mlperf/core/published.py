"""The best published closed results per accelerator, for comparison.

A ratio to one of them says how far a system is from the best of its kind. It is no
verdict: another host, other software and, with generated weights, another model.

Source: MLPerf Inference v4.1, v5.1 and v6.0, datacenter, closed; the system's figure
divided by its accelerators. v4.1 is the last round with many results of BERT and
ResNet-50.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pytest_mlperf.core.types import NULL_ANSWERS
from pytest_mlperf.core.types import REHEARSAL
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Verdict

OTHER_MODELS = {"embedded", NULL_ANSWERS, REHEARSAL}
"""Labels of runs whose model is not the one that submitters ran, or none."""


@dataclass(frozen=True, slots=True)
class Published:
    """One system's result."""

    total: float
    """In the verdict's unit: samples/s, queries/s or tokens/s."""
    accelerators: int
    accelerator: str
    round: str
    submitter: str

    @property
    def each(self) -> float:
        """Per accelerator."""
        return self.total / self.accelerators

    def beside(self, value: float, accelerators: int, unit: str) -> str:
        """Return a result's share of this one, in words."""
        share = value / accelerators / self.each
        kind = f"{self.accelerators} x {self.accelerator}"
        digits = 0 if self.each >= 100 else 2
        return (
            f"{share:.2f} of the best published {self.each:,.{digits}f} {unit} each "
            f"({self.round} closed, {self.submitter}, {kind})"
        )


_FAMILIES = (
    (r"\bH100\b.*\bHBM3\b|H100[ -]SXM", "H100-SXM"),
    (r"\bH200\b(?!.*NVL)", "H200"),
    (r"\bB200\b(?<!GB200)", "B200"),
)
"""What NVML calls a device -> what RESULTS calls it, memory sizes apart."""

FAMILY_NAMES = (
    (r"NVIDIA H100-SXM-80GB", "H100-SXM"),
    (r"NVIDIA H200-SXM-141GB", "H200"),
    (r"NVIDIA B200-SXM-180GB", "B200"),
)
"""What systems/<system>.json of those rounds calls an accelerator -> the same name."""
RESULTS = Path(__file__).with_name("published_results.json")


@cache
def read_results() -> Mapping[tuple[str, str, Scenario], Published]:
    """Return (family, benchmark, scenario) -> the best result: RESULTS.

    ``scripts/generate_published.py`` writes the file from checkouts of the published
    results, of the runs that ``pytest-mlperf explain`` calls VALID.
    """
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))
    return {
        (row["family"], row["benchmark"], Scenario(row["scenario"])): Published(
            row["total"],
            row["accelerators"],
            row["family"],
            row["round"],
            row["submitter"],
        )
        for row in rows
    }


def find_family(device: str) -> str:
    """Return what the tables call a device, or an empty string."""
    if re.search(r"\bMIG\b", device):  # a part of one
        return ""
    return next((name for like, name in _FAMILIES if re.search(like, device)), "")


def find_result(device: str, benchmark: str, scenario: Scenario) -> Published | None:
    """Return the best published result of a device's kind, None where none is known.

    ``benchmark`` with its target, as submissions name it: ``bert-99.9``.
    """
    return read_results().get((find_family(device), benchmark, scenario))


def list_comparisons(verdict: Verdict, scenario: Scenario) -> dict[str, str]:
    """Return facts that set a performance result beside others: its own bare loop, and
    the best published one where the true architecture ran on a known accelerator.
    """
    metric, run = verdict.metric, verdict.run
    if (
        metric is None
        or verdict.mode != "performance"
        or not metric.unit.endswith("/s")
    ):
        return {}
    found = {}
    loop = run.bare_loop_per_s
    # The rate that an engine is told, which does no work, or none that counts.
    simulated = {NULL_ANSWERS, REHEARSAL} & {*verdict.labels}
    if loop and not simulated and not metric.unit.startswith("tokens"):
        found["of the bare loop"] = f"{metric.value / loop:.3f}"
    best = _find_for(verdict, scenario)
    if best and run.accelerators:  # of a service somewhere else nobody here knows
        found["beside"] = best.beside(metric.value, run.accelerators, metric.unit)
    return found


def describe_standing(verdict: Verdict) -> str:
    """Return a performance run's share of the best published result, or in words why it
    has none.
    """
    if text := verdict.facts.get("beside"):
        return text
    if verdict.metric is None or not verdict.metric.unit.endswith("/s"):
        return "no published result: those kept here are rates of datacenter systems"
    if different := OTHER_MODELS & {*verdict.labels}:
        return (
            f"no published result to compare with: {', '.join(sorted(different))} is "
            "not the model that submitters ran"
        )
    device = verdict.run.device or "a device that nobody named"
    return f"no published result of {verdict.benchmark} on {device} is kept here"


def _find_for(verdict: Verdict, scenario: Scenario) -> Published | None:
    if OTHER_MODELS & {*verdict.labels}:
        return None
    return find_result(verdict.run.device, verdict.benchmark, scenario)
