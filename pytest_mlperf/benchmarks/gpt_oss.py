"""The benchmark gpt-oss-120b: other questions and lengths for accuracy than for speed.

Rules of the reference implementation: mlcommons/inference b66003e1, language/
gpt-oss-120b (README.md, generation_config.json, eval_mlperf_accuracy.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_mlperf.benchmarks.llm import exact_match
from pytest_mlperf.benchmarks.llm import tables
from pytest_mlperf.benchmarks.llm.official import OfficialOnly
from pytest_mlperf.benchmarks.llm.official import Source
from pytest_mlperf.benchmarks.llm.official import check_size
from pytest_mlperf.benchmarks.llm.official import find_tokenizer
from pytest_mlperf.benchmarks.llm.scores import CODE
from pytest_mlperf.benchmarks.llm.scores import Subsets
from pytest_mlperf.benchmarks.llm.scores import mixed
from pytest_mlperf.benchmarks.llm.scores import reasoning_line
from pytest_mlperf.benchmarks.llm.scores import subset
from pytest_mlperf.benchmarks.llm.workload import LLMWorkload
from pytest_mlperf.benchmarks.llm.workload import Prompts
from pytest_mlperf.benchmarks.llm.workload import Said
from pytest_mlperf.benchmarks.llm.workload import as_ids

ORIGIN = "the MLCommons inference storage (gpt-oss)"
PERFORMANCE = Source(
    benchmark="gpt-oss-120b",
    names=("perf/perf_eval_ref.parquet", "perf/perf_eval_ref.pkl"),
    samples=6396,
    origin=ORIGIN,
    folders=("data/gpt-oss",),
)
ACCURACY = Source(
    benchmark="gpt-oss-120b",
    names=(
        "acc/acc_eval_inputs.parquet", "acc/acc_eval_ref.parquet",
        "acc/acc_eval_inputs.pkl",
    ),
    samples=4395,
    origin=ORIGIN,
    folders=("data/gpt-oss",),
)  # fmt: skip
MODELS = ("gpt-oss-120b", "openai/gpt-oss-120b", "gpt-oss/gpt-oss-120b")
REFERENCE = {"exact_match": 83.13}
PERFORMANCE_TOKENS, ACCURACY_TOKENS = 10_240, 32_768
# Not greedy: the one benchmark whose reference samples.
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "skip_special_tokens": False}
SUBSETS: Subsets = {
    "aime": exact_match.aime,
    "gpqa": exact_match.harmony_choice,
    "livecodebench": None,
}
REPEATS = {"aime": 8, "gpqa": 5, "livecodebench": 3}
"""How often the accuracy set asks each question."""


def open_official(
    scratch: Path | None, samples: Sequence[int] | None = None
) -> LLMWorkload:
    """Open what speed is measured on; accuracy's file is opened when it is wanted.

    ``samples``: how many either set must have; the official numbers when None.
    """
    fast, exact = samples or (PERFORMANCE.samples, ACCURACY.samples)
    path = PERFORMANCE.find(scratch)
    ids = _ids(tables.read(path, (), optional=("tok_input", "input_tokens")), path)
    check_size(len(ids), PERFORMANCE, path, fast)

    def unscored(said: Sequence[Said]) -> dict[str, float]:
        raise ValueError(
            f"{len(said)} answers to {path.name}, which has no expected ones; score an"
            " accuracy run."
        )

    return LLMWorkload(
        kind="official",
        title=f"gpt-oss-120b on {path.name}, {len(ids):,} samples",
        prompts=Prompts(PERFORMANCE_TOKENS, ids),
        reference=REFERENCE,
        scorer=unscored,
        printed=reasoning_line,
        files=(path,),
        recipe="gpt-oss-120b performance",
        keep_special=True,
        sampling=SAMPLING,
        accuracy=lambda: open_accuracy(scratch, exact),
    )


def open_accuracy(scratch: Path | None, samples: int) -> LLMWorkload:
    """Open what accuracy is measured on."""
    path = ACCURACY.find(scratch)
    tokens = ("tok_input", "input_tokens")
    table = tables.read(path, ("dataset", "ground_truth"), optional=tokens)
    ids = _ids(table, path)
    check_size(len(ids), ACCURACY, path, samples)
    kinds = {subset(name, SUBSETS) for name in table["dataset"]}
    code = "livecodebench" in kinds
    return LLMWorkload(
        kind="official",
        title=f"gpt-oss-120b on {path.name}, {len(ids):,} samples",
        prompts=Prompts(ACCURACY_TOKENS, ids),
        reference=REFERENCE,
        scorer=mixed(table["dataset"], table["ground_truth"], SUBSETS, REPEATS),
        printed=reasoning_line,
        files=(path,),
        recipe="gpt-oss-120b accuracy",
        tokenizer=find_tokenizer(scratch, MODELS),
        keep_special=True,
        sampling=SAMPLING,
        unjudged={"exact_match": f"livecodebench: {CODE}"} if code else {},
    )


def _ids(table: tables.Table, path: Path) -> Sequence[Any]:
    for name in ("tok_input", "input_tokens"):
        if name in table:
            return as_ids(table[name], path)
    raise ValueError(
        f"{path} has no column of token ids, but should have tok_input or"
        " input_tokens. Take the dataset as its official source offers it."
    )


GPT_OSS = OfficialOnly("gpt-oss-120b", ("gpt-oss",), "exact_match", open_official)
