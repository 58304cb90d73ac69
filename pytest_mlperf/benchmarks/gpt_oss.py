"""The benchmark gpt-oss-120b: other questions and lengths for accuracy than for speed.

Rules of the reference implementation: mlcommons/inference b66003e1, language/
gpt-oss-120b (README.md, generation_config.json, eval_mlperf_accuracy.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_mlperf.benchmarks.llm import exact_match
from pytest_mlperf.benchmarks.llm import official
from pytest_mlperf.benchmarks.llm import scores
from pytest_mlperf.benchmarks.llm import tables
from pytest_mlperf.benchmarks.llm.workload import LLMWorkload
from pytest_mlperf.benchmarks.llm.workload import LoggedAnswer
from pytest_mlperf.benchmarks.llm.workload import Prompts
from pytest_mlperf.benchmarks.llm.workload import convert_ids

ORIGIN = "the MLCommons inference storage (gpt-oss)"
PERFORMANCE = official.dataset_source(
    benchmark="gpt-oss-120b",
    names=("perf/perf_eval_ref.parquet", "perf/perf_eval_ref.pkl"),
    samples=6396,
    origin=ORIGIN,
    folders=("data/gpt-oss",),
)
ACCURACY = official.dataset_source(
    benchmark="gpt-oss-120b",
    names=(
        "acc/acc_eval_inputs.parquet", "acc/acc_eval_ref.parquet",
        "acc/acc_eval_inputs.pkl",
    ),
    samples=4395,
    origin=ORIGIN,
    folders=("data/gpt-oss",),
)  # fmt: skip
TOKENIZER = official.tokenizer_source(
    "gpt-oss-120b", "openai/gpt-oss-120b", "gpt-oss/gpt-oss-120b"
)
TOKENS = ("tok_input", "input_tokens")
"""Names of the column of token ids."""
PERFORMANCE_TOKENS, ACCURACY_TOKENS = 10_240, 32_768
# Not greedy: the one benchmark whose reference samples.
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "skip_special_tokens": False}
SUBSETS: scores.Subsets = {
    "aime": exact_match.grade_aime,
    "gpqa": exact_match.grade_harmony_choice,
    "livecodebench": None,
}
REPEATS = {"aime": 8, "gpqa": 5, "livecodebench": 3}
"""How often the accuracy set asks each question."""


def open_official(
    scratch: Path | None, samples: Sequence[int | None] | None = None
) -> LLMWorkload:
    """Open the performance set; the accuracy set is opened when a run needs it.

    ``samples``: how many each set must have; the official numbers when None.
    """
    performance_samples, accuracy_samples = samples or (
        PERFORMANCE.samples,
        ACCURACY.samples,
    )
    path, table = official.read_dataset(
        "gpt-oss-120b", PERFORMANCE, scratch, performance_samples, (), optional=TOKENS
    )
    ids = _convert_ids(table, path)

    def refuse(answers: Sequence[LoggedAnswer]) -> dict[str, float]:
        raise ValueError(
            f"{len(answers)} answers to {path.name}, which has no expected ones; score"
            " an accuracy run."
        )

    return LLMWorkload(
        kind="official",
        title=f"gpt-oss-120b on {path.name}, {len(ids):,} samples",
        prompts=Prompts(PERFORMANCE_TOKENS, ids),
        reference={},
        scorer=refuse,
        write_line=scores.write_reasoning_line,
        files=(path,),
        recipe="gpt-oss-120b performance",
        keep_special=True,
        sampling=SAMPLING,
        accuracy=lambda: open_accuracy(scratch, accuracy_samples),
    )


def open_accuracy(scratch: Path | None, samples: int | None) -> LLMWorkload:
    """Open the accuracy set."""
    columns = ("dataset", "ground_truth")
    path, table = official.read_dataset(
        "gpt-oss-120b", ACCURACY, scratch, samples, columns, optional=TOKENS
    )
    ids = _convert_ids(table, path)
    kinds = {scores.find_subset(name, SUBSETS) for name in table["dataset"]}
    reason = f"livecodebench: {scores.RUNS_PROGRAMS}"
    return LLMWorkload(
        kind="official",
        title=f"gpt-oss-120b on {path.name}, {len(ids):,} samples",
        prompts=Prompts(ACCURACY_TOKENS, ids),
        reference={},
        scorer=scores.make_subset_scorer(
            table["dataset"], table["ground_truth"], SUBSETS, REPEATS
        ),
        write_line=scores.write_reasoning_line,
        files=(path,),
        recipe="gpt-oss-120b accuracy",
        tokenizer=TOKENIZER.find(scratch),
        keep_special=True,
        sampling=SAMPLING,
        unjudged={"exact_match": reason} if "livecodebench" in kinds else {},
    )


def _convert_ids(table: tables.Table, path: Path) -> Sequence[Any]:
    for name in TOKENS:
        if name in table:
            return convert_ids(table[name], path)
    raise ValueError(
        f"{path} has no column of token ids, but should have tok_input or"
        " input_tokens. Take the dataset as its official source offers it."
    )


GPT_OSS = official.OfficialBenchmark(
    "gpt-oss-120b",
    ("gpt-oss",),
    "exact_match",
    open_official,
    (PERFORMANCE, ACCURACY, TOKENIZER),
)
