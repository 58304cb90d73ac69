"""The Llama benchmarks: llama2-70b, llama3.1-8b and its edge variant, llama3.1-405b.

Prompts come tokenized with the official datasets; lengths and sampling are those of
the reference implementations (mlcommons/inference b66003e1, language/llama2-70b/
SUT_API.py, language/llama3.1-8b/SUT_VLLM.py, language/llama3.1-405b/SUT_VLLM.py).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_mlperf.api.sources import Source
from pytest_mlperf.benchmarks.llm import official
from pytest_mlperf.benchmarks.llm import rouge
from pytest_mlperf.benchmarks.llm import scores
from pytest_mlperf.benchmarks.llm import tables
from pytest_mlperf.benchmarks.llm.embedded import open_embedded
from pytest_mlperf.benchmarks.llm.workload import LLMWorkload
from pytest_mlperf.benchmarks.llm.workload import Prompts
from pytest_mlperf.benchmarks.llm.workload import Scorer
from pytest_mlperf.benchmarks.llm.workload import convert_ids
from pytest_mlperf.benchmarks.llm.workload import make_line_writer
from pytest_mlperf.core.rounds.rule import Rule

DOWNLOADER = "the MLCommons R2 downloader"
ROUGE_WORDS = {metric: word for word, metric in (rouge.NAMES | rouge.LSUM).items()}
TOKENS = {"TOKENS_PER_SAMPLE": "tokens_per_sample"}


@dataclass(frozen=True)
class LlamaBenchmark:
    """One benchmark: its files, the length of its answers and their score."""

    name: str
    metric: str
    model: str
    """For people."""
    tokenizer: Source
    dataset: Source
    columns: tuple[str, ...]
    """Of the dataset: the prompts' token ids first."""
    max_tokens: int
    scorer: Callable[[tables.Table, Sequence[str]], Scorer]
    """From the table and its columns' names to the scorer of answers."""
    words: Mapping[str, str]
    """Metric -> its word in accuracy.txt."""
    sampling: Mapping[str, Any]
    quoted: bool = False
    embedded: bool = False
    aliases: tuple[str, ...] = ()
    takes: frozenset[str] = frozenset({"prompts"})
    rules: tuple[Rule, ...] = ()

    @property
    def sources(self) -> tuple[Source, ...]:
        return self.dataset, self.tokenizer

    def precision(self, target: str) -> str:  # noqa: ARG002 - one for every target
        return "q8_0" if self.embedded else ""

    def open_workload(self, kind: str, scratch: Path | None) -> LLMWorkload:
        """Open ``official`` or ``embedded``.

        Raises ``RequirementMissing`` for an absent file or package.
        """
        if kind == "official":
            return self.open_official(scratch, self.dataset.samples)
        if self.embedded and kind == "embedded":
            return open_embedded()
        raise official.only_official(self.name, kind)

    def open_official(
        self, scratch: Path | None, samples: int | None = None
    ) -> LLMWorkload:
        """Open the official dataset; ``samples`` it must have, None for any."""
        path, table = official.read_dataset(
            self.name, self.dataset, scratch, samples, self.columns
        )
        ids = convert_ids(table[self.columns[0]], path)
        return LLMWorkload(
            kind="official",
            title=f"{self.model} on {path.name}, {len(ids):,} samples",
            prompts=Prompts(self.max_tokens, ids=ids),
            reference={},
            scorer=self.scorer(table, self.columns),
            write_line=make_line_writer(self.words, quoted=self.quoted),
            files=(path,),
            recipe=self.name,
            tokenizer=self.tokenizer.find(scratch),
            sampling=self.sampling,
        )


GREEDY = {"min_tokens": 1}
CNN = ("tok_input", "output")
SEEDED = {"min_tokens": 1, "seed": 42}

LLAMA2_70B = LlamaBenchmark(
    name="llama2-70b",
    metric="ROUGE1",
    model="Llama-2-70b-chat-hf",
    tokenizer=official.tokenizer_source(
        "Llama2/Llama-2-70b-chat-hf", "Llama-2-70b-chat-hf"
    ),
    dataset=official.dataset_source(
        benchmark="llama2-70b",
        names=(
            "open_orca_gpt4_tokenized_llama.sampled_24576.pkl",
            "open_orca_gpt4_tokenized_llama.sampled_24576.pkl.gz",
            "processed-data.pkl",
        ),
        samples=24_576,
        origin=f"{DOWNLOADER} (llama-2-70b-open-orca-dataset)",
        folders=("preprocessed_data/open_orca", "data/open-orca"),
    ),
    columns=("tok_input", "output"),
    max_tokens=1024,
    scorer=scores.make_open_orca_scorer,
    words=ROUGE_WORDS | TOKENS,
    sampling=GREEDY,
)  # fmt: skip
LLAMA3_1_8B = LlamaBenchmark(
    name="llama3.1-8b",
    metric="ROUGE1",
    model="Llama-3.1-8B-Instruct",
    tokenizer=official.tokenizer_source(
        "Llama3.1-8B/Meta-Llama-3.1-8B-Instruct",
        "Meta-Llama-3.1-8B-Instruct",
        "Llama-3.1-8B-Instruct",
    ),
    dataset=official.dataset_source(
        benchmark="llama3.1-8b",
        names=("cnn_eval.json",),
        samples=13_368,
        origin=f"{DOWNLOADER} (llama3-1-8b-cnn-eval)",
        folders=("data/llama3.1-8b/cnn-dailymail",),
    ),
    columns=CNN,
    max_tokens=128,
    scorer=scores.make_summary_scorer,
    words=ROUGE_WORDS | {"GEN_LEN": "gen_len"},
    sampling=SEEDED,
    quoted=True,
    embedded=True,
)  # fmt: skip
LLAMA3_1_8B_EDGE = replace(
    LLAMA3_1_8B,
    name="llama3.1-8b-edge",
    dataset=official.dataset_source(
        benchmark="llama3.1-8b-edge",
        names=("sample_cnn_eval_5000.json", "cnn_eval_5000.json"),
        samples=5000,
        origin=f"{DOWNLOADER} (llama3-1-8b-sample-cnn-eval-5000)",
        folders=("data/llama3.1-8b",),
    ),
)  # fmt: skip
LLAMA3_1_405B = LlamaBenchmark(
    name="llama3.1-405b",
    metric="ROUGEL",
    model="Llama-3.1-405B-Instruct",
    tokenizer=official.tokenizer_source(
        "Llama3.1-405B/Meta-Llama-3.1-405B-Instruct",
        "Meta-Llama-3.1-405B-Instruct",
        "Llama-3.1-405B-Instruct",
    ),
    dataset=official.dataset_source(
        benchmark="llama3.1-405b",
        names=("mlperf_llama3.1_405b_dataset_8313_processed_fp16_eval.pkl",),
        samples=8313,
        origin=f"{DOWNLOADER} (llama3-1-405b-dataset-8313)",
        folders=("preprocessed_data/llama3.1-405b", "preprocessed_data/Llama3.1"),
    ),
    columns=("tok_input", "gt_output", "metric"),
    max_tokens=2000,
    scorer=scores.make_long_context_scorer,
    words={"ROUGEL": "rougeL", "exact_match": "exact_match"} | TOKENS,
    sampling=SEEDED,
)
