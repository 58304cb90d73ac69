"""Round v5.0, April 2025: bert leaves the datacenter; 405b, R-GAT, pointpainting."""

from __future__ import annotations

from pytest_mlperf.core.rounds import v4_1
from pytest_mlperf.core.rounds.table import CHOICES
from pytest_mlperf.core.rounds.table import MS
from pytest_mlperf.core.rounds.table import SERVER
from pytest_mlperf.core.rounds.table import SS
from pytest_mlperf.core.rounds.table import Era
from pytest_mlperf.core.rounds.table import Family
from pytest_mlperf.core.rounds.table import Goal
from pytest_mlperf.core.rounds.table import build
from pytest_mlperf.core.rounds.table import revise
from pytest_mlperf.core.types import Seeds

ERA = Era(
    name="v5.0",
    seeds=Seeds(
        qsl=6023615788873153749,
        sample_index=15036839855038426416,
        schedule=9933818062894767841,
        test05=(7975553102935885558, 11403566307062068064, 15816800565822761601),
    ),
    sources={
        # The tag v5.0.1 is from before the submissions and has no pointpainting yet.
        "settings": "mlcommons/inference 5e903956 (2025-03-10): loadgen/mlperf.conf",
        "limits": (
            "mlcommons/inference 5e903956: tools/submission/submission_checker.py"
            " MODEL_CONFIG['v5.0'], OFFLINE_MIN_SPQ_SINCE_V4, LLM_LATENCY_LIMITS"
        ),
        "dataset sizes": (
            "mlcommons/inference tag v5.1.1: tools/submission/submission_checker.py"
            " MODEL_CONFIG['v5.0']; the round's own checker has no such table"
        ),
        **CHOICES,
    },
    queries={SS: 100, MS: 662, SERVER: 100},
    # The tag v4.1, as in v5.1; no results were at hand.
    loadgen_since="2024-07-25",
)

FAMILIES = revise(
    v4_1.FAMILIES,
    change={
        # TEST05 is over: its seeds stay in mlperf.conf, unread.
        "resnet50": {"compliance": ("TEST01", "TEST04")},
        "retinanet": {"compliance": ("TEST01",)},
        "dlrm-v2": {"compliance": ("TEST01",)},
        "3d-unet": {"compliance": ("TEST01",)},
        "bert": {
            "edge": "SingleStream Offline",
            "datacenter": "",
            "both": "SingleStream Offline",
            "tables": {},
            "server_ms": None,
            "compliance": ("TEST01",),
        },
        # llama2-70b-interactive is a benchmark of its own here, with Offline too;
        # its Server runs are the Interactive scenario of later rounds.
        "llama2-70b": {
            "datacenter": "Server Offline Interactive?",
            "both": "Server Offline Interactive?",
            "interactive_tokens": (450, 40),
        },
        "mixtral-8x7b": {
            "accuracy": (
                Goal("ROUGE1", 45.5989),
                Goal("ROUGE2", 23.3526),
                Goal("ROUGEL", 30.4608),
                Goal("TOKENS_PER_SAMPLE", 144.84, 0.9, 145.9 * 1.1),
                Goal("gsm8k_accuracy", 73.66),
                Goal("mbxp_accuracy", 60.16),
            ),
            "note": "the checker takes the upper limit of tokens from v4.1's reference",
        },
    },
    add=(
        Family(
            name="llama3.1-405b",
            model="llama3_1-405b",
            targets={"": 0.99},
            accuracy=(
                Goal("ROUGEL", 21.6666),
                Goal("exact_match", 90.1335),
                Goal("TOKENS_PER_SAMPLE", 684.68, 0.9, 684.68 * 1.1),
            ),
            dataset=8313,
            samples=8313,
            offline=8313,
            datacenter="Server Offline",
            both="Server Offline",
            server_tokens=(6000, 175),
            tokens=True,
            equal_issue=True,
            result="tokens",
            compliance=("TEST06",),
        ),
        Family(
            name="rgat",
            model="rgat",
            targets={"": 0.99},
            accuracy=(Goal("acc", 72.86),),
            dataset=788_379,
            samples=788_379,
            offline=788_379,
            datacenter="Offline",
            both="Offline",
            equal_issue=True,
            note=(
                "accuracy in percent, as accuracy.txt prints it; the checker compares"
                " with the fraction 0.7286, which any percentage passes"
            ),
        ),
        Family(
            name="pointpainting",
            model="pointpainting",
            targets={"": 0.999},
            accuracy=(Goal("mAP", 0.5425),),
            dataset=39_987,
            samples=1024,
            edge="SingleStream",
            both="SingleStream",
            stream_percentile=0.999,
            compliance=("TEST01", "TEST04"),
        ),
    ),
)

ROUND = build(ERA, FAMILIES)
