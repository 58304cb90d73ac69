"""The embedded LLM workload: which country's capital is it?

An example, and a line to complete, so that the answer is in the question as a summary
is in its article: short enough for two processor cores, and the same on every machine.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from pytest_mlperf.benchmarks.llm import rouge
from pytest_mlperf.benchmarks.llm.workload import LLMWorkload
from pytest_mlperf.benchmarks.llm.workload import Prompts
from pytest_mlperf.benchmarks.llm.workload import Said
from pytest_mlperf.benchmarks.llm.workload import official_line
from pytest_mlperf.services.local.llama import REMEDY

EMBEDDED = Path(__file__).resolve().parents[2] / "embedded" / "llama3.1-8b"
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


def sentences(text: str) -> list[str]:
    """Return a text's sentences: the same rule for the reference and what it judges."""
    return _END.split(text)


def answered(text: str) -> str:
    """Return the line that was to be completed; what follows it is not asked for."""
    return text.strip().partition("\n")[0]


def open_embedded(folder: Path = EMBEDDED) -> LLMWorkload:
    """Open the stand-in that ships with the package.

    Raises ``ValueError`` when a file is not the one that the manifest records.
    """
    rouge.need(REMEDY)
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
        answers = [rouge.lines(answered(one.text), sentences) for one in said]
        wanted = [rouge.lines(targets[one.index], sentences) for one in said]
        found = rouge.scores(wanted, answers, lsum=True)
        return found | {"GEN_LEN": float(sum(map(len, answers)))}

    return LLMWorkload(
        kind="embedded",
        title=manifest["title"],
        prompts=Prompts(MAX_TOKENS, texts=[PROMPT.format(**row) for row in rows]),
        reference=manifest["reference"],
        scorer=score,
        printed=official_line(WORDS, quoted=True),
        files=(data,),
        recipe=PROMPT,
        sampling=SAMPLING,
        performance_samples=PERFORMANCE_SAMPLES,
    )
