"""The check of a run that started from, or ended on, the device."""

from __future__ import annotations

from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.context import compute_duration_range
from pytest_mlperf.core.checks.outcome import Outcome
from pytest_mlperf.core.checks.rule_check import PERFORMANCE
from pytest_mlperf.core.checks.rule_check import NamedJudges
from pytest_mlperf.core.checks.rule_check import check_each
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.residency.rules import Decision

PROOF = "on_device.txt"
"""The calculation, in the run's folder and in a submission's documentation."""
DIAGRAM = "on_device_diagram"
"""Beside it, with the drawing's own suffix."""


def measure_rate(run: JudgedRun) -> float:
    """Return the run's samples a second, by the shortest time it can have taken."""
    shortest, _ = compute_duration_range(run)
    return run.samples / shortest if shortest > 0 else float("inf")


def decide_claim(run: JudgedRun) -> Decision:
    """Return whether the claim holds at the throughput that LoadGen measured."""
    claim = run.context.claim
    assert claim is not None, "only such a run has this check"
    return claim.decide(run.cell.benchmark, measure_rate(run) / run.context.devices)


@check_each("on_device", modes=PERFORMANCE)
def on_device(run: JudgedRun) -> NamedJudges:
    """Yield the check of a run that makes a claim."""
    if run.context.claim is not None:
        yield "on_device", check_path


def check_path(run: JudgedRun) -> Outcome:
    """The direct path carries what this throughput takes."""
    decision = decide_claim(run)
    required = f"a path that carries {decision.required_per_s / 1e9:.3f} GB/s"
    flags = " and ".join(decision.claim.residency.flags)
    found = f"{flags} at {decision.rate:,.6g} samples/s a device"
    if decision.granted:
        return Outcome(True, found, required, PROOF)
    found += f": {'; '.join(decision.reasons)}"
    return Outcome(False, found, required, DETAIL, f"see {PROOF} in the run's folder")
