"""What goes to an engine or a service, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from typing import NamedTuple

from numpy.typing import NDArray

Array = NDArray[Any]
Batch = Mapping[str, Array]
"""Model input name -> array whose first axis is the batch."""


class Responses(NamedTuple):
    """The answers to one batch, as LoadGen is to have them."""

    rows: Array
    """C-contiguous; the first axis is the batch."""
    sizes: Sequence[int] | None = None
    """Bytes of each row that count; None: the whole row."""
    tokens: Sequence[int] | None = None
    """Output tokens of each answer: wherever the round uses token latencies."""


def check_responses(given: object) -> Responses:
    """Return a plain tuple as ``Responses``; ``TypeError`` for anything else.

    An array of three rows would come apart as rows, sizes and tokens.
    """
    if isinstance(given, tuple) and 1 <= len(given) <= len(Responses._fields):
        return Responses(*given)
    raise TypeError(
        f"the workload's respond() returned {type(given).__name__}, but should return "
        "Responses(rows): pytest_mlperf.api.samples.Responses around the answers' array"
    )


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a request asks of a language model."""

    text: str = ""
    token_ids: tuple[int, ...] = ()
    """Instead of the text, for completions."""
    max_tokens: int = 128
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service said to one request: text and tokens, or a model's outputs."""

    text: str = ""
    tokens: int = 0
    """Output tokens, as the service counts them (its usage), else the ids it tells."""
    token_ids: tuple[int, ...] | None = None
    """Where the service tells them."""
    finish: str = ""
    """Why it ended, in the service's word: ``stop``, ``length``."""
    outputs: Sequence[Array] | None = None
    """The model's outputs of one sample, each ``[1, …]``, of a service that takes
    tensors."""
