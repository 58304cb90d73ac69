"""Round v1.0, April 2021: the first whose logs have today's form."""

from __future__ import annotations

from dataclasses import replace

from pytest_mlperf.core.rounds import v1_1
from pytest_mlperf.core.rounds.table import build
from pytest_mlperf.core.types import Seeds

# MultiStream, optional then, had queries at a fixed interval, and its figure was how
# many samples a query could hold. No later LoadGen runs that; it is left out.
ERA = replace(
    v1_1.ERA,
    name="v1.0",
    seeds=Seeds(
        qsl=7322528924094909334,
        sample_index=1570999273408051088,
        schedule=3507442325620259414,
        test05=v1_1.ERA.seeds.test05,
    ),
    sources={
        "settings": "mlcommons/inference tag v1.0.1: mlperf.conf",
        "limits": (
            "mlcommons/inference tag v1.0.1: tools/submission/submission-checker.py"
            " MODEL_CONFIG['v1.0'], OFFLINE_MIN_SPQ"
        ),
    },
    # LoadGen's present log format is of this day (7224f32a).
    loadgen_since="2021-01-12",
)

ROUND = build(ERA, v1_1.FAMILIES)
