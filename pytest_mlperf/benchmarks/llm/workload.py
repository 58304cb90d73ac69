"""The workload of an LLM benchmark: prompts, logged answers and scores.

LoadGen logs of each answer the int32 token ids that the official scripts read, or,
from a service that reports none, the text and its number of tokens.
"""

from __future__ import annotations

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

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.samples import Prompt
from pytest_mlperf.api.sources import files_digest
from pytest_mlperf.benchmarks.files import LLM_EXTRA
from pytest_mlperf.benchmarks.files import require_package
from pytest_mlperf.core.types import Mode

MOST_IDS = 1 << 24
"""Above every vocabulary; below it, an id's last byte is 0."""


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """One sample's answer, read back from LoadGen's log."""

    index: int
    text: str
    tokens: int


Scorer = Callable[[Sequence[LoggedAnswer]], dict[str, float]]


def encode_answer(answer: Answer) -> bytes:
    """Return an answer's bytes for the log.

    Ids end with a zero byte. A text has no zero byte, and a zero and its token count in
    decimal follow it: the two forms cannot be confused.
    """
    ids = answer.token_ids
    if ids and min(ids) >= 0 and max(ids) < MOST_IDS:
        return np.array(ids, "<i4").tobytes()
    text = answer.text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text.encode("utf-8", "replace") + b"\0%d" % answer.tokens


def decode_answer(
    index: int, raw: bytes, to_text: Callable[[Sequence[int]], str] | None
) -> LoggedAnswer:
    """Return the answer of which ``encode_answer`` made the bytes.

    ``to_text`` is the tokenizer's. Raises ``ValueError`` for other bytes and
    ``RequirementMissing`` where token ids need a tokenizer and there is none.
    """
    text, mark, count = raw.rpartition(b"\0")
    if mark and count.isdigit() and b"\0" not in text:
        return LoggedAnswer(index, text.decode("utf-8", "replace"), int(count))
    if not raw or len(raw) % 4 or raw[-1]:
        raise ValueError(
            f"found an answer of {len(raw)} bytes for sample {index}, but should be"
            " int32 token ids, or a text, a zero byte and the number of tokens"
            " [mlperf_log_accuracy.json]. Run the accuracy mode again."
        )
    ids = np.frombuffer(raw, "<i4").tolist()
    if to_text is None:
        raise RequirementMissing(
            "the service reports token ids, and the model's tokenizer.json that turns"
            " them into text is not in the scratch folder: put the model's folder"
            " there, or have the service send text alone."
        )
    return LoggedAnswer(index, to_text(ids), len(ids))


@dataclass(frozen=True)
class Prompts:
    """The questions: token ids or texts, and how long the answers may be."""

    max_tokens: int
    ids: Sequence[NDArray[np.int32]] = ()
    texts: Sequence[str] = ()
    stops: Sequence[tuple[str, ...]] = ()
    """Stop strings of each prompt; empty where the end token alone ends an answer."""

    def __len__(self) -> int:
        return len(self.ids) or len(self.texts)

    def __getitem__(self, index: int) -> Prompt:
        return Prompt(
            text=self.texts[index] if self.texts else "",
            # Converted on demand: all prompts at once would take 36 bytes a token.
            token_ids=tuple(self.ids[index].tolist()) if self.ids else (),
            max_tokens=self.max_tokens,
            stop=self.stops[index] if self.stops else (),
        )


@dataclass(frozen=True)
class LLMWorkload:
    """A ``PromptWorkload``, whose attributes are documented there."""

    kind: str
    title: str
    prompts: Prompts
    reference: Mapping[str, float]
    scorer: Scorer
    write_line: Callable[[Mapping[str, float], int], str]
    """Metrics and number of samples -> the official line of accuracy.txt."""
    files: tuple[Path, ...] = ()
    """The files that the prompts were read from."""
    recipe: str = ""
    """Whatever else decides an answer; enters the digest."""
    tokenizer: Path | None = None
    keep_special: bool = False
    """Special tokens stay in the text (gpt-oss: they mark its channels)."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    unjudged: Mapping[str, str] = field(default_factory=dict)
    accuracy: Callable[[], LLMWorkload] | None = None
    """Opens the accuracy set, where it differs from the performance set."""
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
        return files_digest(self.files, rules)

    def during(self, mode: Mode) -> LLMWorkload:
        """Return the workload of a mode; raises ``RequirementMissing``."""
        return self.accuracy() if self.accuracy and mode is Mode.ACCURACY else self

    def prompt(self, index: int) -> Prompt:
        return self.prompts[index]

    def encode(self, answer: Answer) -> bytes:
        return encode_answer(answer)

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]:
        """Return metric -> value; raises ``ValueError`` for an unknown sample."""
        unknown = [i for i in answers if not 0 <= i < self.total]
        if unknown or not answers:
            sample = f"sample {unknown[0]}" if unknown else "no sample"
            raise ValueError(
                f"found an answer to {sample}, but should be to samples 0 to"
                f" {self.total - 1} [mlperf_log_accuracy.json]. Run the accuracy mode"
                " again."
            )
        to_text = self._to_text
        items = sorted(answers.items())
        return self.scorer([decode_answer(i, raw, to_text) for i, raw in items])

    def accuracy_text(self, metrics: Mapping[str, float]) -> str:
        """Return the official line, and below it the reason for each absent metric."""
        lines = [self.write_line(metrics, self.total)]
        lines += [f"# {name} not judged: {why}" for name, why in self.unjudged.items()]
        return "\n".join(lines)

    @cached_property
    def _to_text(self) -> Callable[[Sequence[int]], str] | None:
        if self.tokenizer is None:
            return None
        consequence = "token ids cannot be turned into text"
        require_package("tokenizers", consequence, LLM_EXTRA)
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.tokenizer))
        skip = not self.keep_special
        return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=skip))


def mean_tokens(answers: Sequence[LoggedAnswer]) -> float:
    """Return the mean number of tokens, to one decimal place as the references do."""
    return round(sum(answer.tokens for answer in answers) / len(answers), 1)


def convert_ids(rows: Sequence[Any], where: Path) -> list[NDArray[np.int32]]:
    """Return token ids as int32; raises ``ValueError`` for a malformed row."""
    arrays = []
    for number, row in enumerate(rows):
        ids = np.asarray(row)
        if ids.ndim != 1 or not ids.size or not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(
                f"{where} row {number}: {str(row)[:60]!r} is not a list of token ids,"
                " but every prompt should be one. Download the dataset again."
            )
        arrays.append(ids.astype(np.int32))
    return arrays


def make_line_writer(
    names: Mapping[str, str], *, quoted: bool = False
) -> Callable[[Mapping[str, float], int], str]:
    """Return a function that writes metrics as the references print them:
    ``{'rouge1': 44.4, …}``.

    ``names``: metric -> the word the reference prints for it.
    """

    def line(metrics: Mapping[str, float], samples: int) -> str:
        values = {word: metrics[n] for n, word in names.items() if n in metrics}
        parts = []
        for word, value in values.items():
            whole = word == "gen_len"
            text = str(int(value)) if whole else repr(float(value))
            parts.append(
                f"'{word}': '{text}'" if quoted and not whole else f"'{word}': {text}"
            )
        return "{" + ", ".join([*parts, f"'gen_num': {samples}"]) + "}"

    return line
