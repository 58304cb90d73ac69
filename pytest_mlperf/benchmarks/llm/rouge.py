"""ROUGE, as the reference implementations compute it.

The numbers are those of the package rouge-score with stemming, which the references
reach through Hugging Face's ``evaluate``: mean F-measure in percent over the samples
(mlcommons/inference b66003e1, language/llama3.1-8b/evaluation.py).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence

from pytest_mlperf.api.errors import Missing

Split = Callable[[str], list[str]]
"""Text -> its sentences; ROUGE-Lsum compares sentence by sentence."""
NAMES = {"rouge1": "ROUGE1", "rouge2": "ROUGE2", "rougeL": "ROUGEL"}
LSUM = {"rougeLsum": "ROUGELSUM"}


def need(remedy: str = "pip install 'pytest-mlperf[llm]'") -> None:
    """Raise ``Missing`` unless the package is installed: asked for before a run."""
    from importlib.util import find_spec

    if find_spec("rouge_score") is None:
        raise Missing(
            "the package rouge-score is not installed, and ROUGE cannot be computed"
            f" without it; {remedy}."
        )


def nltk_sentences() -> Split:
    """Return the references' sentence splitter; ``Missing`` without its data."""
    need()
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab/english")
    except LookupError:
        raise Missing(
            "NLTK's sentence data punkt_tab are not on this machine, and ROUGE-Lsum"
            " is defined by them; python -m nltk.downloader punkt_tab, or put the"
            " folder tokenizers/punkt_tab where NLTK_DATA points."
        ) from None
    split: Split = nltk.sent_tokenize
    return split


def lines(text: str, split: Split) -> str:
    """Return the text stripped, one sentence a line."""
    return "\n".join(split(text.strip()))


def scores(
    targets: Sequence[str], answers: Sequence[str], *, lsum: bool
) -> dict[str, float]:
    """Return metric -> mean F-measure in percent, to four places as the references.

    Texts are taken as they are: ``ROUGELSUM`` wants one sentence a line, the others
    do not see line ends.
    """
    need()
    from rouge_score.rouge_scorer import RougeScorer

    if len(targets) != len(answers) or not answers:
        raise ValueError(
            f"{len(answers)} answers to {len(targets)} samples, but should be as many"
            " and at least one; run the accuracy mode again."
        )
    names = NAMES | LSUM if lsum else NAMES
    scorer = RougeScorer(list(names), use_stemmer=True)
    sums = dict.fromkeys(names, 0.0)
    for target, answer in zip(targets, answers, strict=True):
        found = scorer.score(target, answer)
        for name in names:
            sums[name] += found[name].fmeasure
    return {
        metric: round(sums[name] / len(answers) * 100, 4)
        for name, metric in names.items()
    }
