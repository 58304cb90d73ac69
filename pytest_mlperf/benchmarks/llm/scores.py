"""Scorers of the LLM benchmarks, made from a dataset's columns."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence

from pytest_mlperf.benchmarks.llm import exact_match
from pytest_mlperf.benchmarks.llm import rouge
from pytest_mlperf.benchmarks.llm import tables
from pytest_mlperf.benchmarks.llm.workload import LoggedAnswer
from pytest_mlperf.benchmarks.llm.workload import Scorer
from pytest_mlperf.benchmarks.llm.workload import mean_tokens


def score_summaries(
    answers: Sequence[LoggedAnswer], targets: Sequence[str], split: rouge.Split
) -> dict[str, float]:
    """Return ROUGE 1, 2, L and Lsum, and the number of characters of all answers."""
    texts = [rouge.split_lines(one.text, split) for one in answers]
    expected = [rouge.split_lines(targets[one.index], split) for one in answers]
    metrics = rouge.compute_rouge(expected, texts, lsum=True)
    return metrics | {"GEN_LEN": float(sum(map(len, texts)))}


def make_summary_scorer(table: tables.Table, columns: Sequence[str]) -> Scorer:
    """Return a scorer by ROUGE, with the references' sentence splitter."""
    split = rouge.load_sentence_splitter()
    return lambda answers: score_summaries(answers, table[columns[1]], split)


def make_open_orca_scorer(table: tables.Table, columns: Sequence[str]) -> Scorer:
    """Return a scorer by ROUGE 1, 2 and L, and the mean number of tokens."""
    rouge.require_rouge()
    targets = table[columns[1]]

    def score(answers: Sequence[LoggedAnswer]) -> dict[str, float]:
        expected = [targets[one.index].strip() for one in answers]
        texts = [one.text.strip() for one in answers]
        metrics = rouge.compute_rouge(expected, texts, lsum=False)
        return metrics | {"TOKENS_PER_SAMPLE": mean_tokens(answers)}

    return score


GRADERS = {"niah_em": exact_match.grade_needle, "qa_em": exact_match.grade_alternatives}


def make_long_context_scorer(table: tables.Table, columns: Sequence[str]) -> Scorer:
    """Return a scorer by each sample's ``metric``: ROUGE-L, or right or wrong.

    The reference splits texts into sentences first; neither ROUGE-L nor the graders
    depend on the line ends that this makes.
    """
    rouge.require_rouge()
    targets, kinds = table[columns[1]], table[columns[2]]
    unknown = sorted(set(kinds) - {"rouge", *GRADERS})
    if unknown:
        raise ValueError(
            f"the dataset has the metric {unknown[0]!r}, but should have rouge,"
            f" {' or '.join(GRADERS)}. Take the dataset of the official source."
        )

    def score(answers: Sequence[LoggedAnswer]) -> dict[str, float]:
        metrics = {"TOKENS_PER_SAMPLE": mean_tokens(answers)}
        summaries = [one for one in answers if kinds[one.index] == "rouge"]
        if summaries:
            expected = [targets[one.index].strip() for one in summaries]
            texts = [one.text.strip() for one in summaries]
            rouges = rouge.compute_rouge(expected, texts, lsum=False)
            metrics["ROUGEL"] = rouges["ROUGEL"]
        grades = [
            GRADERS[kinds[one.index]](one.text.strip(), targets[one.index].strip())
            for one in answers
            if kinds[one.index] in GRADERS
        ]
        if grades:
            metrics["exact_match"] = round(sum(grades) / len(grades) * 100, 4)
        return metrics

    return score


RUNS_PROGRAMS = (
    "it comes from running programs that the model wrote, which this suite does not do:"
    " score the accuracy log with the reference's script, in a sandbox"
)
NO_GRADER = (
    "its official grader (prm800k) is no package, and it evaluates what it is given"
)
Subsets = Mapping[str, exact_match.Grader | None]
"""Part of a sample's dataset name -> its grader; None where there is none here."""


def find_subset(name: str, subsets: Subsets) -> str:
    """Return the subset of a dataset's name; raises ``ValueError`` for no known one."""
    for key in subsets:
        if key in name.lower():
            return key
    raise ValueError(
        f"the dataset has samples of {name!r}, but should have those of"
        f" {', '.join(subsets)} alone. Take the dataset of its official source."
    )


def make_subset_scorer(
    datasets: Sequence[str],
    targets: Sequence[object],
    subsets: Subsets,
    repeats: Mapping[str, int] | None = None,
) -> Scorer:
    """Return a scorer of samples of several datasets, asked ``repeats`` times each and
    counted once.

    It returns ``exact_match`` when every sample has a grader, else
    ``exact_match_at_most``, which counts samples without a grader as right.
    """
    kinds = [find_subset(name, subsets) for name in datasets]

    def score(answers: Sequence[LoggedAnswer]) -> dict[str, float]:
        right = dict.fromkeys(kinds, 0.0)
        counts = dict.fromkeys(kinds, 0)
        for one in answers:
            kind = kinds[one.index]
            grade = subsets[kind]
            counts[kind] += 1
            right[kind] += grade(one.text, str(targets[one.index])) if grade else 1.0
        weight = {kind: 1 / (repeats or {}).get(kind, 1) for kind in counts}
        best = sum(counts[kind] * weight[kind] for kind in counts)
        reached = sum(right[kind] * weight[kind] for kind in counts) / best * 100
        metrics = {
            kind: round(right[kind] / counts[kind] * 100, 4)
            for kind, grade in subsets.items()
            if grade and counts.get(kind)
        }
        is_whole = all(subsets[kind] for kind in counts)
        metrics["exact_match" if is_whole else "exact_match_at_most"] = round(
            reached, 4
        )
        tokens = sum(one.tokens for one in answers) / len(answers)
        return metrics | {"TOKENS_PER_SAMPLE": round(tokens, 4)}

    return score


def write_reasoning_line(metrics: Mapping[str, float], samples: int) -> str:
    """Return the line that the references of reasoning models print."""
    words = {"exact_match": "exact_match", "TOKENS_PER_SAMPLE": "tokens_per_sample"}
    parts = [
        f"'{w}': {metrics[name]!r}" for name, w in words.items() if name in metrics
    ]
    return "{" + ", ".join([*parts, f"'num-samples': {samples}"]) + "}"
