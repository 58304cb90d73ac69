"""Streams in the shapes of the servers that people have, and what each must yield.

Written for these tests after each server's documentation; no server's own output.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Event = dict[str, Any] | str | bytes
"""A document, the data of an event, or the bytes of one."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One answer."""

    name: str
    events: Sequence[Event]
    chat: bool = True
    first: int | None = 0
    """The event that brings the first token; None: an answer that is refused."""
    text: str = ""
    tokens: int = 0
    ids: tuple[int, ...] | None = None
    finish: str = ""
    event_tokens: tuple[int, ...] = ()
    passed_over: int = 0
    refused: str = ""
    """What its refusal says."""

    def pieces(self) -> list[bytes]:
        """Return the bytes of each event."""
        return [format_piece(event) for event in self.events]


def format_piece(event: Event) -> bytes:
    if isinstance(event, bytes):
        return event
    text = event if isinstance(event, str) else json.dumps(event)
    return f"data: {text}\n\n".encode()


def delta(content: Any = None, finish: str | None = None, **more: Any) -> Event:
    """Return a chat chunk; ``more`` is of the delta."""
    inner = {**({} if content is None else {"content": content}), **more}
    return {"choices": [{"index": 0, "delta": inner, "finish_reason": finish}]}


def counted(event: Event, tokens: int) -> Event:
    """Return a chunk that counts the tokens so far."""
    assert isinstance(event, dict)
    usage = {"prompt_tokens": 9, "completion_tokens": tokens}
    return {**event, "usage": usage}


def text(content: str, finish: str | None = None, **more: Any) -> Event:
    """Return a chunk of a completion; ``more`` is of the choice."""
    choice = {"index": 0, "text": content, "finish_reason": finish}
    return {"object": "text_completion", "choices": [{**choice, **more}]}


def with_fields(event: Event, **fields: Any) -> Event:
    assert isinstance(event, dict)
    return {**event, **fields}


ROLE = delta("", role="assistant")
DONE = "[DONE]"
USAGE = counted({"choices": []}, 2)
TWO: dict[str, Any] = {"text": "ab", "tokens": 2, "finish": "stop"}
END = delta(finish="stop")

