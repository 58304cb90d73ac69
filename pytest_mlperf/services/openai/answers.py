"""What is in the JSON documents of an OpenAI-style answer, or of a stream's events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pytest_mlperf.api.errors import BadAnswer

SCAN = json.JSONDecoder().raw_decode
"""The parser alone: ``json.loads`` takes as long again to look for an encoding."""
BROKEN_OFF = ("abort", "cancelled", "content_filter", "error", "timeout")
"""Reasons to end with which a server says that an answer is not whole: vLLM's and
SGLang's, TensorRT-LLM's, OpenAI's."""


def parse(data: bytes) -> dict[str, Any]:
    """Return the JSON object; ``BadAnswer`` for anything else, or a server's error."""
    try:
        text = data.decode().strip()
        found, end = SCAN(text)
    except (ValueError, RecursionError):
        raise BadAnswer(f"{data[:80]!r}, but should be a JSON object") from None
    if type(found) is not dict or end != len(text):
        raise BadAnswer(f"{data[:80]!r}, but should be a JSON object")
    if "error" in found:
        raise BadAnswer(f"the server's error {str(found['error'])[:200]}")
    return found


def parse_all(events: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return the JSON object of each event; ``BadAnswer`` as ``parse`` has it."""
    try:
        text = f"[{b','.join(events).decode()}]"
        found, end = SCAN(text)
    except (ValueError, RecursionError):
        found, end, text = [], -1, ""
    # Events that are objects only together are not what they should be.
    alike = end == len(text) and len(found) == len(events)
    if alike and all(type(one) is dict and "error" not in one for one in found):
        return found  # type: ignore[no-any-return]
    return [parse(event) for event in events]


def first_choice(document: dict[str, Any]) -> dict[str, Any] | None:
    """Return the first choice, or None where there is none."""
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices:
        return None
    if not isinstance(choices[0], dict):
        raise BadAnswer(f"a choice that is {str(choices[0])[:60]!r}, no JSON object")
    return choices[0]


def content(choice: dict[str, Any], *, chat: bool, part: str) -> str:
    """Return the text of a choice or of its delta; reasoning counts as text."""
    if not chat:
        found = choice.get("text")
    else:
        inner = choice.get(part)
        if not isinstance(inner, dict):
            raise BadAnswer(f"a choice without {part}; is this a chat endpoint?")
        found = inner.get("content")
        # vLLM's name for it changed to the second.
        found = found or inner.get("reasoning_content") or inner.get("reasoning")
    if found is None:
        return ""
    if not isinstance(found, str):
        raise BadAnswer(f"content that is {type(found).__name__}, but should be text")
    return found


def usage(document: dict[str, Any]) -> int | None:
    """Return usage.completion_tokens where the document has it."""
    found = document.get("usage")
    tokens = found.get("completion_tokens") if isinstance(found, dict) else None
    if tokens is not None and (type(tokens) is not int or tokens < 0):
        raise BadAnswer(f"usage.completion_tokens {str(tokens)[:40]!r}, no count")
    return tokens


def token_ids(choice: dict[str, Any]) -> tuple[int, ...] | None:
    """Return the token ids that a service tells on request.

    vLLM and others as ``token_ids``; llama.cpp beside the probability of each token.
    """
    found = choice.get("token_ids")
    if found is None and isinstance(beside := choice.get("logprobs"), dict):
        tokens = beside.get("content")
        if isinstance(tokens, list) and all(isinstance(t, dict) for t in tokens):
            found = [token.get("id") for token in tokens]
    if not isinstance(found, Sequence) or not all(type(i) is int for i in found):
        return None
    return tuple(found)


def check_tokens(tokens: int, most: int, chunks: int) -> None:
    """Raise ``BadAnswer`` for a count of tokens that cannot be."""
    if tokens < 1:
        raise BadAnswer("an answer without a token, but should have one at least")
    if tokens > most:
        raise BadAnswer(f"{tokens} tokens, but max_tokens allows {most}")
    if chunks > tokens:
        raise BadAnswer(f"{tokens} tokens by its usage, but {chunks} chunks with text")


def check_reason(reason: str) -> None:
    """Raise ``BadAnswer`` for an answer that the server broke off."""
    if reason in BROKEN_OFF:
        raise BadAnswer(
            f"an answer that the server broke off (finish_reason {reason!r}), but "
            "should be whole"
        )
