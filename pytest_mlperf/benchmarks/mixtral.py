"""The benchmark mixtral-8x7b: questions, sums and programs in one dataset.

Rules of the reference implementation: mlcommons/inference b66003e1, language/
mixtral-8x7b (SUT.py, evaluate-accuracy.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_mlperf.benchmarks.llm import exact_match
from pytest_mlperf.benchmarks.llm import official
from pytest_mlperf.benchmarks.llm import rouge
from pytest_mlperf.benchmarks.llm.scores import RUNS_PROGRAMS
from pytest_mlperf.benchmarks.llm.workload import LLMWorkload
from pytest_mlperf.benchmarks.llm.workload import LoggedAnswer
from pytest_mlperf.benchmarks.llm.workload import Prompts
from pytest_mlperf.benchmarks.llm.workload import Scorer
from pytest_mlperf.benchmarks.llm.workload import convert_ids
from pytest_mlperf.benchmarks.llm.workload import make_line_writer
from pytest_mlperf.benchmarks.llm.workload import mean_tokens

DATASET = official.dataset_source(
    benchmark="mixtral-8x7b",
    names=("09292024_mixtral_15k_mintoken2_v1.pkl",),
    samples=15_000,
    origin="the MLCommons R2 downloader (mixtral-8x7b-validation-dataset)",
    folders=("data/moe", "preprocessed_data/moe"),
)
TOKENIZER = official.tokenizer_source(
    "Mixtral/Mixtral-8x7B-Instruct-v0.1", "Mixtral-8x7B-Instruct-v0.1"
)
WORDS = {
    "ROUGE1": "rouge1", "ROUGE2": "rouge2", "ROUGEL": "rougeL",
    "gsm8k_accuracy": "gsm8k", "mbxp_accuracy": "mbxp",
    "TOKENS_PER_SAMPLE": "tokens_per_sample",
}  # fmt: skip
SUBSETS = ("OpenOrca", "GSM8K", "MBXP")
FENCE = "\n```\n"
"""What ends a program: the tokens 13, 13940, 28832, 13."""
MAX_TOKENS = 1024
# The end of a program belongs to it: the reference counts its tokens.
SAMPLING = {"min_tokens": 2, "include_stop_str_in_output": True}


def open_official(
    scratch: Path | None, samples: int | None = DATASET.samples
) -> LLMWorkload:
    """Open the official dataset; ``samples`` it must have, None for any."""
    columns = ("tok_input", "gt_output", "dataset")
    path, table = official.read_dataset(
        "mixtral-8x7b", DATASET, scratch, samples, columns
    )
    ids = convert_ids(table["tok_input"], path)
    kinds = table["dataset"]
    unknown = sorted(set(kinds) - set(SUBSETS))
    if unknown:
        raise ValueError(
            f"{path} has samples of {unknown[0]!r}, but should have those of"
            f" {', '.join(SUBSETS)} alone. Download it again."
        )
    return LLMWorkload(
        kind="official",
        title=f"Mixtral-8x7B-Instruct-v0.1 on {path.name}, {len(ids):,} samples",
        prompts=Prompts(
            MAX_TOKENS, ids, stops=[(FENCE,) if k == "MBXP" else () for k in kinds]
        ),
        reference={},
        scorer=make_scorer(kinds, table["gt_output"]),
        write_line=make_line_writer(WORDS),
        files=(path,),
        recipe="mixtral-8x7b",
        tokenizer=TOKENIZER.find(scratch),
        sampling=SAMPLING,
        unjudged={"mbxp_accuracy": RUNS_PROGRAMS} if "MBXP" in kinds else {},
    )


def make_scorer(kinds: Sequence[str], targets: Sequence[object]) -> Scorer:
    """Score questions by ROUGE, sums by their result, and programs not at all."""
    rouge.require_rouge()

    def score(answers: Sequence[LoggedAnswer]) -> dict[str, float]:
        metrics = {"TOKENS_PER_SAMPLE": mean_tokens(answers)}
        questions = [one for one in answers if kinds[one.index] == "OpenOrca"]
        if questions:
            expected = [str(targets[one.index]).strip() for one in questions]
            texts = [one.text.strip() for one in questions]
            metrics |= rouge.compute_rouge(expected, texts, lsum=False)
        grades = [
            exact_match.grade_gsm8k(one.text, str(targets[one.index]))
            for one in answers
            if kinds[one.index] == "GSM8K"
        ]
        if grades:
            metrics["gsm8k_accuracy"] = 100.0 * sum(grades) / len(grades)
        return metrics

    return score


MIXTRAL = official.OfficialBenchmark(
    "mixtral-8x7b", ("mixtral",), "ROUGE1", open_official, (DATASET, TOKENIZER)
)
