"""Round v2.0, April 2022."""

from __future__ import annotations

from pytest_mlperf.core.rounds.table import MS
from pytest_mlperf.core.rounds.table import SERVER
from pytest_mlperf.core.rounds.table import SS
from pytest_mlperf.core.rounds.table import Era
from pytest_mlperf.core.rounds.table import Family
from pytest_mlperf.core.rounds.table import Goal
from pytest_mlperf.core.rounds.table import build
from pytest_mlperf.core.types import Seeds

ERA = Era(
    name="v2.0",
    seeds=Seeds(
        qsl=6655344265603136530,
        sample_index=15863379492028895792,
        schedule=12662793979680847247,
        # From TEST05's audit.config; later rounds have them in mlperf.conf.
        test05=(313588358309856706, 471397156132239067, 413914573387865862),
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
)

WITH_TEST04 = ("TEST01", "TEST04-A", "TEST04-B", "TEST05")
WITHOUT_TEST04 = ("TEST01", "TEST05")
HIGH_AND_LOW = {"99": 0.99, "99.9": 0.999}

# Offline: *.Offline.min_query_count = 24576 for every model, whatever its dataset.
# The Server figure is the *scheduled* rate up to v4.0.
FAMILIES = (
    Family(
        name="resnet50",
        model="resnet50",
        targets={"": 0.99},
        accuracy=(Goal("acc", 76.46),),
        dataset=50_000,
        samples=1024,
        offline=24_576,
        edge="SingleStream MultiStream Offline",
        datacenter="Server Offline",
        both="SingleStream MultiStream Offline Server",
        server_ms=15,
        result="scheduled",
        compliance=WITH_TEST04,
    ),
    Family(
        name="ssd-small",
        model="ssd-mobilenet",
        targets={"": 0.99},
        accuracy=(Goal("mAP", 22),),
        dataset=5000,
        samples=256,
        offline=24_576,
        edge="SingleStream MultiStream Offline",
        both="SingleStream MultiStream Offline",
        compliance=WITH_TEST04,
    ),
    Family(
        name="ssd-large",
        model="ssd-resnet34",
        targets={"": 0.99},
        accuracy=(Goal("mAP", 20),),
        dataset=5000,
        samples=64,
        offline=24_576,
        edge="SingleStream MultiStream Offline",
        datacenter="Server Offline",
        both="SingleStream MultiStream Offline Server",
        server_ms=100,
        result="scheduled",
        compliance=WITH_TEST04,
    ),
    Family(
        name="rnnt",
        model="rnnt",
        targets={"": 0.99},
        # 100 minus the word error rate 7.452, as the checker's table has it.
        accuracy=(Goal("WER", 92.548),),
        dataset=2513,
        samples=2513,
        offline=24_576,
        edge="SingleStream Offline",
        datacenter="Server Offline",
        both="SingleStream Offline Server",
        server_ms=1000,
        result="scheduled",
        compliance=WITHOUT_TEST04,
    ),
    Family(
        name="bert",
        model="bert",
        targets=HIGH_AND_LOW,
        accuracy=(Goal("F1", 90.874),),
        dataset=10_833,
        samples=10_833,
        offline=24_576,
        edge="SingleStream Offline",
        datacenter="Server Offline",
        both="SingleStream Offline Server",
        # 99.9 is asked of datacenter systems alone.
        tables={"99.9": ("", "Server Offline", "Server Offline")},
        server_ms=130,
        result="scheduled",
        compliance=WITHOUT_TEST04,
    ),
    Family(
        name="dlrm",
        model="dlrm",
        targets=HIGH_AND_LOW,
        accuracy=(Goal("AUC", 80.25),),
        dataset=330_067,
        samples=204_800,
        offline=24_576,
        datacenter="Server Offline",
        both="Server Offline",
        server_ms=30,
        result="scheduled",
        compliance=WITHOUT_TEST04,
        note="dataset size: the reference's README; this checker has no such table",
    ),
    Family(
        name="3d-unet",
        model="3d-unet",
        targets=HIGH_AND_LOW,
        accuracy=(Goal("DICE", 0.86331),),
        dataset=42,
        samples=42,
        offline=24_576,
        edge="SingleStream Offline",
        datacenter="Offline",
        both="SingleStream Offline",
        equal_issue=True,
        compliance=WITHOUT_TEST04,
        note="dataset size: 156 logs of the round; v2.1 added the 43rd case",
    ),
)

ROUND = build(ERA, FAMILIES)
