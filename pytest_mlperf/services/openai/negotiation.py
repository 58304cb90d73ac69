"""What an endpoint takes in a request, found out by test completions before a run.

Servers differ in the fields beside OpenAI's own: some ignore what they do not know,
others refuse the request (400, 422). What is refused is left out and named.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.core.errors import RunRefused

Fields = Mapping[str, Any]
Complete = Callable[[ServiceTarget], Answer]
"""Sends one test completion; raises ``RequestFailed``."""
ASK_IDS: tuple[Fields, ...] = (
    {"return_token_ids": True},
    {"logprobs": 1, "post_sampling_probs": True},
    {"detokenize": False},
)
"""Fields that ask for token ids: from vLLM and those that follow it; from llama.cpp,
which sends them with the probabilities after sampling (free: greedy leaves one token);
from trtllm-serve, which sends them in the place of the text."""
NO_TOP_K, TENSORRT_NO_TOP_K = -1, 0
"""The ``top_k`` that allows every token: for vLLM and SGLang, and for TensorRT-LLM,
which refuses -1."""
STANDARD = ("temperature", "top_p")
"""Fields that every such server takes: without them the model answers otherwise."""
COUNTS = ("continuous_usage_stats", "stream_options")


def adapt_target(target: ServiceTarget, complete: Complete) -> ServiceTarget:
    """Return one endpoint's target with what it takes, and how it tells token ids.

    Raises ``RunRefused`` when the endpoint answers no test completion, and when its
    answer is none: without text and without token ids.
    """
    answer, target = find_fields(replace(target, counts_tokens=True), complete)
    for fields in ASK_IDS:
        try:
            found = complete(replace(target, fields={**target.fields, **fields}))
        except RequestFailed:
            continue  # it answers without
        if found.token_ids is not None:
            return replace(target, asks_ids=fields)
    if not answer.text and answer.token_ids is None:
        raise RunRefused(
            f"{target.urls[0]}: a test completion came back with {answer.tokens} "
            "tokens, but without text and without token ids; it should be an answer. "
            "Look into the server's chat template and its parsers of tool calls and "
            "reasoning, or ask the other interface (--mlperf-endpoint-chat)"
        )
    return target


def find_fields(
    target: ServiceTarget, complete: Complete
) -> tuple[Answer, ServiceTarget]:
    """Return a test completion, and the target with the fields that it takes."""
    guessed: list[str] = []
    while True:
        try:
            answer = complete(target)
        except RequestFailed as error:
            named = [name for name in find_optional(target) if is_named(name, error)]
            names = named or find_optional(target)[:1]
            if not is_refusal(error) or not names:
                raise refuse(error) from None
            guessed += [] if named else names
            for name in names:
                target = drop_field(target, name)
        else:
            return restore_fields(answer, target, guessed, complete)


def restore_fields(
    answer: Answer, target: ServiceTarget, names: Sequence[str], complete: Complete
) -> tuple[Answer, ServiceTarget]:
    """Take fields in again that were left out by guess, where that is answered."""
    for name in names:
        if name == COUNTS[0]:
            fuller = replace(target, counts_tokens=True)
        elif name in target.refused:
            refused = tuple(one for one in target.refused if one != name)
            fuller = replace(target, refused=refused)
        else:
            continue
        try:
            answer = complete(fuller)
        except RequestFailed as error:
            if not is_refusal(error):
                raise refuse(error) from None
        else:
            target = fuller
    return answer, target


def find_optional(target: ServiceTarget) -> list[str]:
    """Return what may be left out of a target's requests, the least missed first."""
    own = [k for k in target.fields if k not in (*STANDARD, *COUNTS, *target.refused)]
    has_options = "stream_options" not in target.fields
    return [*COUNTS[: target.counts_tokens], *own, *COUNTS[1 : 1 + has_options]]


def drop_field(target: ServiceTarget, name: str) -> ServiceTarget:
    """Return the target without a field, or with another value that means the same."""
    if name == COUNTS[0]:
        return replace(target, counts_tokens=False)
    if name == COUNTS[1]:
        fields = {**target.fields, name: None}
        return replace(target, fields=fields, counts_tokens=False)
    if target.fields[name] == NO_TOP_K and name == "top_k":
        return replace(target, fields={**target.fields, name: TENSORRT_NO_TOP_K})
    return replace(target, refused=(*target.refused, name))


def join_targets(whole: ServiceTarget, each: Sequence[ServiceTarget]) -> ServiceTarget:
    """Return the target of several endpoints: one run sends all the same fields."""
    fields = dict(whole.fields)
    for one in each:
        fields |= {k: v for k, v in one.fields.items() if v != whole.fields.get(k, ())}
    same = all(one.asks_ids == each[0].asks_ids for one in each)
    return replace(
        whole,
        fields=fields,
        refused=tuple(dict.fromkeys(name for one in each for name in one.refused)),
        counts_tokens=all(one.counts_tokens for one in each),
        asks_ids=each[0].asks_ids if same else {},
    )


def is_refusal(error: RequestFailed) -> bool:
    """Return whether a server refuses what a request asks for."""
    return error.problem.startswith(("HTTP 400", "HTTP 422"))


def is_named(name: str, error: RequestFailed) -> bool:
    """Return whether the server's words name a field."""
    return re.search(rf"\b{re.escape(name)}\b", error.problem) is not None


def refuse(error: RequestFailed) -> RunRefused:
    """Return the reason why a run is not worth starting."""
    return RunRefused(
        f"{error.url}: a test completion failed after {error.after_s:.3f} s: "
        f"{error.problem}. It should be answered before a run is worth starting; look "
        "into the server's log"
    )
