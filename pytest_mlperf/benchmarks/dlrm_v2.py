"""dlrm-v2: click prediction with DCNv2's low-rank cross layers, AUC.

Official: DLRM-DCNv2 on Criteo's day 23 with many keys a table. Embedded: a small DCNv2
on flights.
"""

from __future__ import annotations

from pytest_mlperf.benchmarks.recommender.benchmark import RecommenderBenchmark
from pytest_mlperf.benchmarks.recommender.official import MULTI_HOT
from pytest_mlperf.benchmarks.recommender.official import OfficialRecommender

DLRM_V2 = RecommenderBenchmark(
    "dlrm-v2",
    OfficialRecommender(
        name="dlrm-v2",
        title="DLRM-DCNv2",
        hotness=MULTI_HOT,
        checkpoint="model_weights of MLCommons' inference repository, folder"
        " recommendation/dlrm_v2/pytorch (a torchsnapshot)",
    ),
    aliases=("dlrm-dcn-v2", "dcnv2"),
)
