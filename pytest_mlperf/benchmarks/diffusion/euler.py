"""The sampler of the rules: Euler's method over a noise schedule, with guidance."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.components import Component
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch

TRAIN_STEPS, FIRST_BETA, LAST_BETA = 1000, 0.00085, 0.012
"""SDXL's schedule ("scaled linear"); its model was trained to predict the noise."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps from noise to picture."""

    timesteps: NDArray[np.float32]
    """What the UNet is told at each step, falling."""
    sigmas: NDArray[np.float32]
    """Noise at each step, and 0 after the last one."""

    @property
    def start(self) -> float:
        """Factor of unit noise at the first step."""
        return float(np.sqrt(self.sigmas[0] ** 2 + 1))


def make_schedule(steps: int) -> Schedule:
    """Return the schedule of diffusers' ``EulerDiscreteScheduler`` with SDXL's
    configuration: leading spacing, an offset of 1, interpolated sigmas.
    """
    root = np.linspace(FIRST_BETA**0.5, LAST_BETA**0.5, TRAIN_STEPS, dtype=np.float32)
    kept = np.cumprod(1 - root**2, dtype=np.float32)
    spacing = TRAIN_STEPS // steps
    timesteps = (np.arange(steps) * spacing)[::-1].astype(np.float32) + 1
    noise = np.sqrt((1 - kept) / kept)
    sigmas = np.interp(timesteps, np.arange(TRAIN_STEPS), noise)
    return Schedule(timesteps, np.append(sigmas, 0).astype(np.float32))


@dataclass(frozen=True, slots=True)
class GuidedSampler:
    """The loop over a model's graphs: text encoder, UNet at every step, decoder."""

    steps: int
    guidance: float
    negative: NDArray[np.int64]
    """Tokens that guidance leads away from: [1, tokens]."""

    def run(self, parts: Mapping[str, Component], batch: Batch) -> Sequence[Array]:
        """Return pictures float32 [batch, 3, side, side] of 0 to 1."""
        latents, tokens = batch["latents"], batch["tokens"]
        count, schedule = len(latents), make_schedule(self.steps)
        # Both texts go through each graph together, as one batch of twice the size.
        both = np.concatenate([np.repeat(self.negative, count, axis=0), tokens])
        (text,) = parts["text_encoder"]({"tokens": both})
        latents = latents * np.float32(schedule.start)
        for place, timestep in enumerate(schedule.timesteps):
            sigma, after = schedule.sigmas[place : place + 2]
            scaled = latents / np.sqrt(sigma**2 + 1)
            (noise,) = parts["unet"](
                {
                    "latents": np.concatenate([scaled, scaled]),
                    "timestep": np.full(2 * count, timestep, np.float32),
                    "text": text,
                }
            )
            away, toward = noise[:count], noise[count:]
            guided = away + np.float32(self.guidance) * (toward - away)
            latents = latents + guided * (after - sigma)
        return parts["decoder"]({"latents": latents})
