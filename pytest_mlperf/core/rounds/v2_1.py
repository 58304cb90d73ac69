"""Round v2.1, September 2022: retinanet takes the place of both SSDs."""

from __future__ import annotations

from dataclasses import replace

from pytest_mlperf.core.rounds import v2_0
from pytest_mlperf.core.rounds.table import Family
from pytest_mlperf.core.rounds.table import Goal
from pytest_mlperf.core.rounds.table import build
from pytest_mlperf.core.rounds.table import revise
from pytest_mlperf.core.types import Seeds

ERA = replace(
    v2_0.ERA,
    name="v2.1",
    seeds=Seeds(
        qsl=14284205019438841327,
        sample_index=4163916728725999944,
        schedule=299063814864929621,
        test05=v2_0.ERA.seeds.test05,
    ),
    sources={
        "settings": "mlcommons/inference tag v2.1: mlperf.conf",
        "limits": (
            "mlcommons/inference tag v2.1: tools/submission/submission-checker.py"
            " MODEL_CONFIG['v2.1'], OFFLINE_MIN_SPQ"
        ),
    },
    # 8 results are of 5aae975f.
    loadgen_since="2022-02-04",
)

PLAIN = ("TEST01", "TEST05")

FAMILIES = revise(
    v2_0.FAMILIES,
    drop=("ssd-small", "ssd-large"),
    change={
        "resnet50": {"compliance": ("TEST01", "TEST04", "TEST05")},
        "3d-unet": {
            "accuracy": (Goal("DICE", 0.8617),),
            "dataset": 43,
            "note": "mlperf.conf keeps all 43 in memory; the checker asks for 42",
        },
    },
    add=(
        Family(
            name="retinanet",
            model="retinanet",
            targets={"": 0.99},
            accuracy=(Goal("mAP", 37.55),),
            dataset=24_781,
            samples=64,
            offline=24_576,
            edge="SingleStream MultiStream Offline",
            datacenter="Server Offline",
            both="SingleStream MultiStream Offline Server",
            server_ms=100,
            result="scheduled",
            compliance=PLAIN,
        ),
    ),
)

ROUND = build(ERA, FAMILIES)
