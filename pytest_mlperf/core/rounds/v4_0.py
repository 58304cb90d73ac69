"""Round v4.0, March 2024: the first LLM whose tokens are timed."""

from __future__ import annotations

from dataclasses import replace

from pytest_mlperf.core.rounds import v3_1
from pytest_mlperf.core.rounds.table import SERVER
from pytest_mlperf.core.rounds.table import SS
from pytest_mlperf.core.rounds.table import Family
from pytest_mlperf.core.rounds.table import Goal
from pytest_mlperf.core.rounds.table import build
from pytest_mlperf.core.rounds.table import revise
from pytest_mlperf.core.types import Seeds

ERA = replace(
    v3_1.ERA,
    name="v4.0",
    seeds=Seeds(
        qsl=13281865557512327830,
        sample_index=198141574272810017,
        schedule=7575108116881280410,
        test05=(2376919268182438552, 11176391829184272374, 3911940905271271337),
    ),
    sources={
        **v3_1.ERA.sources,
        "settings": "mlcommons/inference tag v4.0: mlperf.conf",
        "limits": (
            "mlcommons/inference tag v4.0: tools/submission/submission_checker.py"
            " MODEL_CONFIG['v4.0'], OFFLINE_MIN_SPQ_SINCE_V4,"
            " RESULT_FIELD_BENCHMARK_OVERWRITE"
        ),
    },
    loadgen_since="2023-02-04",
)

HIGH_AND_LOW = {"99": 0.99, "99.9": 0.999}

FAMILIES = revise(
    v3_1.FAMILIES,
    change={
        "bert": {"offline": 10_833},
        "rnnt": {"offline": 2513},
        "3d-unet": {"offline": 43},
        "gptj": {"offline": 13_368, "equal_issue_in": (SS, SERVER)},
    },
    add=(
        Family(
            name="llama2-70b",
            model="llama2-70b",
            targets=HIGH_AND_LOW,
            accuracy=(
                Goal("ROUGE1", 44.4312),
                Goal("ROUGE2", 22.0352),
                Goal("ROUGEL", 28.6162),
                Goal("TOKENS_PER_SAMPLE", 294.45, 0.9, 294.45 * 1.1),
            ),
            dataset=24_576,
            samples=24_576,
            offline=24_576,
            datacenter="Server Offline",
            both="Server Offline",
            server_tokens=(2000, 200),
            tokens=True,
            equal_issue_in=(SERVER,),
            result="tokens",
            # LoadGen reported no tokens a second of Server yet.
            result_keys={SERVER: "result_completed_samples_per_sec"},
            compliance=("TEST06",),
        ),
        Family(
            name="stable-diffusion-xl",
            model="stable-diffusion-xl",
            targets={"": 1.0},
            # The table states both ends of each band, not a share of a reference.
            accuracy=(
                Goal("CLIP_SCORE", 31.68631873, upper=31.81331801),
                Goal("FID_SCORE", 23.01085758, upper=23.95007626),
            ),
            dataset=5000,
            samples=5000,
            offline=5000,
            edge="SingleStream Offline",
            datacenter="Server Offline",
            both="SingleStream Offline Server",
            server_ms=20_000,
            result="scheduled",
            compliance=(),
        ),
    ),
)

ROUND = build(ERA, FAMILIES)
