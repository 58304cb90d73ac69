"""The check of a run that started from, or ended on, the device."""

from __future__ import annotations

from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.context import compute_duration_range
from pytest_mlperf.core.checks.rule_check import PERFORMANCE
from pytest_mlperf.core.checks.rule_check import check
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.residency.rules import Decision
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status

NAME = "on_device"
PROOF = "on_device.txt"
"""The reckoning, in the run's folder and in a submission's documentation."""
DIAGRAM = "on_device_diagram"
"""Beside it, with the drawing's own ending."""


def measure_rate(run: JudgedRun) -> float:
    """Return the run's samples a second, by the shortest time it can have taken."""
    shortest, _ = compute_duration_range(run)
    return run.samples / shortest if shortest > 0 else float("inf")


def decide_claim(run: JudgedRun) -> Decision:
    """Return whether the claim holds at the throughput that LoadGen measured."""
    claim = run.context.claim
    assert claim is not None, "only such a run has this check"
    return claim.decide(run.cell.benchmark, measure_rate(run) / run.context.devices)


@check(NAME, modes=PERFORMANCE, when=lambda run: run.context.claim is not None)
def on_device(run: JudgedRun) -> Check:
    """The direct path carries what this throughput takes."""
    found = decide_claim(run)
    assert run.context.claim is not None, "only such a run has this check"
    flags = " and ".join(run.context.claim.residency.flags)
    required = f"a path that carries {found.required_per_s / 1e9:.3f} GB/s"
    said = f"{flags} at {found.rate:,.6g} samples/s a device"
    if found.granted:
        return Check(NAME, Status.PASS, said, required, PROOF)
    return Check(
        NAME,
        Status.FAIL,
        f"{said}: {'; '.join(found.reasons)}",
        required,
        DETAIL,
        f"see {PROOF} in the run's folder",
    )
