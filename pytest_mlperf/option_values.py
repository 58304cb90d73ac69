"""What an option's text means: each parser returns a value or says what is legal.

The text of a ``ValueError`` completes the sentence "found x, but should be …".
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from collections.abc import Iterable
from pathlib import Path


def suggest(name: str, legal: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for a near miss, else nothing."""
    near = difflib.get_close_matches(name, list(legal), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise ValueError("a number above 0")
    return value


def whole(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError("a whole number of at least 1")
    return int(text)


def delay(text: str) -> float:
    """A delay, where 0 is a legal choice: do not wait."""
    return 0.0 if text.strip() in ("0", "0.0") else number(text)


def word(text: str) -> str:
    if not text.strip():
        raise ValueError("a name")
    return text.strip()


def pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Options of an engine: ``level=3,cuda-graphs=off``."""
    found = [part.partition("=") for part in text.split(",") if part.strip()]
    if not found or not all(name.strip() and sign for name, sign, _ in found):
        raise ValueError("NAME=VALUE, several separated by commas")
    return tuple((name.strip(), value.strip()) for name, _, value in found)


def round_name(text: str) -> str:
    from pytest_mlperf.core.rounds import ROUNDS

    name = text if text.startswith("v") else f"v{text}"
    if name not in ROUNDS:
        raise ValueError(f"one of {', '.join(ROUNDS)}.{suggest(name, ROUNDS)}")
    return name


def one_of(*legal: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in legal:
            raise ValueError(f"one of {', '.join(legal)}.{suggest(text, legal)}")
        return text

    return parse


def category(text: str) -> str:
    legal = ("edge", "datacenter", "datacenter,edge")
    parts = sorted(part.strip() for part in text.split(","))
    return one_of(*legal)(",".join(parts))


def org(text: str) -> str:
    from pytest_mlperf.core.submission.layout import folder_problem

    if problem := folder_problem(text):
        raise ValueError(f"{problem}: it names a folder of the submission")
    return text


def folder(text: str) -> Path:
    # Anybody's session comes here; Path.expanduser raises for a ~ that has no home.
    return Path(os.path.expanduser(word(text)))  # noqa: PTH111