LEGAL = (
    Stream(
        "vllm-chat",
        [ROLE, delta("a"), delta("b"), delta("", "stop", x=None), USAGE, DONE],
        first=1, **TWO,
    ),
    Stream(
        "vllm-continuous-usage",
        [
            counted(ROLE, 0), counted(delta("a"), 1), counted(delta("b"), 2),
            counted(delta("", "stop"), 2), USAGE, DONE,
        ],
        first=1, event_tokens=(1, 1), **TWO,
    ),
    Stream(
        "vllm-reasoning-parser-holds-text-back",
        [
            counted(ROLE, 0), counted(delta(""), 1), counted(delta(""), 2),
            counted(delta("abc"), 3), counted(delta("", "stop"), 3),
            counted({"choices": []}, 3), DONE,
        ],
        first=1, text="abc", tokens=3, finish="stop", event_tokens=(1, 1, 1),
    ),
    Stream(
        "vllm-reasoning-and-content-in-one-delta",
        [
            ROLE, delta(None, reasoning_content="a", reasoning="a"),
            delta("c", reasoning_content="b"), END,
            counted({"choices": []}, 3), DONE,
        ],
        first=1, text="abc", tokens=3, finish="stop",
    ),
    Stream(
        "vllm-tool-calls-before-text",
        [
            ROLE,
            delta(tool_calls=[{"index": 0, "function": {"name": "f"}}]),
            delta("a"), END, USAGE, DONE,
        ],
        first=1, text="a", tokens=2, finish="stop",
    ),
    Stream(
        "vllm-token-ids",
        [
            text("a", token_ids=[7], logprobs=None), text("", token_ids=[8]),
            text("b", "stop", token_ids=[9]),
            counted({"choices": []}, 3), DONE,
        ],
        chat=False, text="ab", tokens=3, ids=(7, 8, 9), finish="stop",
        event_tokens=(1, 1, 1),
    ),
    Stream(
        "sglang-several-tokens-an-event",
        [
            counted(with_fields(text("abc"), usage=None), 3),
            counted(text("de", "length", matched_stop=None), 5),
            counted({"choices": []}, 5), DONE,
        ],
        chat=False, text="abcde", tokens=5, finish="length", event_tokens=(3, 2),
    ),
    Stream(
        "tensorrt-llm-ids-for-text",
        [
            text("", token_ids=[7], disaggregated_params=None),
            text("", "stop", token_ids=[8], stop_reason=None), USAGE, DONE,
        ],
        chat=False, tokens=2, ids=(7, 8), finish="stop", event_tokens=(1, 1),
    ),
    Stream(
        "tgi-usage-in-the-last-chunk",
        [
            b'data:{"choices":[{"index":0,"delta":{"content":"a"}}],"usage":null}\n\n',
            counted(delta("b", "stop", role="assistant"), 2), DONE,
        ],
        **TWO,
    ),
    Stream(
        "llama.cpp-timings-and-ids",
        [
            ROLE,
            {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {
                "content": [{"id": 5, "token": "a", "logprob": 0.0, "top_logprobs": []}]
            }}]},
            {"choices": [{"index": 0, "delta": {"content": "b"}, "logprobs": {
                "content": [{"id": 6, "token": "b", "logprob": 0.0, "top_logprobs": []}]
            }}]},
            with_fields(END, timings={"predicted_n": 2}),
            with_fields(USAGE, timings={"predicted_n": 2}), DONE,
        ],
        first=1, ids=(5, 6), event_tokens=(1, 1), **TWO,
    ),
    Stream(
        "ollama-usage-beside-choices",
        [
            delta("a", role="assistant"), delta("b", role="assistant"),
            delta("", "stop", role="assistant"),
            with_fields(USAGE, system_fingerprint="fp_ollama"), DONE,
        ],
        **TWO,
    ),
    Stream(
        "azure-filter-results-first",
        [
            {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
            ROLE, delta("a"), delta("b"), END, USAGE, DONE,
        ],
        first=2, passed_over=1, **TWO,
    ),
    Stream(
        "azure-asynchronous-filter",
        [
            ROLE, delta("a"), delta("b"), END,
            {"choices": [{"index": 0, "finish_reason": None,
                          "content_filter_offsets": {"check_offset": 1}}]},
            USAGE, DONE,
        ],
        first=1, passed_over=1, **TWO,
    ),
    Stream(
        "litellm-no-usage-chunk-of-its-own",
        [
            with_fields(ROLE, error=None), with_fields(delta("a"), error=None),
            with_fields(delta("b"), error=None, provider_specific_fields=None),
            counted(with_fields(END, citations=None), 2), DONE,
        ],
        first=1, **TWO,
    ),
    Stream(
        "gateway-notes-around",
        [
            *[{"choices": []}] * 4, ROLE, delta("a"), delta("b"), END, USAGE,
            {"choices": [], "cost": "0"}, DONE,
        ],
        first=5, passed_over=5, **TWO,
    ),
    Stream(
        "gateway-note-after-the-end",
        [ROLE, delta("a"), delta("b"), END, USAGE, DONE, {"choices": [], "cost": "0"}],
        first=1, passed_over=1, **TWO,
    ),
    Stream(
        "gateway-keep-alives",
        [
            b": OPENROUTER PROCESSING\n\n", b"data:\n\n", b"data: \n\n",
            b'event: ping\ndata: {"type": "ping"}\n\n', b"event: ping\ndata: tick\n\n",
            b"retry: 3000\n\n", b"x-request: 7\nid: 1\ndata: " + json.dumps(
                delta("a")).encode() + b"\n\n",
            delta("b"), END, USAGE, DONE,
        ],
        first=6, passed_over=5, **TWO,
    ),
    Stream(
        "byte-order-mark-and-lone-cr",
        [
            b"\xef\xbb\xbf", format_piece(delta("a")).replace(b"\n", b"\r"),
            format_piece(delta("b")).replace(b"\n", b"\r\n"), END, USAGE, DONE,
        ],
        first=1, **TWO,
    ),
    Stream(
        "transformers-nothing-to-show",
        [
            {"choices": [{"index": 0, "delta": {"role": "assistant"}}]},
            counted({"choices": [{"delta": {}, "finish_reason": "stop"}]}, 2),
        ],
        first=1, tokens=2, finish="stop", event_tokens=(2,),
    ),
    Stream(
        "litellm-usage-beside-an-empty-delta",
        [
            {"choices": [{"index": 0, "delta": {"role": "assistant"}}]},
            delta("a"), delta("b"), END, counted({"choices": [{"delta": {}}]}, 2), DONE,
        ],
        first=1, **TWO,
    ),
    Stream(
        "no-done-but-all-else", [ROLE, delta("a"), delta("b"), END, USAGE],
        first=1, **TWO,
    ),
    Stream(
        "message-by-name",
        [b"event: message\n" + format_piece(delta("a")), delta("b"), END, USAGE, DONE],
        **TWO,
    ),
)  # fmt: skip


