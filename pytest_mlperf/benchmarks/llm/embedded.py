"""The embedded LLM workload: a city, and which country's capital it is.

A prompt has an example and a line to complete. As in a summary, the answer's words are
in the prompt. It is short enough for two processor cores, and the same everywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.api.embedded_server import REMEDY
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.llm import rouge
from pytest_mlperf.benchmarks.llm.scores import score_summaries
from pytest_mlperf.benchmarks.llm.workload import LLMWorkload
from pytest_mlperf.benchmarks.llm.workload import LoggedAnswer
from pytest_mlperf.benchmarks.llm.workload import Prompts
from pytest_mlperf.benchmarks.llm.workload import make_line_writer

EMBEDDED = files.EMBEDDED / "llama3.1-8b"
MAX_TOKENS = 6
PERFORMANCE_SAMPLES = 20
"""With equal issue LoadGen asks for whole passes over these: 460 queries are 23."""
PROMPT = "Berlin (Germany): capital of Germany.\n{capital} ({country}):"
EXPECTED = "capital of {country}."
# Every answer has all its tokens, so that each has a time per token.
SAMPLING = {"seed": 42, "ignore_eos": True}
WORDS = {
    "ROUGE1": "rouge1", "ROUGE2": "rouge2", "ROUGEL": "rougeL",
    "ROUGELSUM": "rougeLsum", "GEN_LEN": "gen_len",
}  # fmt: skip
_END = re.compile(r"(?<=[.!?])\s+")


def split_sentences(text: str) -> list[str]:
    """Return a text's sentences, by one rule for answers and expected answers."""
    return _END.split(text)


def first_line(text: str) -> str:
    """Return the line that the prompt asked for; the model may go on after it."""
    return text.strip().partition("\n")[0]


def open_embedded(folder: Path = EMBEDDED) -> LLMWorkload:
    """Open the stand-in that ships with the package.

    Raises ``ValueError`` when a file is not the one that the manifest records.
    """
    rouge.require_rouge(REMEDY)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    data = folder / "countries.json"
    files.check_embedded(data, manifest["sha256"][data.name], "make_capitals.py")
    rows = json.loads(data.read_bytes())
    targets = [EXPECTED.format(**row) for row in rows]

    def score(answers: Sequence[LoggedAnswer]) -> dict[str, float]:
        lines = [replace(one, text=first_line(one.text)) for one in answers]
        return score_summaries(lines, targets, split_sentences)

    return LLMWorkload(
        kind="embedded",
        title=manifest["title"],
        prompts=Prompts(MAX_TOKENS, texts=[PROMPT.format(**row) for row in rows]),
        reference=manifest["reference"],
        scorer=score,
        write_line=make_line_writer(WORDS, quoted=True),
        files=(data,),
        recipe=PROMPT,
        sampling=SAMPLING,
        performance_samples=PERFORMANCE_SAMPLES,
    )
