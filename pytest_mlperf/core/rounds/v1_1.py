"""Round v1.1, September 2021."""

from __future__ import annotations

from pytest_mlperf.core.rounds.table import SERVER
from pytest_mlperf.core.rounds.table import SS
from pytest_mlperf.core.rounds.table import Era
from pytest_mlperf.core.rounds.table import Family
from pytest_mlperf.core.rounds.table import Goal
from pytest_mlperf.core.rounds.table import build
from pytest_mlperf.core.types import Seeds

ERA = Era(
    name="v1.1",
    seeds=Seeds(
        qsl=1624344308455410291,
        sample_index=517984244576520566,
        schedule=10051496985653635065,
        # From TEST05's audit.config, the same up to v2.1.
        test05=(313588358309856706, 471397156132239067, 413914573387865862),
    ),
    sources={
        "settings": "mlcommons/inference branch r1.1 c5b89189: mlperf.conf",
        "limits": (
            "mlcommons/inference branch r1.1 c5b89189: tools/submission/"
            "submission-checker.py MODEL_CONFIG['v1.1'], OFFLINE_MIN_SPQ"
        ),
    },
    # mlperf.conf: *.SingleStream and *.Server min_query_count.
    queries={SS: 1024, SERVER: 270_336},
    # 24 results are of r1.0's last commit.
    loadgen_since="2021-04-06",
    early_stopping=False,
)

WITH_TEST04 = ("TEST01", "TEST04-A", "TEST04-B", "TEST05")
WITHOUT_TEST04 = ("TEST01", "TEST05")
HIGH_AND_LOW = {"99": 0.99, "99.9": 0.999}

# Offline: *.Offline.min_query_count = 24576 for every model, whatever its dataset.
FAMILIES = (
    Family(
        name="resnet50",
        model="resnet50",
        targets={"": 0.99},
        accuracy=(Goal("acc", 76.46),),
        dataset=50_000,
        samples=1024,
        offline=24_576,
        edge="SingleStream Offline",
        datacenter="Server? Offline",
        both="SingleStream Offline Server?",
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
        edge="SingleStream Offline",
        both="SingleStream Offline",
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
        edge="SingleStream Offline",
        datacenter="Server? Offline",
        both="SingleStream Offline Server?",
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
        datacenter="Server? Offline",
        both="SingleStream Offline Server?",
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
        datacenter="Server? Offline",
        both="SingleStream Offline Server?",
        # 99.9 is asked of datacenter systems alone.
        tables={"99.9": ("", "Server? Offline", "Server? Offline")},
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
        datacenter="Server? Offline",
        both="Server? Offline",
        server_ms=30,
        result="scheduled",
        compliance=WITHOUT_TEST04,
        note="dataset size: the reference's README; this checker has no such table",
    ),
    Family(
        name="3d-unet",
        model="3d-unet",
        targets=HIGH_AND_LOW,
        accuracy=(Goal("DICE", 0.853),),
        # BraTS 2019, fold 1; the cases of KiTS19 came with v2.0.
        dataset=67,
        samples=16,
        offline=24_576,
        edge="SingleStream Offline",
        datacenter="Offline",
        both="SingleStream Offline",
        compliance=WITH_TEST04,
        note="dataset size: 206 logs of the round; this checker has no such table",
    ),
)

ROUND = build(ERA, FAMILIES)
