"""Runs one build in its own process, and reads from its output what became of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path

from pytest_mlperf.engines.tensorrt.build import Order
from pytest_mlperf.engines.tensorrt.failures import Failure
from pytest_mlperf.engines.tensorrt.failures import classify

COMMAND = (sys.executable, "-m", "pytest_mlperf.engines.tensorrt.build")
SUSPECT = "values are not self-consistent"
"""A warning only, but such a plan fails at its largest shapes: in a measured run."""
MOST_LINES = 5000
"""Lines of a log that are read; the first and the last ones matter."""


def attempt(
    order: Order,
    beat: Callable[[], None],
    command: Sequence[str] = COMMAND,
) -> dict[str, str] | Failure:
    """Return the facts of a plan that was written, or why there is none.

    ``beat`` is called at every step that the builder reports. The log lies beside the
    plan; it is deleted with a success.
    """
    log = Path(order.plan).with_suffix(".log")
    facts: dict[str, str] | None = None
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(order.text())
                process.stdin.close()
            except BrokenPipeError:
                pass  # it ended at once; its output says why
            for line in process.stdout:
                beat()
                facts = json.loads(line).get("done", facts)
            status = process.wait()
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    printed = log.read_text(errors="replace").splitlines()
    half = MOST_LINES // 2
    lines = printed if len(printed) <= MOST_LINES else printed[:half] + printed[-half:]
    suspect = [line for line in lines if SUSPECT in line]
    if status == 0 and facts is not None and not suspect:
        log.unlink()
        return facts
    Path(order.plan).unlink(missing_ok=True)
    found = classify(suspect or lines, status)
    return Failure(found.kind, found.line, str(log))
