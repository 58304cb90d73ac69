"""One file a benchmark: what the rules know of it beside the rounds' numbers.

Sources of names. Checker: MODEL_CONFIG[round]["models"] and ["model_mapping"] of
mlcommons/inference v2.0, v4.1, v5.0.1, v5.1.1 and b66003e1. LoadGen: the models in
mlperf.conf of the same. Prose: the tables of inference_rules.adoc and the names of the
reference implementations' folders and weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module

from pytest_mlperf.core.catalog.facts import BenchmarkFacts

__all__ = ["BenchmarkFacts", "get", "read_all"]

_FILES = """
    resnet50 ssd_small ssd_large rnnt bert dlrm unet_3d retinanet dlrm_v2 gptj
    llama2_70b stable_diffusion_xl mixtral_8x7b llama3_1_405b rgat llama3_1_8b
    llama3_1_8b_edge pointpainting deepseek_r1 whisper gpt_oss_120b wan_2_2
    qwen3_vl_235b_a22b dlrm_v3 yolo qwen3_6_27b e2e_rag_qna e2e_rag_db
"""


@cache
def read_all() -> Mapping[str, BenchmarkFacts]:
    """Return the facts of every benchmark of any round by its name, oldest first."""
    modules = (import_module(f"{__name__}.{file}") for file in _FILES.split())
    facts: list[BenchmarkFacts] = [module.FACTS for module in modules]
    return {one.name: one for one in facts}


def get(name: str) -> BenchmarkFacts:
    """Return a benchmark's facts; of somebody's own benchmark the name alone."""
    return read_all().get(name) or BenchmarkFacts(name)
