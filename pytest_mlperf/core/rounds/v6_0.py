"""Round v6.0, April 2026: vision and diffusion leave the datacenter."""

from __future__ import annotations

from pytest_mlperf.core.rounds import v5_1
from pytest_mlperf.core.rounds.table import CHOICES
from pytest_mlperf.core.rounds.table import MS
from pytest_mlperf.core.rounds.table import ORDER
from pytest_mlperf.core.rounds.table import SERVER
from pytest_mlperf.core.rounds.table import SS
from pytest_mlperf.core.rounds.table import Era
from pytest_mlperf.core.rounds.table import Family
from pytest_mlperf.core.rounds.table import Goal
from pytest_mlperf.core.rounds.table import build
from pytest_mlperf.core.rounds.table import revise
from pytest_mlperf.core.types import Seeds

ERA = Era(
    name="v6.0",
    seeds=Seeds(
        qsl=2465351861681999779,
        sample_index=14276810075590677512,
        schedule=3936089224930324775,
        test05=(7975553102935885558, 11403566307062068064, 15816800565822761601),
    ),
    sources={
        "settings": "mlcommons/inference b0662794^: loadgen/mlperf.conf",
        "limits": (
            "mlcommons/inference b66003e1: tools/submission/submission_checker/"
            "constants.py MODEL_CONFIG['v6.0']"
        ),
        **CHOICES,
    },
    queries={SS: 100, MS: 662, SERVER: 100},
    # The oldest in 514 logs, and the first with the round's seeds (f131a0d2).
    loadgen_since="2026-01-13",
)

STREAMS = "SingleStream MultiStream Offline"

FAMILIES = revise(
    v5_1.FAMILIES,
    drop=("dlrm-v2",),
    change={
        "retinanet": {"edge": "", "datacenter": ""},
        "stable-diffusion-xl": {"datacenter": ""},
        "deepseek-r1": {
            "datacenter": v5_1.CHOICE,
            "both": v5_1.CHOICE,
            "interactive_tokens": (1500, 15),
        },
    },
    add=(
        Family(
            name="gpt-oss-120b",
            model="gpt-oss-120b",
            targets={"": 0.99},
            accuracy=(
                Goal("exact_match", 83.13),
                # The round has an upper limit alone; a log need not print it.
                Goal("TOKENS_PER_SAMPLE", 0, 0.0, 9999 * 1.1),
            ),
            dataset=6396,
            samples=6396,
            offline=6396,
            offline_conf=100,
            datacenter=v5_1.CHOICE,
            both=v5_1.CHOICE,
            server_tokens=(3000, 80),
            interactive_tokens=(2000, 15),
            tokens=True,
            equal_issue=True,
            result="tokens",
            accuracy_samples=dict.fromkeys(ORDER, 4395),
            compliance=("TEST07", "TEST09"),
            note="Interactive: the rules text says 20 ms a token, the other two 15",
        ),
        Family(
            name="wan-2.2-t2v-a14b",
            model="wan-2.2-t2v-a14b",
            targets={"": 0.99},
            accuracy=(Goal("vbench_score", 70.48),),
            dataset=248,
            samples=50,
            offline=50,
            offline_conf=248,
            datacenter="SingleStream Offline",
            compliance=("TEST04",),
            units={SS: "s"},
            note="mlperf.conf says 248 samples in memory and Offline; the checker 50",
        ),
        Family(
            name="qwen3-vl-235b-a22b",
            model="qwen3-vl-235b-a22b",
            targets={"": 0.99},
            accuracy=(Goal("F1_HIERARCHICAL", 0.7903),),
            dataset=48_289,
            samples=48_289,
            offline=48_289,
            datacenter="Server Offline",
            both="Offline Server?",
            server_ms=12_000,
            equal_issue=True,
            compliance=(),
            note="the checker's table names Interactive too, but no source limits it",
        ),
        Family(
            name="dlrm-v3",
            model="dlrm-v3",
            targets={"": 0.999},
            accuracy=(
                Goal("DLRM_NE", 0.86687),
                Goal("DLRM_ACC", 0.69651),
                Goal("DLRM_AUC", 0.78663),
            ),
            dataset=349_823,
            samples=349_823,
            offline=349_823,
            offline_conf=100,
            datacenter="Server Offline",
            both="Server Offline",
            server_ms=80,
            compliance=("TEST08",),
            note=(
                "80 ms: rules text and mlperf.conf; the checker's 60 s bounds nothing."
                " 349,823 samples: the checker; the rules text says 34,996, mlperf.conf"
                " no number. DLRM_NE is better when lower, yet all sources ask for a"
                " least value"
            ),
        ),
        Family(
            name="yolo",
            model="yolo",
            targets={"95": 0.95, "99": 0.99},
            accuracy=(Goal("mAP", 53.4),),
            dataset=1525,
            samples=64,
            offline=1525,
            offline_conf=100,
            edge=STREAMS,
            both=STREAMS,
            note="mAP in percent, as the checker has it; the rules text says 0.534",
        ),
    ),
)

ROUND = build(ERA, FAMILIES)
