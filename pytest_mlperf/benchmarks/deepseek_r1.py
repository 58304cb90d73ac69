"""The benchmark deepseek-r1: reasoning about mathematics, science and programs.

Rules of the reference implementation: mlcommons/inference b66003e1, language/
deepseek-r1 (utils/backend_registry.py, eval_accuracy.py).
"""

from __future__ import annotations

from pathlib import Path

from pytest_mlperf.benchmarks.llm import exact_match
from pytest_mlperf.benchmarks.llm import official
from pytest_mlperf.benchmarks.llm import scores
from pytest_mlperf.benchmarks.llm.workload import LLMWorkload
from pytest_mlperf.benchmarks.llm.workload import Prompts
from pytest_mlperf.benchmarks.llm.workload import convert_ids

DATASET = official.dataset_source(
    benchmark="deepseek-r1",
    names=("mlperf_deepseek_r1_dataset_4388_fp8_eval.pkl",),
    samples=4388,
    origin="the MLCommons R2 downloader (deepseek-r1-datasets-fp8-eval)",
    folders=("preprocessed_data/deepseek-r1",),
)
TOKENIZER = official.tokenizer_source(
    "DeepSeek-R1", "deepseek-ai/DeepSeek-R1", "deepseek-r1"
)
MAX_TOKENS = 20_000
SAMPLING = {"top_p": 1.0, "seed": 42}
SUBSETS: scores.Subsets = {
    "gpqa": exact_match.make_choice_grader("D"),
    "mmlu_pro": exact_match.make_choice_grader("J"),
    "math500": None,
    "aime": exact_match.grade_aime,
    "livecodebench": None,
}
REASONS = {"math500": scores.NO_GRADER, "livecodebench": scores.RUNS_PROGRAMS}


def open_official(
    scratch: Path | None, samples: int | None = DATASET.samples
) -> LLMWorkload:
    """Open the official dataset; ``samples`` it must have, None for any.

    Prompts go out as token ids where the dataset has them (with the model's template),
    else as text, for a chat endpoint to put the template around.
    """
    columns = ("text_input", "ground_truth", "dataset")
    path, table = official.read_dataset(
        "deepseek-r1", DATASET, scratch, samples, columns, optional=("tok_input",)
    )
    texts = [str(text) for text in table["text_input"]]
    ids = convert_ids(table["tok_input"], path) if "tok_input" in table else ()
    kinds = {scores.find_subset(name, SUBSETS) for name in table["dataset"]}
    reasons = [f"{k}: {why}" for k, why in REASONS.items() if k in kinds]
    return LLMWorkload(
        kind="official",
        title=f"DeepSeek-R1 on {path.name}, {len(texts):,} samples",
        prompts=Prompts(MAX_TOKENS, ids, texts),
        reference={},
        scorer=scores.make_subset_scorer(
            table["dataset"], table["ground_truth"], SUBSETS
        ),
        write_line=scores.write_reasoning_line,
        files=(path,),
        recipe="deepseek-r1",
        tokenizer=TOKENIZER.find(scratch),
        sampling=SAMPLING,
        unjudged={"exact_match": "; ".join(reasons)} if reasons else {},
    )


DEEPSEEK_R1 = official.OfficialBenchmark(
    "deepseek-r1", ("ds-r1",), "exact_match", open_official, (DATASET, TOKENIZER)
)
