"""A Whisper model as a folder, for engines that bring a Whisper runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from typing import runtime_checkable

FRAMES, POSITIONS = 1500, 448
"""Of every Whisper model: the encoder's positions in 30 s, and the decoder's."""


@dataclass(frozen=True, slots=True)
class WhisperSize:
    """The dimensions of a Whisper model; large-v3's by default."""

    layers: int = 32
    """Of the encoder, and as many of the decoder."""
    width: int = 1280
    heads: int = 20
    mels: int = 128
    vocabulary: int = 51_866
    words: int = 50_257


@dataclass(frozen=True, slots=True)
class WhisperModel:
    """A checkpoint, and how a transcript is decoded: greedily, without timestamps."""

    folder: Path | None
    """CTranslate2's files (``model.bin``) or Hugging Face's (``model.safetensors``);
    None for weights that are made up."""
    prompt: tuple[int, ...]
    """Tokens that every transcript starts with; they do not count as its own."""
    end: int
    """The token that ends a transcript, and counts as one of its own."""
    max_tokens: int
    suppressed: tuple[int, ...] = ()
    """Tokens that no transcript gets: the end, where all are to be of one length."""
    size: WhisperSize | None = None
    """Of made-up weights, for engines that make them on their device."""
    write_folder: Callable[[], Path] | None = None
    """Returns the folder of made-up weights as CTranslate2's files, written once."""


@runtime_checkable
class HasWhisperModel(Protocol):
    """A workload for such engines; its dataset gathers ``features``, float32
    [batch, mels, 3000], and the engine returns tokens int32 [batch, longest] and the
    number of each answer's.
    """

    @property
    def whisper(self) -> WhisperModel | None: ...
