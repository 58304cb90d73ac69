"""Reads the JSON documents of OpenAI answers and of the events of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from pytest_mlperf.api.errors import BadAnswer
from pytest_mlperf.core.redaction import cut

SCAN = json.JSONDecoder().raw_decode
"""The bare parser: ``json.loads`` takes twice as long, detecting an encoding."""
SHOWN = 200
"""Characters of a server's words in a message."""
MOST_READ = 1 << 13
"""Bytes that are read of a body that is no stream: secrets are hidden before a cut."""
GZIP = b"\x1f\x8b"
NO_EVENTS = (b"{", b"[", b"<", GZIP)
"""How bodies begin that are no event stream: JSON, pages, compressed ones."""
BROKEN_OFF = ("abort", "cancelled", "content_filter", "error", "timeout")
"""Values of ``finish_reason`` for an answer that is not whole: from vLLM, SGLang,
TensorRT-LLM and OpenAI."""


def parse_object(data: bytes) -> dict[str, Any]:
    """Return a JSON object; raises ``BadAnswer``, also for a server's error."""
    try:
        text = data.decode().strip()
        document, end = SCAN(text)
    except (ValueError, RecursionError):
        raise BadAnswer(f"{describe(data)}, but should be a JSON object") from None
    if type(document) is not dict or end != len(text):
        raise BadAnswer(f"{describe(data)}, but should be a JSON object")
    if is_error(document):
        raise BadAnswer(f"the server's error {read_error(document)}")
    return document


def parse_objects(events: Sequence[bytes]) -> Iterable[dict[str, Any]]:
    """Return the JSON object of each event; raises ``BadAnswer``, also when iterated.

    What comes before the first wrong one is yielded.
    """
    if len(events) > 1:
        try:
            text = f"[{b','.join(events).decode()}]"
            objects, end = SCAN(text)
        except (ValueError, RecursionError):
            objects, end, text = [], -1, ""
        # Events that are valid only when joined are parsed one by one, and refused.
        is_whole = end == len(text) and len(objects) == len(events)
        if is_whole and all(type(one) is dict and not is_error(one) for one in objects):
            return objects  # type: ignore[no-any-return]
    return map(parse_object, events)


def is_error(document: dict[str, Any]) -> bool:
    """Return whether a document is a server's error; ``"error": null`` is none."""
    return bool(document.get("error")) or document.get("object") == "error"


def read_error(document: dict[str, Any]) -> str:
    """Return a server's error in its own words."""
    words = document.get("error") or document.get("message") or document
    return cut(str(words), SHOWN)


def describe(data: bytes) -> str:
    """Return what a body, or its beginning, is, for a message."""
    shown = f"{cut(data, SHOWN)!r}"
    if data.startswith(GZIP):
        return f"a compressed body (gzip) that nobody asked for: {shown}"
    try:
        data.decode()
    except UnicodeDecodeError as error:
        # Half a letter at the end is no fault of what was cut off there.
        if error.reason != "unexpected end of data":
            bad = data[error.start]
            return f"byte 0x{bad:02x} at {error.start:,}, no UTF-8, in {shown}"
    return f"an HTML page {shown}" if is_html(data) else shown


def check_start(start: bytes) -> None:
    """Raise ``BadAnswer`` for a body without events that begins as no stream does.

    A JSON document has to be whole: the server's words are in it.
    """
    if not start.startswith(NO_EVENTS):
        return
    if not start.startswith(b"{"):
        if len(start) > MOST_READ:
            raise BadAnswer(f"{describe(start)}, but should be an event stream")
        return
    try:
        document, _ = SCAN(start.decode())
    except (ValueError, RecursionError):
        return
    if is_error(document):
        raise BadAnswer(f"the server's error {read_error(document)}")
    raise BadAnswer(
        f"a JSON document {describe(start)}, but a stream of events was asked for"
    )


def is_html(data: bytes) -> bool:
    """Return whether a body begins as a page for people."""
    return data.lstrip()[:1] == b"<"


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


def read_text(choice: dict[str, Any], *, chat: bool, part: str) -> str | None:
    """Return the text of a choice or its delta; None where it has no such field.

    Reasoning counts as text. Raises ``BadAnswer`` for the other interface's fields.
    """
    if not chat:
        if "text" not in choice:
            if "delta" in choice or "message" in choice:
                raise BadAnswer(
                    "a choice of a conversation, but should be a completion's text; "
                    "ask with --mlperf-endpoint-chat, or correct the server"
                )
            return None
        return check_text(choice["text"])
    inner = choice.get(part)
    if not isinstance(inner, dict):
        if "text" in choice:
            raise BadAnswer(
                f"a choice without {part}, but with text; is this a chat endpoint? "
                "Leave out --mlperf-endpoint-chat, or correct the server"
            )
        return None
    # vLLM renamed the field, and sends both while clients learn it.
    thought = inner.get("reasoning_content") or inner.get("reasoning")
    if thought:
        return check_text(thought) + check_text(inner.get("content"))
    return check_text(inner["content"]) if "content" in inner else None


def check_text(text: object) -> str:
    """Return a text, or nothing for null; raises ``BadAnswer`` for anything else."""
    if text is None:
        return ""
    if not isinstance(text, str):
        raise BadAnswer(f"content that is {type(text).__name__}, but should be text")
    return text


def has_tool_calls(choice: dict[str, Any]) -> bool:
    """Return whether a delta holds tokens that no text shows."""
    inner = choice.get("delta")
    return isinstance(inner, dict) and bool(
        inner.get("tool_calls") or inner.get("function_call")
    )


def has_one_text(choice: dict[str, Any]) -> bool:
    """Return whether a choice has its text, and nothing else, in a single field."""
    inner = choice.get("delta")
    if not isinstance(inner, dict):
        return True
    thought = inner.get("reasoning_content") or inner.get("reasoning")
    return not (thought and inner.get("content")) and not has_tool_calls(choice)


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
