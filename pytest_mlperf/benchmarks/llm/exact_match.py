"""Graders of answers that are right or wrong, as the reference implementations grade.

Each function defines the grade of one subset, 0 to 1, from the answer's text and the
expected text. Sources: mlcommons/inference b66003e1,
language/{mixtral-8x7b/evaluate-accuracy,llama3.1-405b/evaluate-accuracy,
deepseek-r1/eval_accuracy,gpt-oss-120b/eval_accuracy}.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Grader = Callable[[str, str], float]

_NUMBER = re.compile(r"-?[\d,]*\.?\d+")
_UUID = re.compile(r"\w{8}-\w{4}-\w{4}-\w{4}-\w{12}")
_BOXED_NUMBER = re.compile(r"\\boxed{\s*(\d+)\s*}")
_ANSWER_NUMBER = re.compile(r"answer:\s*(\d+)(?!\.)\b", re.IGNORECASE)
_FINAL = re.compile(
    r"<\|channel\|>final[^<]*<\|message\|>(.*?)(?:<\|return\|>|$)", re.DOTALL
)
_BOLD = re.compile(r"\*\*([^*]+)\*\*")
_LARGEST_AIME = 999


def grade_gsm8k(answer: str, expected: str) -> float:
    """Grade a sum: the number after ``The answer is``, else the last number.

    The model may go on with a question of its own (``Q:``), which does not count.
    """
    text = answer.split("\nQ:")[0]
    _, mark, after = text.rpartition("The answer is")
    numbers = _NUMBER.findall(after) if mark else []
    last = numbers[0] if numbers else (_NUMBER.findall(text) or [""])[-1]
    number = _float(last)
    return float(number is not None and number == _float(str(expected), commas=False))


def _float(text: str, *, commas: bool = True) -> float | None:
    try:
        return float(text.replace(",", "") if commas else text)
    except ValueError:
        return None


def grade_needle(answer: str, expected: str) -> float:
    """Grade identifiers in order: the mean share of each that is right."""
    identifiers, expected_ones = _UUID.findall(answer), _UUID.findall(expected)
    if not identifiers:
        return 0.0
    hits = 0.0
    for identifier, expected_one in zip(identifiers, expected_ones, strict=False):
        # The reference compares letter by letter: the share of the expected
        # identifier's characters that the found one holds anywhere.
        hits += sum(c in identifier.lower() for c in expected_one.lower()) / len(
            expected_one
        )
    return round(hits / len(identifiers) * 100, 2) / 100


def grade_alternatives(answer: str, expected: str) -> float:
    """Grade a short answer against alternatives that ``|`` separates.

    The text after the last ``Answer: `` counts; spaces and case do not.
    """
    text = answer.rpartition("Answer: ")[2]
    if text in expected:
        return 1.0
    plain = _plain(text)
    return float(any(_plain(one) in plain for one in expected.split("|")))


def _plain(text: str) -> str:
    return re.sub(r"\s+", "", text).lower()


def grade_aime(answer: str, expected: str) -> float:
    """Grade an AIME answer: the last boxed number, else the last ``Answer: n``."""
    numbers = _BOXED_NUMBER.findall(answer) or _ANSWER_NUMBER.findall(answer)
    try:
        number = int(numbers[-1]) if numbers else None
        right = int(expected)
    except ValueError:
        return 0.0
    return float(number is not None and number <= _LARGEST_AIME and number == right)


def make_choice_grader(last: str) -> Grader:
    """Return the grader of a choice from A to ``last``: the last ``ANSWER: X``.

    With ten options (MMLU-Pro, last J) any letter that stands alone is the fallback.
    """
    pattern = _answer_pattern(last)
    alone = re.compile(r"\b([A-J])\b", re.IGNORECASE) if last == "J" else None

    def grade(answer: str, expected: str) -> float:
        text = _clean(answer.strip())
        letters = pattern.findall(text) or (alone.findall(text) if alone else [])
        return float(bool(letters) and letters[-1].upper() == expected.upper())

    return grade


def grade_harmony_choice(answer: str, expected: str) -> float:
    """Grade a choice from A to D in gpt-oss's format: its final channel first."""
    text = answer.strip()
    final = _FINAL.search(text)
    section = _clean(_BOLD.sub(r"\1", final[1].strip() if final else text)).strip()
    match = re.match(r"[^a-zA-Z]*([A-D])(?:[^a-zA-Z]|$)", section, re.IGNORECASE)
    match = match or re.search(r"\banswer\s*[:.]?\s*([A-D])\b", section, re.IGNORECASE)
    whole = text.replace(r"\n", "\n").replace(r"\'", "'")
    letters = [match[1]] if match else _answer_pattern("D").findall(whole)
    return float(bool(letters) and letters[-1].upper() == expected.upper())


def _answer_pattern(last: str) -> re.Pattern[str]:
    return re.compile(
        rf"\b(?:answer|final\s*answer)\b\s*[:=]?\s*\(?\s*([A-{last}])\s*\)?"
        r"(?:\s*$|[^A-Za-z])",
        re.IGNORECASE,
    )


def _clean(text: str) -> str:
    """Return the text without the marks of a printed list."""
    if text.startswith(("['", '["')) and text.endswith(("']", '"]')):
        text = text[2:-2].strip()
    return text.replace(r"\n", "\n").replace(r"\'", "'")
