"""How answers of the LLM benchmarks are judged, given a dataset's columns."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence

from pytest_mlperf.benchmarks.llm import exact_match
from pytest_mlperf.benchmarks.llm import rouge
from pytest_mlperf.benchmarks.llm import tables
from pytest_mlperf.benchmarks.llm.workload import Said
from pytest_mlperf.benchmarks.llm.workload import Scorer
from pytest_mlperf.benchmarks.llm.workload import tokens_per_sample


def summaries(table: tables.Table, columns: Sequence[str]) -> Scorer:
    """Judge by ROUGE 1, 2, L and Lsum, and by the characters of all answers."""
    targets = table[columns[1]]
    split = rouge.nltk_sentences()

    def score(said: Sequence[Said]) -> dict[str, float]:
        answers = [rouge.lines(one.text, split) for one in said]
        wanted = [rouge.lines(targets[one.index], split) for one in said]
        found = rouge.scores(wanted, answers, lsum=True)
        return found | {"GEN_LEN": float(sum(map(len, answers)))}

    return score


def open_orca(table: tables.Table, columns: Sequence[str]) -> Scorer:
    """Judge by ROUGE 1, 2 and L, and by the tokens of an answer."""
    targets = table[columns[1]]

    def score(said: Sequence[Said]) -> dict[str, float]:
        wanted = [targets[one.index].strip() for one in said]
        answers = [one.text.strip() for one in said]
        found = rouge.scores(wanted, answers, lsum=False)
        return found | {"TOKENS_PER_SAMPLE": tokens_per_sample(said)}

    return score


JUDGES = {"niah_em": exact_match.needle, "qa_em": exact_match.quoted}


def long_context(table: tables.Table, columns: Sequence[str]) -> Scorer:
    """Judge each sample as its ``metric`` says: ROUGE-L, or right and wrong.

    The reference splits texts into sentences first; neither ROUGE-L nor the two
    others see the line ends that this makes.
    """
    targets, metrics = table[columns[1]], table[columns[2]]
    strange = sorted(set(metrics) - {"rouge", *JUDGES})
    if strange:
        raise ValueError(
            f"the dataset has the metric {strange[0]!r}, but should have rouge,"
            f" {' or '.join(JUDGES)}. Take the dataset of the official source."
        )

    def score(said: Sequence[Said]) -> dict[str, float]:
        found = {"TOKENS_PER_SAMPLE": tokens_per_sample(said)}
        texts = [one for one in said if metrics[one.index] == "rouge"]
        if texts:
            wanted = [targets[one.index].strip() for one in texts]
            answers = [one.text.strip() for one in texts]
            found["ROUGEL"] = rouge.scores(wanted, answers, lsum=False)["ROUGEL"]
        hits = [
            JUDGES[metrics[one.index]](one.text.strip(), targets[one.index].strip())
            for one in said
            if metrics[one.index] in JUDGES
        ]
        if hits:
            found["exact_match"] = round(sum(hits) / len(hits) * 100, 4)
        return found

    return score


CODE = (
    "it comes from running programs that the model wrote, which this suite does not do:"
    " score the accuracy log with the reference's script, in a sandbox"
)
GRADER = (
    "its official grader (prm800k) is no package, and it evaluates what it is given"
)
Subsets = Mapping[str, exact_match.Judge | None]
"""Part of a sample's dataset name -> its judge; None where there is none here."""


def subset(name: str, subsets: Subsets) -> str:
    """Return the subset of a sample; ``ValueError`` for a dataset nobody knows."""
    for key in subsets:
        if key in name.lower():
            return key
    raise ValueError(
        f"the dataset has samples of {name!r}, but should have those of"
        f" {', '.join(subsets)} alone. Take the dataset of its official source."
    )


def mixed(
    datasets: Sequence[str],
    targets: Sequence[object],
    subsets: Subsets,
    repeats: Mapping[str, int] | None = None,
) -> Scorer:
    """Judge samples of several datasets, each counted once however often it is asked.

    ``exact_match`` is there only when every sample could be judged; until then
    ``exact_match_at_most`` takes the others for right.
    """
    kinds = [subset(name, subsets) for name in datasets]

    def score(said: Sequence[Said]) -> dict[str, float]:
        right = dict.fromkeys(kinds, 0.0)
        asked = dict.fromkeys(kinds, 0)
        for one in said:
            kind = kinds[one.index]
            judge = subsets[kind]
            asked[kind] += 1
            right[kind] += judge(one.text, str(targets[one.index])) if judge else 1.0
        weight = {kind: 1 / (repeats or {}).get(kind, 1) for kind in asked}
        best = sum(asked[kind] * weight[kind] for kind in asked)
        reached = sum(right[kind] * weight[kind] for kind in asked) / best * 100
        found = {
            kind: round(right[kind] / asked[kind] * 100, 4)
            for kind, judge in subsets.items()
            if judge and asked.get(kind)
        }
        whole = all(subsets[kind] for kind in asked)
        found["exact_match" if whole else "exact_match_at_most"] = round(reached, 4)
        tokens = sum(one.tokens for one in said) / len(said)
        return found | {"TOKENS_PER_SAMPLE": round(tokens, 4)}

    return score


def reasoning_line(metrics: Mapping[str, float], samples: int) -> str:
    """Return the line that the references of reasoning models print."""
    words = {"exact_match": "exact_match", "TOKENS_PER_SAMPLE": "tokens_per_sample"}
    parts = [
        f"'{w}': {metrics[name]!r}" for name, w in words.items() if name in metrics
    ]
    return "{" + ", ".join([*parts, f"'num-samples': {samples}"]) + "}"
