"""Round v2.0, April 2022: MultiStream returns, Server is asked of every datacenter."""

from __future__ import annotations

from dataclasses import replace

from pytest_mlperf.core.rounds import v1_1
from pytest_mlperf.core.rounds.table import MS
from pytest_mlperf.core.rounds.table import SERVER
from pytest_mlperf.core.rounds.table import SS
from pytest_mlperf.core.rounds.table import Goal
from pytest_mlperf.core.rounds.table import build
from pytest_mlperf.core.rounds.table import revise
from pytest_mlperf.core.types import Seeds

ERA = replace(
    v1_1.ERA,
    name="v2.0",
    seeds=Seeds(
        qsl=6655344265603136530,
        sample_index=15863379492028895792,
        schedule=12662793979680847247,
        test05=v1_1.ERA.seeds.test05,
    ),
    sources={
        "settings": "mlcommons/inference tag v2.0: mlperf.conf",
        "limits": (
            "mlcommons/inference tag v2.0: tools/submission/submission-checker.py"
            " MODEL_CONFIG['v2.0']"
        ),
    },
    # mlperf.conf: *.SingleStream, *.MultiStream and *.Server min_query_count.
    queries={SS: 1024, MS: 270_336, SERVER: 270_336},
    # a TEST04-A run is of r1.1's a9fbb605; results begin with 078e21f2.
    loadgen_since="2021-08-03",
    early_stopping=True,
)

# The Server figure is the *scheduled* rate up to v4.0.
FAMILIES = revise(
    v1_1.FAMILIES,
    change={
        "resnet50": {
            "edge": "SingleStream MultiStream Offline",
            "datacenter": "Server Offline",
            "both": "SingleStream MultiStream Offline Server",
        },
        "ssd-small": {
            "edge": "SingleStream MultiStream Offline",
            "both": "SingleStream MultiStream Offline",
        },
        "ssd-large": {
            "edge": "SingleStream MultiStream Offline",
            "datacenter": "Server Offline",
            "both": "SingleStream MultiStream Offline Server",
        },
        "rnnt": {
            "datacenter": "Server Offline",
            "both": "SingleStream Offline Server",
        },
        "bert": {
            "datacenter": "Server Offline",
            "both": "SingleStream Offline Server",
            "tables": {"99.9": ("", "Server Offline", "Server Offline")},
        },
        "dlrm": {"datacenter": "Server Offline", "both": "Server Offline"},
        # KiTS19 instead of BraTS 2019.
        "3d-unet": {
            "accuracy": (Goal("DICE", 0.86331),),
            "dataset": 42,
            "samples": 42,
            "equal_issue": True,
            "compliance": v1_1.WITHOUT_TEST04,
            "note": "dataset size: 156 logs of the round; v2.1 added the 43rd case",
        },
    },
)

ROUND = build(ERA, FAMILIES)