def refused(name: str, events: Sequence[Event], says: str, **more: Any) -> Stream:
    return Stream(name, events, first=None, refused=says, **more)


REFUSED = (
    refused("chat-for-a-completion", [ROLE, delta("a"), USAGE, DONE],
            "a choice of a conversation", chat=False),
    refused("completion-for-a-chat", [text("a"), USAGE, DONE], "is this a chat"),
    refused("field-never-there", [{"choices": [{"index": 0}]}, USAGE, DONE],
            "2 tokens without delta.content"),
    refused("error-event", [b"event: error\ndata: out of blocks\n\n"], "out of blocks"),
    refused("error-event-late", [delta("a"), b"event: error\ndata: no blocks\n\n"],
            "the server's error no blocks"),
    refused("error-field", [b'error: {"message": "no slot"}\n\n'], "no slot"),
    refused("error-object",
            [{"object": "error", "message": "too long", "code": 400}], "too long"),
    refused("error-truthy", [{"error": {"message": "busy"}, "choices": []}], "busy"),
    refused("json-error", [b'{"error": {"message": "no such model"}}'],
            "the server's error {'message': 'no such model'}"),
    refused("json-answer", [b'{"choices": [{"message": {"content": "a"}}]}'],
            "a stream of events was asked for"),
    refused("json-lines", [b'{"response": "a"}\n{"response": "b", "done": true}\n'],
            "a stream of events was asked for"),
    refused("login-page", [b"<!DOCTYPE html><title>Sign in</title>"],
            "an HTML page '<!DOCTYPE html><title>Sign in"),
    refused("gzip", [b"\x1f\x8b\x08\x00\x00\x00"], "a compressed body (gzip)"),
    refused("not-utf-8", [b'data: {"choices": "\xff"}\n\n'], "byte 0xff at 13"),
    refused("nothing", [DONE], "no event of an answer"),
    refused("empty", [], "its body is empty"),
    refused("half-an-event", [delta("a"), END, USAGE, b"data: {"], "middle of an"),
    refused("no-reason-and-no-done", [delta("a"), USAGE], "ended early"),
    refused("no-usage-and-no-done", [delta("a"), END], "ended early"),
    refused("no-usage", [delta("a"), END, DONE], "without usage.completion_tokens"),
    refused("text-after-the-end", [delta("a"), USAGE, DONE, delta("b")], "after ["),
    refused("fewer-tokens-than-chunks", [*[delta("a")] * 3, END, USAGE, DONE],
            "2 tokens by its usage, but 3 chunks"),
    refused("filtered", [delta("a"), delta(finish="content_filter"), USAGE, DONE],
            "broke off"),
)  # fmt: skip
