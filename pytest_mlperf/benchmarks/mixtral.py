"""The benchmark mixtral-8x7b: questions, sums and programs in one dataset.

Rules of the reference implementation: mlcommons/inference b66003e1, language/
mixtral-8x7b (SUT.py, evaluate-accuracy.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_mlperf.benchmarks.llm import exact_match
from pytest_mlperf.benchmarks.llm import rouge
from pytest_mlperf.benchmarks.llm import tables
from pytest_mlperf.benchmarks.llm.official import OfficialOnly
from pytest_mlperf.benchmarks.llm.official import Source
from pytest_mlperf.benchmarks.llm.official import check_size
from pytest_mlperf.benchmarks.llm.official import find_tokenizer
from pytest_mlperf.benchmarks.llm.scores import CODE
from pytest_mlperf.benchmarks.llm.workload import LLMWorkload
from pytest_mlperf.benchmarks.llm.workload import Prompts
from pytest_mlperf.benchmarks.llm.workload import Said
from pytest_mlperf.benchmarks.llm.workload import Scorer
from pytest_mlperf.benchmarks.llm.workload import as_ids
from pytest_mlperf.benchmarks.llm.workload import official_line
from pytest_mlperf.benchmarks.llm.workload import tokens_per_sample

SOURCE = Source(
    benchmark="mixtral-8x7b",
    names=("09292024_mixtral_15k_mintoken2_v1.pkl",),
    samples=15_000,
    origin="the MLCommons R2 downloader (mixtral-8x7b-validation-dataset)",
    folders=("data/moe", "preprocessed_data/moe"),
)
MODELS = ("Mixtral/Mixtral-8x7B-Instruct-v0.1", "Mixtral-8x7B-Instruct-v0.1")
REFERENCE = {
    "ROUGE1": 45.5989, "ROUGE2": 23.3526, "ROUGEL": 30.4608, "gsm8k_accuracy": 73.66,
    "mbxp_accuracy": 60.16, "TOKENS_PER_SAMPLE": 144.84,
}  # fmt: skip
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
    scratch: Path | None, samples: int | None = SOURCE.samples
) -> LLMWorkload:
    """Open the official dataset; ``samples`` it must have, None for any."""
    path = SOURCE.find(scratch)
    rouge.need()
    table = tables.read(path, ("tok_input", "gt_output", "dataset"))
    ids = as_ids(table["tok_input"], path)
    check_size(len(ids), SOURCE, path, samples)
    kinds = table["dataset"]
    strange = sorted(set(kinds) - set(SUBSETS))
    if strange:
        raise ValueError(
            f"{path} has samples of {strange[0]!r}, but should have those of"
            f" {', '.join(SUBSETS)} alone. Download it again."
        )
    return LLMWorkload(
        kind="official",
        title=f"Mixtral-8x7B-Instruct-v0.1 on {path.name}, {len(ids):,} samples",
        prompts=Prompts(
            MAX_TOKENS, ids, stops=[(FENCE,) if k == "MBXP" else () for k in kinds]
        ),
        reference=REFERENCE,
        scorer=scorer(kinds, table["gt_output"]),
        printed=official_line(WORDS),
        files=(path,),
        recipe="mixtral-8x7b",
        tokenizer=find_tokenizer(scratch, MODELS),
        sampling=SAMPLING,
        unjudged={"mbxp_accuracy": CODE} if "MBXP" in kinds else {},
    )


def scorer(kinds: Sequence[str], targets: Sequence[object]) -> Scorer:
    """Judge questions by ROUGE, sums by their result, and programs not at all."""

    def score(said: Sequence[Said]) -> dict[str, float]:
        found = {"TOKENS_PER_SAMPLE": tokens_per_sample(said)}
        questions = [one for one in said if kinds[one.index] == "OpenOrca"]
        if questions:
            wanted = [str(targets[one.index]).strip() for one in questions]
            answers = [one.text.strip() for one in questions]
            found |= rouge.scores(wanted, answers, lsum=False)
        sums = [one for one in said if kinds[one.index] == "GSM8K"]
        if sums:
            right = sum(exact_match.gsm8k(o.text, str(targets[o.index])) for o in sums)
            found["gsm8k_accuracy"] = 100.0 * right / len(sums)
        return found

    return score


MIXTRAL = OfficialOnly("mixtral-8x7b", ("mixtral",), "ROUGE1", open_official)
