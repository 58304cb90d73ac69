"""Round v3.1, September 2023: dlrm-v2 and gptj arrive, dlrm leaves."""

from __future__ import annotations

from dataclasses import replace

from pytest_mlperf.core.rounds import v3_0
from pytest_mlperf.core.rounds.table import CHOICES
from pytest_mlperf.core.rounds.table import MS
from pytest_mlperf.core.rounds.table import SERVER
from pytest_mlperf.core.rounds.table import SS
from pytest_mlperf.core.rounds.table import Family
from pytest_mlperf.core.rounds.table import Goal
from pytest_mlperf.core.rounds.table import build
from pytest_mlperf.core.rounds.table import revise
from pytest_mlperf.core.types import Seeds

ERA = replace(
    v3_0.ERA,
    name="v3.1",
    seeds=Seeds(
        qsl=148687905518835231,
        sample_index=520418551913322573,
        schedule=811580660758947900,
        test05=(793197339507417767, 255610748586851044, 352213341366340113),
    ),
    sources={
        "settings": "mlcommons/inference tag v3.1: mlperf.conf",
        "limits": (
            "mlcommons/inference tag v3.1: tools/submission/submission_checker.py"
            " MODEL_CONFIG['v3.1'], OFFLINE_MIN_SPQ"
        ),
        **CHOICES,
    },
    # mlperf.conf sets MultiStream alone; 100 is LoadGen's own default.
    queries={SS: 100, MS: 662, SERVER: 100},
    loadgen_since="2022-07-12",
)

HIGH_AND_LOW = {"99": 0.99, "99.9": 0.999}

# The checker also lists gpt3, with gptj's numbers; the round never had it.
FAMILIES = revise(
    v3_0.FAMILIES,
    drop=("dlrm",),
    add=(
        Family(
            name="dlrm-v2",
            model="dlrm-v2",
            targets=HIGH_AND_LOW,
            accuracy=(Goal("AUC", 80.31),),
            dataset=330_067,
            samples=204_800,
            offline=24_576,
            datacenter="Server Offline",
            both="Server Offline",
            server_ms=60,
            result="scheduled",
            compliance=("TEST01", "TEST05"),
        ),
        Family(
            name="gptj",
            model="gptj",
            targets=HIGH_AND_LOW,
            accuracy=(
                Goal("ROUGE1", 42.9865),
                Goal("ROUGE2", 20.1235),
                Goal("ROUGEL", 29.9881),
                Goal("GEN_LEN", 4_016_878, 0.9),
            ),
            dataset=13_368,
            samples=13_368,
            offline=24_576,
            edge="SingleStream Offline",
            datacenter="Server Offline",
            both="SingleStream Offline Server",
            server_ms=20_000,
            result="scheduled",
            equal_issue_in=(SS,),
            compliance=(),
        ),
    ),
)

ROUND = build(ERA, FAMILIES)
