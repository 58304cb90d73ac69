"""TEST06: token answers are consistent: first token, end of sequence, length.

mlcommons/inference b66003e1, compliance/TEST06/run_verification.py: int32 tokens, one
end of sequence at most.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from pytest_mlperf.core.checks.outcome import make_check
from pytest_mlperf.core.compliance import report
from pytest_mlperf.core.compliance.answers import read_records
from pytest_mlperf.core.compliance.audit import SOURCE
from pytest_mlperf.core.compliance.audit import Audit
from pytest_mlperf.core.compliance.audit import AuditedRun
from pytest_mlperf.core.compliance.audit import AuditFinding
from pytest_mlperf.core.compliance.audit import AuditTest
from pytest_mlperf.core.compliance.audit import make_audit
from pytest_mlperf.core.compliance.audit import make_sampling
from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.rounds.rule import Rule

EOS = 2
"""End of sequence of the Llama 2 tokenizer, the script's default."""
TOKEN_BYTES = 4
PROOF = (
    ("First token check pass: True", "First token check pass: Skipped"),
    ("EOS check pass: True",),
    ("Sample length check pass: True",),
)
"""Each of these must be in verify_accuracy.txt, in one of its forms."""


class TokenAnswers(AuditTest):
    """TEST06."""

    name = "TEST06"
    needs_token_ids = True
    keeps_answers = True
    files = (report.VERIFY_ACCURACY, f"accuracy/{ACCURACY}")

    def resolve(self, rule: Rule) -> Audit:
        own = {"min_query_count": 100, "min_duration": 0}
        settings = make_sampling(100, **own, sample_concatenate_permutation=0)
        return make_audit(self, rule, settings, f"{SOURCE}TEST06/audit.config")

    def verify(self, run: AuditedRun) -> tuple[AuditFinding, ...]:
        check, file = "compliance_accuracy", report.VERIFY_ACCURACY
        return (report.attempt(self._verify_tokens, run, check, file),)

    def _verify_tokens(self, run: AuditedRun) -> AuditFinding:
        streamed = run.audit.scenario != "Offline"
        tokens = read_consistency(run.folder, streamed=streamed)
        rows = (
            ("first_token", tokens.first_token, "the first token as it was reported"),
            (
                "single_eos",
                tokens.several_eos,
                "at most one end of sequence in the end",
            ),
            ("token_count", tokens.length, "as many tokens as were reported"),
        )
        checks = tuple(
            make_check(
                f"compliance_{name}",
                sample is None,
                f"{tokens.entries:,} answers" if sample is None else f"sample {sample}",
                required,
                ACCURACY,
                "give LoadGen the tokens that the model made, each once",
            )
            for name, sample, required in rows
            if streamed or name != "first_token"
        )
        return AuditFinding(checks, report.VERIFY_ACCURACY, format_consistency(tokens))

    def missing_proof(self, text: str) -> Iterator[tuple[str, str]]:
        lines = {line.strip() for line in text.splitlines()}
        for legal in PROOF:
            if not lines & set(legal):
                yield "no such line", " or ".join(repr(line) for line in legal)

    def can_verify_again(self, folder: Path) -> bool:
        """True for tokens of 4 bytes; the official script takes others by option."""
        try:
            first = next(read_records(folder), {})
            return bool(len(first["data"]) == 2 * TOKEN_BYTES * first["token_count"])
        except LogError:
            return True  # What is wrong, the verification says.
        except (KeyError, TypeError):
            return False


@dataclass(frozen=True, slots=True)
class TokenConsistency:
    """TEST06: the three questions, each with the first sample that fails it."""

    entries: int
    first_token: int | None
    """qsl_idx of an answer that begins with another token than was reported first."""
    several_eos: int | None
    """qsl_idx of an answer that ends with two or more ends of sequence."""
    length: int | None
    """qsl_idx of an answer with another number of tokens than was reported."""
    streamed: bool
    """False for Offline, where no first token is reported."""


def read_consistency(folder: Path, *, streamed: bool) -> TokenConsistency:
    """Return what TEST06 asks of a folder's accuracy log; ``LogError`` if damaged."""
    first: int | None = None
    several_eos: int | None = None
    length: int | None = None
    count = 0
    for record in read_records(folder):
        count += 1
        index = record["qsl_idx"]
        answer = read_tokens(folder, record, "data")
        if streamed and first is None:
            reported = read_tokens(folder, record, "token_data")
            known = min(len(reported), len(answer))
            first = index if reported[:known] != answer[:known] else None
        if several_eos is None and count_trailing(answer, EOS) > 1:
            several_eos = index
        if length is None and record.get("token_count") != len(answer):
            length = index
    return TokenConsistency(count, first, several_eos, length, streamed)


def count_trailing(answer: tuple[int, ...], eos: int) -> int:
    """Return how many ends of sequence an answer closes with.

    The script leaves the first token of an answer out of the count.
    """
    return sum(1 for _ in takewhile(lambda token: token == eos, answer[:0:-1]))


def read_tokens(folder: Path, record: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """Return the int32 tokens of a record's field; ``LogError`` if malformed."""
    try:
        data = bytes.fromhex(record[key])
        return struct.unpack(f"<{len(data) // TOKEN_BYTES}i", data)
    except (KeyError, TypeError, ValueError, struct.error):
        found = f"sample {record['qsl_idx']} with {key} {str(record.get(key))[:20]!r}"
        required = "int32 tokens in hexadecimal"
        raise LogError(folder / ACCURACY, 0, found, required) from None


def format_consistency(tokens: TokenConsistency) -> str:
    """Return verify_accuracy.txt."""
    first = str(tokens.first_token is None) if tokens.streamed else "Skipped"
    passed = tokens.first_token is tokens.several_eos is tokens.length is None
    lines = [
        f"First token check pass: {first}",
        f"EOS check pass: {tokens.several_eos is None}",
        f"Sample length check pass: {tokens.length is None}",
        f"TEST06 verification {'complete' if passed else 'failed'}",
    ]
    return "\n".join([*lines, ""])


TEST06 = TokenAnswers()
