"""dlrm: click prediction with dot interaction, AUC.

Official: DLRM on Criteo's day 23, one key a table. Embedded: a small DLRM on flights.
"""

from __future__ import annotations

from pytest_mlperf.benchmarks.recommender.benchmark import RecommenderBenchmark
from pytest_mlperf.benchmarks.recommender.official import ONE_HOT
from pytest_mlperf.benchmarks.recommender.official import OfficialRecommender

DLRM = RecommenderBenchmark(
    "dlrm",
    OfficialRecommender(
        name="dlrm",
        title="DLRM",
        hotness=ONE_HOT,
        checkpoint="tb00_40M.pt of MLCommons' inference repository, folder"
        " recommendation/dlrm/pytorch",
    ),
)
