"""What an option's text means: each parser returns a value or says what is legal.

The text of a ``ValueError`` completes the sentence "found x, but should be …".
"""

from __future__ import annotations

import difflib
import os
import re
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


def count(text: str) -> int | str:
    """How many devices: a number, or ``all``."""
    if text.strip() == "all":
        return "all"
    try:
        return whole(text)
    except ValueError as error:
        raise ValueError(f"{error}, or all") from None


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


def urls(text: str) -> tuple[str, ...]:
    """URLs of endpoints, separated by commas; each is read as the client will."""
    from pytest_mlperf.services.http.connection import Address

    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise ValueError("URLs separated by commas, none of them empty")
    for part in parts:
        try:
            Address.parse(part)
        except ValueError as error:
            raise ValueError(f"http://host:port[,…] ({error})") from None
    if len(set(parts)) != len(parts):
        raise ValueError("URLs of which none is named twice")
    return tuple(parts)


def variable(text: str) -> str:
    """The name of an environment variable, never the secret in it."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", text):
        raise ValueError(
            "the name of an environment variable that holds the token (not the token)"
        )
    return text


CORE_TYPES = {
    "trtllm_endpoint": "",
    "trtllm_executor": "runs the model in this process, which is not written",
    "trtllm_hlapi": "runs the model in this process, which is not written",
    "trtllm_disagg": "is a server like any other here",
    "triton_grpc": "speaks to Triton by gRPC, which is not written",
}
"""NVIDIA's names for how a harness reaches a model -> why it is refused."""


def core_type(text: str) -> str:
    """The name S4 has for an OpenAI-compatible server."""
    why = CORE_TYPES.get(text)
    if why:
        raise ValueError(
            f"trtllm_endpoint: {text} {why}; start a server with an "
            "OpenAI-compatible front end and name it with --mlperf-endpoint"
        )
    return one_of("trtllm_endpoint")(text)
