"""The embedded LLM workload: sentences about a hundred countries, to be completed.

The prompts carry the template of SmolLM2, the model that our own server brings along,
so that they go to ``/v1/completions`` as they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from pytest_mlperf.benchmarks import rouge
from pytest_mlperf.benchmarks.llm import LLMWorkload
from pytest_mlperf.benchmarks.llm import Prompts
from pytest_mlperf.benchmarks.llm import Said
from pytest_mlperf.benchmarks.llm import official_line

EMBEDDED = Path(__file__).resolve().parent.parent / "embedded" / "llama3.1-8b"
MAX_TOKENS = 64
STOP = ("\n",)
TASK = (
    "Complete the sentence about {country}: It is a country in ..., its capital is ...,"
    " and its currency is the ..."
)
BEGUN = "{country} is a country in"
EXPECTED = "{continent}, its capital is {capital}, and its currency is the {currency}."
WORDS = {
    "ROUGE1": "rouge1", "ROUGE2": "rouge2", "ROUGEL": "rougeL",
    "ROUGELSUM": "rougeLsum", "GEN_LEN": "gen_len",
}  # fmt: skip
_END = re.compile(r"(?<=[.!?])\s+")


def prompt(country: str) -> str:
    """Return the text of a request: a user's turn, and the answer as it begins."""
    task, begun = TASK.format(country=country), BEGUN.format(country=country)
    return f"<|im_start|>user\n{task}<|im_end|>\n<|im_start|>assistant\n{begun}"


def sentences(text: str) -> list[str]:
    """Return a text's sentences: the same rule for the reference and what it judges."""
    return _END.split(text)


def open_embedded(folder: Path = EMBEDDED) -> LLMWorkload:
    """Open the stand-in that ships with the package.

    Raises ``ValueError`` when a file is not the one that the manifest records.
    """
    rouge.need()
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    data = folder / "countries.json"
    raw = data.read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != manifest["sha256"][data.name]:
        raise ValueError(
            f"{data} has sha256 {found}, but should be"
            f" {manifest['sha256'][data.name]} [manifest.json]. Install the package"
            " again, or make both files together with scripts/make_capitals.py."
        )
    rows = json.loads(raw)
    targets = [EXPECTED.format(**row) for row in rows]

    def score(said: Sequence[Said]) -> dict[str, float]:
        answers = [rouge.lines(one.text, sentences) for one in said]
        wanted = [rouge.lines(targets[one.index], sentences) for one in said]
        found = rouge.scores(wanted, answers, lsum=True)
        return found | {"GEN_LEN": float(sum(map(len, answers)))}

    return LLMWorkload(
        kind="embedded",
        title=manifest["title"],
        prompts=Prompts(
            MAX_TOKENS,
            texts=[prompt(row["country"]) for row in rows],
            stops=[STOP] * len(rows),
        ),
        reference=manifest["reference"],
        scorer=score,
        printed=official_line(WORDS, quoted=True),
        files=(data,),
        recipe=TASK + BEGUN,
        sampling={"seed": 42},
    )
