"""Round v3.0, April 2023."""

from __future__ import annotations

from dataclasses import replace

from pytest_mlperf.core.rounds import v2_1
from pytest_mlperf.core.rounds.table import build
from pytest_mlperf.core.rounds.table import revise
from pytest_mlperf.core.types import Seeds

ERA = replace(
    v2_1.ERA,
    name="v3.0",
    seeds=Seeds(
        qsl=10003631887983097364,
        sample_index=17183018601990103738,
        schedule=12134888396634371638,
        test05=(14646058500348515648, 1207248993894122914, 11879132697760422006),
    ),
    sources={
        "settings": "mlcommons/inference tag v3.0: mlperf.conf",
        "limits": (
            "mlcommons/inference tag v3.0: tools/submission/submission_checker.py"
            " MODEL_CONFIG['v3.0'], OFFLINE_MIN_SPQ"
        ),
    },
)

FAMILIES = revise(v2_1.FAMILIES, change={"3d-unet": {"samples": 43, "note": ""}})

ROUND = build(ERA, FAMILIES)
