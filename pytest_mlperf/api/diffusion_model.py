"""A diffusion model of several networks, for engines that bring a diffusion library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Protocol
from typing import runtime_checkable

from pytest_mlperf.api.samples import Array


@dataclass(frozen=True, slots=True)
class DiffusionModel:
    """Stable Diffusion XL's networks, and how a picture is made with them."""

    folder: Path | None
    """A pipeline's folder as diffusers saves it; None for weights that are made up."""
    configurations: Mapping[str, Mapping[str, Any]]
    """Network -> its library's configuration, where there is no folder:
    ``text_encoder``, ``text_encoder_2``, ``unet``, ``vae``."""
    scheduler: Mapping[str, Any]
    """Configuration of diffusers' ``EulerDiscreteScheduler``."""
    latents: Array
    """The noise that every picture starts from: float32 [1, 4, side / 8, side / 8]."""
    negative: Mapping[str, Array]
    """Tokens that guidance leads away from: ``tokens`` and ``tokens_2``, int64
    [1, 77]."""
    steps: int
    guidance: float


@runtime_checkable
class HasDiffusionModel(Protocol):
    """A workload for such engines; its dataset gathers ``tokens`` and ``tokens_2``,
    int64 [batch, 77], and the engine returns pictures float32 [batch, 3, side, side] of
    0 to 1.
    """

    @property
    def diffusion(self) -> DiffusionModel | None: ...
