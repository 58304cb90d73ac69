"""Reads the JSON documents of OpenAI answers and of the events of a stream."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pytest_mlperf.api.errors import BadAnswer
from pytest_mlperf.core.redaction import cut

SCAN = json.JSONDecoder().raw_decode
"""The bare parser: ``json.loads`` takes twice as long, detecting an encoding."""
BROKEN_OFF = ("abort", "cancelled", "content_filter", "error", "timeout")
"""Values of ``finish_reason`` for an answer that is not whole: from vLLM, SGLang,
TensorRT-LLM and OpenAI."""


def parse_object(data: bytes) -> dict[str, Any]:
    """Return a JSON object; raises ``BadAnswer``, also for a server's error."""
    try:
        text = data.decode().strip()
        document, end = SCAN(text)
    except (ValueError, RecursionError):
        raise BadAnswer(f"{cut(data, 80)!r}, but should be a JSON object") from None
    if type(document) is not dict or end != len(text):
        raise BadAnswer(f"{cut(data, 80)!r}, but should be a JSON object")
    if "error" in document:
        raise BadAnswer(f"the server's error {cut(str(document['error']), 200)}")
    return document


def parse_objects(events: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return the JSON object of each event; raises ``BadAnswer``."""
    try:
        text = f"[{b','.join(events).decode()}]"
        objects, end = SCAN(text)
    except (ValueError, RecursionError):
        objects, end, text = [], -1, ""
    # Events that are valid only when joined are parsed one by one, and refused.
    is_whole = end == len(text) and len(objects) == len(events)
    if is_whole and all(type(one) is dict and "error" not in one for one in objects):
        return objects  # type: ignore[no-any-return]
    return [parse_object(event) for event in events]


def read_choice(document: dict[str, Any]) -> dict[str, Any] | None:
    """Return the first choice, or None."""
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices:
        return None
    if not isinstance(choices[0], dict):
        raise BadAnswer(
            f"a choice that is {cut(str(choices[0]), 60)!r}, no JSON object"
        )
    return choices[0]


def read_text(choice: dict[str, Any], *, chat: bool, part: str) -> str:
    """Return the text of a choice or its delta; reasoning counts as text."""
    if not chat:
        text = choice.get("text")
    else:
        inner = choice.get(part)
        if not isinstance(inner, dict):
            raise BadAnswer(f"a choice without {part}; is this a chat endpoint?")
        text = inner.get("content")
        # vLLM renamed the field.
        text = text or inner.get("reasoning_content") or inner.get("reasoning")
    if text is None:
        return ""
    if not isinstance(text, str):
        raise BadAnswer(f"content that is {type(text).__name__}, but should be text")
    return text


def read_token_count(document: dict[str, Any]) -> int | None:
    """Return usage.completion_tokens, or None."""
    usage = document.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if tokens is not None and (type(tokens) is not int or tokens < 0):
        raise BadAnswer(f"usage.completion_tokens {cut(str(tokens), 40)!r}, no count")
    return tokens


def read_token_ids(choice: dict[str, Any]) -> tuple[int, ...] | None:
    """Return the token ids, or None; services send them on request.

    vLLM and others send ``token_ids``; llama.cpp sends ``id`` in each token's logprobs.
    """
    ids = choice.get("token_ids")
    if ids is None and isinstance(logprobs := choice.get("logprobs"), dict):
        tokens = logprobs.get("content")
        if isinstance(tokens, list) and all(isinstance(t, dict) for t in tokens):
            ids = [token.get("id") for token in tokens]
    if not isinstance(ids, Sequence) or not all(type(i) is int for i in ids):
        return None
    return tuple(ids)


def check_token_count(tokens: int, most: int, chunks: int) -> None:
    """Raise ``BadAnswer`` for an impossible count of tokens."""
    if tokens < 1:
        raise BadAnswer("an answer without a token, but should have one at least")
    if tokens > most:
        raise BadAnswer(f"{tokens} tokens, but max_tokens allows {most}")
    if chunks > tokens:
        raise BadAnswer(f"{tokens} tokens by its usage, but {chunks} chunks with text")


def check_finish_reason(reason: str) -> None:
    """Raise ``BadAnswer`` for an answer that the server ended early."""
    if reason in BROKEN_OFF:
        raise BadAnswer(
            f"an answer that the server broke off (finish_reason {reason!r}), but "
            "should be whole"
        )
