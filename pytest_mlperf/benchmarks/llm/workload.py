"""The workload of an LLM benchmark: prompts, answers and how they are kept and judged.

What LoadGen logs of an answer is either the int32 token ids that the official scripts
read, or, from a service that tells none, its text and the number of its tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.errors import Missing
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.samples import Prompt
from pytest_mlperf.core.types import Mode

MOST_IDS = 1 << 24
"""Above every vocabulary; below it, an id's last byte is 0."""


@dataclass(frozen=True, slots=True)
class Said:
    """One sample's answer, read back from LoadGen's log."""

    index: int
    text: str
    tokens: int


Scorer = Callable[[Sequence[Said]], dict[str, float]]


def encode(answer: Answer) -> bytes:
    """Return an answer's bytes for the log.

    Ids end with a zero byte. A text has none, and a zero and its token count in
    decimal follow it: the two cannot be taken for each other.
    """
    ids = answer.token_ids
    if ids and min(ids) >= 0 and max(ids) < MOST_IDS:
        return np.array(ids, "<i4").tobytes()
    text = answer.text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text.encode("utf-8", "replace") + b"\0%d" % answer.tokens


def decode(
    index: int, raw: bytes, to_text: Callable[[Sequence[int]], str] | None
) -> Said:
    """Return what ``encode`` was given; ``ValueError`` for anything else.

    ``to_text`` is the tokenizer's; ``Missing`` where ids need one and it is None.
    """
    text, mark, count = raw.rpartition(b"\0")
    if mark and count.isdigit() and b"\0" not in text:
        return Said(index, text.decode("utf-8", "replace"), int(count))
    if not raw or len(raw) % 4 or raw[-1]:
        raise ValueError(
            f"found an answer of {len(raw)} bytes for sample {index}, but should be"
            " int32 token ids, or a text, a zero byte and the number of tokens"
            " [mlperf_log_accuracy.json]. Run the accuracy mode again."
        )
    ids = np.frombuffer(raw, "<i4").tolist()
    if to_text is None:
        raise Missing(
            "the service tells token ids, and the model's tokenizer.json that makes"
            " them text is not in the scratch space: put the model's folder there, or"
            " have the service send text alone."
        )
    return Said(index, to_text(ids), len(ids))


@dataclass(frozen=True)
class Prompts:
    """The questions: token ids or texts, and how long the answers may be."""

    max_tokens: int
    ids: Sequence[NDArray[np.int32]] = ()
    texts: Sequence[str] = ()
    stops: Sequence[tuple[str, ...]] = ()
    """What ends each answer beside the end token; empty where nothing does."""

    def __len__(self) -> int:
        return len(self.ids) or len(self.texts)

    def __getitem__(self, index: int) -> Prompt:
        return Prompt(
            text=self.texts[index] if self.texts else "",
            # Made when asked for: all at once would take 36 bytes a token.
            token_ids=tuple(self.ids[index].tolist()) if self.ids else (),
            max_tokens=self.max_tokens,
            stop=self.stops[index] if self.stops else (),
        )


@dataclass(frozen=True)
class LLMWorkload:
    """A ``RequestWorkload``; see there for what its attributes mean."""

    kind: str
    title: str
    prompts: Prompts
    reference: Mapping[str, float]
    scorer: Scorer
    printed: Callable[[Mapping[str, float], int], str]
    """Metrics and number of samples -> the official line of accuracy.txt."""
    files: tuple[Path, ...] = ()
    """What the prompts were read from."""
    recipe: str = ""
    """What else decides an answer, in words."""
    tokenizer: Path | None = None
    keep_special: bool = False
    """Special tokens stay in the text (gpt-oss: they mark its channels)."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    unjudged: Mapping[str, str] = field(default_factory=dict)
    accuracy: Callable[[], LLMWorkload] | None = None
    """Opens what accuracy is measured on, where that is something else."""
    performance_samples: int | None = None
    """How many a performance run draws from; None: all."""

    @property
    def total(self) -> int:
        return len(self.prompts)

    @property
    def performance_count(self) -> int:
        return self.performance_samples or len(self.prompts)

    @property
    def reads_ids(self) -> bool:
        return self.tokenizer is not None

    @cached_property
    def digest(self) -> str:
        rules = (
            f"{self.recipe} {self.prompts.max_tokens} {sorted(self.sampling.items())}"
        )
        whole = hashlib.sha256(rules.encode())
        for path in self.files:
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        return whole.hexdigest()

    def during(self, mode: Mode) -> LLMWorkload:
        """Return what a mode runs on; ``Missing`` when its file is not there."""
        return self.accuracy() if self.accuracy and mode is Mode.ACCURACY else self

    def prompt(self, index: int) -> Prompt:
        return self.prompts[index]

    def encode(self, answer: Answer) -> bytes:
        return encode(answer)

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]:
        """Return metric -> value; ``ValueError`` for an answer to no question."""
        strange = [i for i in answers if not 0 <= i < self.total]
        if strange or not answers:
            found = f"sample {strange[0]}" if strange else "no sample"
            raise ValueError(
                f"found an answer to {found}, but should be to samples 0 to"
                f" {self.total - 1} [mlperf_log_accuracy.json]. Run the accuracy mode"
                " again."
            )
        to_text = self._to_text
        said = [decode(i, raw, to_text) for i, raw in sorted(answers.items())]
        return self.scorer(said)

    def accuracy_text(self, metrics: Mapping[str, float]) -> str:
        """Return the official line, and under it why a metric is not there."""
        lines = [self.printed(metrics, self.total)]
        lines += [f"# {name} not judged: {why}" for name, why in self.unjudged.items()]
        return "\n".join(lines)

    @cached_property
    def _to_text(self) -> Callable[[Sequence[int]], str] | None:
        if self.tokenizer is None:
            return None
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise Missing(
                "the package tokenizers is not installed, and token ids cannot be made"
                " text without it; pip install 'pytest-mlperf[llm]'."
            ) from error
        tokenizer = Tokenizer.from_file(str(self.tokenizer))
        skip = not self.keep_special
        return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=skip))


def tokens_per_sample(said: Sequence[Said]) -> float:
    """Return the mean number of tokens, to one place as the references print it."""
    return round(sum(one.tokens for one in said) / len(said), 1)


def as_ids(rows: Sequence[Any], where: Path) -> list[NDArray[np.int32]]:
    """Return token ids as compact arrays; ``ValueError`` for a row that is none."""
    found = []
    for number, row in enumerate(rows):
        ids = np.asarray(row)
        if ids.ndim != 1 or not ids.size or not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(
                f"{where} row {number}: {str(row)[:60]!r} is no list of token ids, but"
                " every prompt should be one. Download the dataset again."
            )
        found.append(ids.astype(np.int32))
    return found


def official_line(
    names: Mapping[str, str], *, quoted: bool = False
) -> Callable[[Mapping[str, float], int], str]:
    """Return what prints metrics as the references do: ``{'rouge1': 44.4, …}``.

    ``names``: metric -> the word the reference prints for it.
    """

    def line(metrics: Mapping[str, float], samples: int) -> str:
        found = {word: metrics[name] for name, word in names.items() if name in metrics}
        parts = []
        for word, value in found.items():
            whole = word == "gen_len"
            text = str(int(value)) if whole else repr(float(value))
            parts.append(
                f"'{word}': '{text}'" if quoted and not whole else f"'{word}': {text}"
            )
        return "{" + ", ".join([*parts, f"'gen_num': {samples}"]) + "}"

    return line
