"""What a round says of endpoints results alone: rounds, models, scales."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_mlperf.core import rounds
from pytest_mlperf.core.endpoints.documents import Document
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.types import Scenario

MODELS: Mapping[str, frozenset[str]] = {
    "v6.1": frozenset(
        {
            "wan-2.2-t2v-a14b",
            "qwen3-vl-235b-a22b",
            "qwen3.6-27b",
            "llama3.1-8b",
            "llama3.1-8b-edge",
            "gpt-oss-120b",
            "deepseek-r1",
        }
    ),
}
"""Round -> benchmarks that may be entered with endpoints results (checker:
ENDPOINTS_ALLOWED_MODELS, RESULT_FIELD_ENDPOINTS)."""
FULL_SCORES: Mapping[str, float] = {
    "pass_at_1": 1.0,
    "string_match": 1.0,
    "code_bench_scorer": 1.0,
    "shopify_category_f1": 1.0,
    "bfcl_v4": 1.0,
    "vbench": 1.0,
    "rouge": 100.0,
    "legacy_mlperf_deepseek_r1": 100.0,
}
"""Scorer -> what it gives to a run without a fault (client: evaluation/scoring.py).

``accuracy_config.scale``, which clients of another version write, stands for it."""
FRACTIONS = frozenset({"F1_HIERARCHICAL", "DICE"})
"""Metrics that a round states as a share of 1; all others are percent."""
AUDITS: Mapping[str, str] = {
    "TEST01": "accuracy_in_performance_test",
    "TEST04": "output_caching_test",
    "TEST06": "consistency_output_test",
    "TEST07": "accuracy_in_performance_full_test",
    "TEST08": "accuracy_in_performance_dlrmv3_test",
}
"""Compliance test -> the client's (checker: ENDPOINTS_COMPLIANCE_MAPPING)."""
REQUIRED_AUDITS = ("TEST04",)
"""Those that the checker misses where there is no file of them."""


def find_rounds() -> tuple[str, ...]:
    """Return the rounds that take endpoints results, oldest first."""
    return tuple(name for name in rounds.ROUNDS if name in MODELS)


def find_round_of_seeds(config: Document) -> str:
    """Return the round whose two seeds a configuration has; empty for others.

    ``dataloader_random_seed`` is LoadGen's sample index, ``scheduler_random_seed`` its
    schedule (checker: ENDPOINTS_YAML_FIELD_MAP); there is no third.
    """
    runtime = ("settings", "runtime")
    logged = tuple(
        config.find(*runtime, f"{name}_random_seed")
        for name in ("dataloader", "scheduler")
    )
    for name in reversed(rounds.ROUNDS):
        seeds = rounds.get(name).seeds
        if logged == (seeds.sample_index, seeds.schedule):
            return name
    return ""


def choose_metric(rule: Rule, scenario: Scenario) -> tuple[tuple[str, ...], str]:
    """Return where the reported figure lies in the summary, and its unit.

    Streams report the mean latency; servers and Offline tokens a second where the
    round counts tokens. The checker of v6.1 finds the tokens of Server alone and
    prints samples a second under the heading of tokens for the other two.
    """
    if scenario in (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM):
        return ("latency", "avg"), "ns"
    if "tokens" in rule.result_key:
        return ("tps",), "tokens/s"
    return ("qps",), rule.unit
