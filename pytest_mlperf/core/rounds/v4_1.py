"""Round v4.1, August 2024: the newest that has bert in the Server scenario."""

from __future__ import annotations

from dataclasses import replace

from pytest_mlperf.core.rounds import v4_0
from pytest_mlperf.core.rounds.table import CHOICES
from pytest_mlperf.core.rounds.table import Family
from pytest_mlperf.core.rounds.table import Goal
from pytest_mlperf.core.rounds.table import build
from pytest_mlperf.core.rounds.table import revise
from pytest_mlperf.core.types import Seeds

ERA = replace(
    v4_0.ERA,
    name="v4.1",
    seeds=Seeds(
        qsl=3066443479025735752,
        sample_index=10688027786191513374,
        schedule=14962580496156340209,
        test05=(16799458546791641818, 5453809927556429288, 5435552105434836064),
    ),
    sources={
        "settings": "mlcommons/inference tag v4.1: mlperf.conf",
        "limits": (
            "mlcommons/inference tag v4.1: tools/submission/submission_checker.py"
            " MODEL_CONFIG['v4.1'], OFFLINE_MIN_SPQ_SINCE_V4, LLM_LATENCY_LIMITS"
        ),
        **CHOICES,
    },
    # Two open results are of 486a629e, 40 closed ones of 7fc059bf: of LoadGen 4.0.
    loadgen_since="2024-02-15",
)

# Server's figure is the completed rate from here on.
COMPLETED = {"result": "samples"}

# The checker's equal-issue list lacks two commas, and it compares the log's flag with
# the text "true"; mlperf.conf's sample_concatenate_permutation decides here.
FAMILIES = revise(
    v4_0.FAMILIES,
    drop=("rnnt",),
    change={
        "resnet50": COMPLETED,
        "retinanet": COMPLETED,
        "bert": COMPLETED,
        "dlrm-v2": COMPLETED,
        "3d-unet": {
            "note": "mlperf.conf: 0, the whole set in memory; the checker asks for 43",
        },
        "gptj": {"equal_issue": True, "equal_issue_in": (), "result": "inferred"},
        "llama2-70b": {"equal_issue": True, "equal_issue_in": (), "result_keys": {}},
        "stable-diffusion-xl": COMPLETED | {"compliance": ("TEST01", "TEST04")},
    },
    add=(
        Family(
            name="mixtral-8x7b",
            model="mixtral-8x7b",
            targets={"": 0.99},
            accuracy=(
                Goal("ROUGE1", 45.4911),
                Goal("ROUGE2", 23.2829),
                Goal("ROUGEL", 30.3615),
                Goal("TOKENS_PER_SAMPLE", 145.9, 0.9, 145.9 * 1.1),
                Goal("gsm8k_accuracy", 73.78),
                Goal("mbxp_accuracy", 60.12),
            ),
            dataset=15_000,
            samples=15_000,
            offline=15_000,
            datacenter="Server Offline",
            both="Server Offline",
            server_tokens=(2000, 200),
            tokens=True,
            equal_issue=True,
            result="tokens",
            compliance=("TEST06",),
            note=(
                "both categories: the tag asks for SingleStream, the v5.0 checker's"
                " table of v4.1 for Server; 15,000 samples: the checker, mlperf.conf"
                " says none"
            ),
        ),
    ),
)

ROUND = build(ERA, FAMILIES)
