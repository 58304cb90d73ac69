"""A Whisper model as a folder, for engines that bring a Whisper runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from typing import runtime_checkable


@dataclass(frozen=True, slots=True)
class WhisperModel:
    """A checkpoint, and how a transcript is decoded: greedily, without timestamps."""

    folder: Path
    """CTranslate2's files (``model.bin``) or Hugging Face's (``model.safetensors``)."""
    prompt: tuple[int, ...]
    """Tokens that every transcript starts with; they do not count as its own."""
    end: int
    """The token that ends a transcript, and counts as one of its own."""
    max_tokens: int
    suppressed: tuple[int, ...] = ()
    """Tokens that no transcript gets: the end, where all are to be of one length."""


@runtime_checkable
class HasWhisperModel(Protocol):
    """A workload for such engines; its dataset gathers ``features``, float32
    [batch, mels, 3000], and the engine returns tokens int32 [batch, longest] and the
    number of each answer's.
    """

    @property
    def whisper(self) -> WhisperModel | None: ...
