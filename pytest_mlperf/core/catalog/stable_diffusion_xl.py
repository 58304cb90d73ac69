"""Stable Diffusion XL: pictures from text."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Examples
from pytest_mlperf.core.catalog.facts import Formula

FACTS = BenchmarkFacts(
    "stable-diffusion-xl",
    aliases=("sdxl", "stable-diffusion-xl-base-1.0"),
    logged_answers=128,
    same_sample_queries={"Offline": 500},
    score_deltas={"CLIP_SCORE": 1.0, "FID_SCORE": 2.0},
    vendor_in=Formula(308, "77 x 4: token ids, int32"),
    vendor_out=Formula(3_145_728, "3 x 1024 x 1024: a picture, uint8"),
    examples=Examples(
        "images",
        "png",
        {
            "v4.0": "4459 4015 2705 1682 4048 4683 3757 1578 3319 95",
            "v4.1": "4655 2569 1303 109 4509 3009 2179 1826 2094 3340",
            "v5.0": "4459 4015 2705 1682 4048 4683 3757 1578 3319 95",
            "v5.1": "2747 2235 2165 1515 1538 1367 2419 4629 3657 4532",
            "v6.0": "1311 2476 3644 2188 4114 52 388 1195 3427 2289",
        },
    ),
)
