"""The workload of a rehearsal: small pictures made up, of the official number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.benchmarks.diffusion.workload import CHANNELS
from pytest_mlperf.benchmarks.diffusion.workload import DiffusionWorkload
from pytest_mlperf.benchmarks.standins.generated import digest_parts
from pytest_mlperf.benchmarks.standins.synthetic import SyntheticDataset
from pytest_mlperf.benchmarks.standins.synthetic import scatter
from pytest_mlperf.core.rounds import v4_0
from pytest_mlperf.core.types import Scenario

SIDE = 16


def read_limits() -> dict[str, float]:
    """Return where each metric's band begins, the same in every round."""
    rule = v4_0.ROUND.find("stable-diffusion-xl", "", Scenario.OFFLINE)
    assert rule is not None
    return {limit.metric: limit.reference for limit in rule.accuracy}


def open_synthetic(count: int) -> DiffusionWorkload:
    """Open ``count`` pictures, of which true ones score what ``read_limits`` says, and
    wrong ones as much less, or more where a distance is scored.
    """
    reference = read_limits()

    def truth(indices: NDArray[np.int64]) -> dict[str, Array]:
        values = scatter(indices, CHANNELS * SIDE**2).astype(np.float32)
        return {"pictures": values.reshape(-1, CHANNELS, SIDE, SIDE)}

    def score(pictures: Sequence[Array], captions: Sequence[str]) -> dict[str, float]:
        right = 0
        for start in range(0, count, 500):
            indices = np.arange(start, min(start + 500, count))
            true = workload.respond([truth(indices)["pictures"]], indices.tolist()).rows
            right += sum(
                np.array_equal(pictures[index], row)
                for index, row in zip(indices.tolist(), true, strict=True)
            )
        share = right / len(captions)
        return {
            "CLIP_SCORE": share * reference["CLIP_SCORE"],
            "FID_SCORE": (2 - share) * reference["FID_SCORE"],
        }

    workload = DiffusionWorkload(
        kind="synthetic",
        title=f"synthetic: {count:,} made-up pictures of {SIDE} x {SIDE}",
        digest=digest_parts("sdxl synthetic", count, SIDE),
        dataset=SyntheticDataset(count, count, truth),
        reference=reference,
        captions=[f"picture {number}" for number in range(count)],
        side=SIDE,
        score_all=score,
    )
    return workload
