"""ROUGE, as the reference implementations compute it.

The references use the package rouge-score with stemming, through Hugging Face's
``evaluate``, and report the mean F-measure over the samples in percent
(mlcommons/inference b66003e1, language/llama3.1-8b/evaluation.py).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.benchmarks.files import LLM_EXTRA
from pytest_mlperf.benchmarks.files import require_package

Split = Callable[[str], list[str]]
"""Text -> its sentences; ROUGE-Lsum compares sentence by sentence."""
NAMES = {"rouge1": "ROUGE1", "rouge2": "ROUGE2", "rougeL": "ROUGEL"}
LSUM = {"rougeLsum": "ROUGELSUM"}


def require_rouge(remedy: str = LLM_EXTRA) -> None:
    """Raise ``RequirementMissing``, before a run, unless the package is there."""
    require_package("rouge-score", "ROUGE cannot be computed", remedy, "rouge_score")


def load_sentence_splitter() -> Split:
    """Return the references' sentence splitter.

    Raises ``RequirementMissing`` without its data.
    """
    require_rouge()
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab/english")
    except LookupError:
        raise RequirementMissing(
            "NLTK's sentence data punkt_tab are not on this machine, and ROUGE-Lsum"
            " is defined by them; python -m nltk.downloader punkt_tab, or put the"
            " folder tokenizers/punkt_tab where NLTK_DATA points."
        ) from None
    split: Split = nltk.sent_tokenize
    return split


def split_lines(text: str, split: Split) -> str:
    """Return the text stripped, one sentence a line."""
    return "\n".join(split(text.strip()))


def compute_rouge(
    targets: Sequence[str], answers: Sequence[str], *, lsum: bool
) -> dict[str, float]:
    """Return metric -> mean F-measure in percent, to four places as the references.

    Texts are not changed: ``ROUGELSUM`` needs one sentence a line, the others ignore
    line ends.
    """
    require_rouge()
    from rouge_score.rouge_scorer import RougeScorer

    if len(targets) != len(answers) or not answers:
        raise ValueError(
            f"{len(answers)} answers to {len(targets)} samples, but should be as many"
            " as there are samples and at least one; run the accuracy mode again."
        )
    names = NAMES | LSUM if lsum else NAMES
    scorer = RougeScorer(list(names), use_stemmer=True)
    sums = dict.fromkeys(names, 0.0)
    for target, answer in zip(targets, answers, strict=True):
        scores = scorer.score(target, answer)
        for name in names:
            sums[name] += scores[name].fmeasure
    return {
        metric: round(sums[name] / len(answers) * 100, 4)
        for name, metric in names.items()
    }
