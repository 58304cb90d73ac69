"""The oracle: hands back the ground truth after a simulated service time.

It infers nothing and measures nothing. It rehearses a whole submission: real LoadGen,
real logs, real rules, on any machine and many at a time, because sleeping costs no CPU.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from dataclasses import field

from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch

BATCH_S = 0.002
SAMPLE_S = 0.0004
"""Service time of a usual batch: BATCH_S plus SAMPLE_S a sample. Ten minutes of a
stream scenario are then some 190,000 or 90,000 queries."""
SLOW = {40: 3.5, 4: 2.0}
"""Every 40th and every 4th batch takes this many times as long. The reported
percentiles, p90 and p99, then lie in the middle of these; if all batches took the same
time, they would show how busy the machine is, and two runs of a cell would not agree.
"""
REPORT = "nothing is inferred: answers are the ground truth, times are simulated"


def pace(turn: int) -> float:
    """Return how many times as long as usual a stream's batch of that number takes."""
    return next((factor for every, factor in SLOW.items() if turn % every == 0), 1.0)


@dataclass(slots=True)
class OracleEngine:
    """Sleeps until a batch is due; the next one is due earlier by what a sleep overran.

    On a busy machine a sleep ends late. Passing that on keeps the mean exact, so that
    two runs of a cell agree as compliance asks.
    """

    answers: bool = False
    _late_s: float = field(default=0.0)
    _turn: int = field(default=0)

    def infer(self, batch: Batch, size: int) -> list[Array]:
        """Return the synthetic dataset's arrays, which are the true outputs."""
        self._turn += 1
        takes_s = (BATCH_S + SAMPLE_S * size) * pace(self._turn)
        due = time.monotonic() + takes_s - self._late_s
        while (left := due - time.monotonic()) > 0:
            time.sleep(left)
        # Making up for a pause longer than a batch would be a burst.
        self._late_s = min(-left, BATCH_S)
        return list(batch.values())

    def close(self) -> None:
        """Nothing to release."""


@dataclass(frozen=True, slots=True)
class OracleProvider:
    """Builds nothing and knows its speed."""

    precisions: tuple[str, ...] = ("fp32", "int8")
    batches: tuple[int, ...] = (2, 512)
    answers: bool = False

    def unavailable(self) -> str | None:
        return None

    def build(self, request: BuildRequest) -> Build:
        """Raises ``BuildFailed`` for a workload whose samples are not the answers."""
        workload = request.workload
        if workload.kind != "synthetic":
            raise BuildFailed(
                f"the engine oracle got the {workload.kind} workload, but should get "
                "a synthetic one, whose samples are the answers; ask for it with "
                "--mlperf-rehearsal, or choose another --mlperf-engine"
            )
        parts = {"engine": "oracle", "workload": workload.digest}
        digest = content_hash({**parts, "precision": request.precision})
        return Build(digest, None, request, "nothing to build", {"rehearsal": REPORT})

    def open(self, build: Build, threads: int) -> OracleEngine:  # noqa: ARG002 - protocol
        return OracleEngine()

    def layouts(self, cpus: int) -> tuple[Streams, ...]:  # noqa: ARG002 - protocol
        return (Streams(1, 1),)

    def service_s(self, size: int) -> float:
        """Return the mean time of a batch."""
        cycle = max(SLOW)
        return (BATCH_S + SAMPLE_S * size) * sum(map(pace, range(cycle))) / cycle


ORACLE = OracleProvider()
