"""What goes to an engine or a service, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


Batch = Mapping[str, Array]
"""Model input name -> array whose first axis is the batch."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service said to one request."""

    text: str
    tokens: int
    """Output tokens, as the service counts them (its usage), else the ids it tells."""
    token_ids: tuple[int, ...] | None = None
    """Where the service tells them."""
    finish: str = ""
    """Why it ended, in the service's word: ``stop``, ``length``."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a request asks."""

    text: str = ""
    token_ids: tuple[int, ...] = ()
    """Instead of the text, for completions."""
    max_tokens: int = 128
    stop: tuple[str, ...] = ()
