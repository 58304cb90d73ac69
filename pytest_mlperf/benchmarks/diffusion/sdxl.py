"""Stable Diffusion XL's architecture, and the official settings of its sampler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pytest_mlperf.api.diffusion_model import DiffusionModel
from pytest_mlperf.api.workload import ArrayDataset
from pytest_mlperf.benchmarks.diffusion.workload import DiffusionWorkload
from pytest_mlperf.benchmarks.standins.generated import digest_parts

STEPS, GUIDANCE = 20, 8.0
"""``steps`` and ``guidance`` of text_to_image/backend_pytorch.py."""
SCALE, SIDE, LENGTH = 8, 1024, 77
"""Pixels of a latent, pixels of a picture, tokens of a caption."""
SCHEDULER: Mapping[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}
"""Of diffusers' ``EulerDiscreteScheduler``; the others are its defaults."""
CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "text_encoder": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "hidden_act": "quick_gelu",
        "projection_dim": 768,
    },
    "text_encoder_2": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "hidden_act": "gelu",
        "projection_dim": 1280,
    },
    "unet": {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": (
            "DownBlock2D",
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
        ),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 2,
        "attention_head_dim": (5, 10, 20),
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    "vae": {
        "sample_size": 1024,
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "scaling_factor": 0.13025,
        "force_upcast": True,
    },
}
"""Of diffusers' and transformers' classes, as stable-diffusion-xl-base-1.0 has them."""
START, END = 49_406, 49_407
"""Tokens around a caption; the second one also fills it up."""


def open_generated(
    count: int,
    configurations: Mapping[str, Mapping[str, Any]] = CONFIGURATIONS,
    side: int = SIDE,
    steps: int = STEPS,
) -> DiffusionWorkload:
    """Open ``count`` captions of random tokens for networks with made-up weights."""
    random = np.random.default_rng(5)

    def draw(rows: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        tokens = random.integers(300, 40_000, (rows, LENGTH), np.int64)
        tokens[:, 0] = START
        tokens[np.arange(LENGTH) > random.integers(8, 20, (rows, 1))] = END
        return tokens

    tokens, negative = draw(count), draw(1)
    latents = random.standard_normal((1, 4, side // SCALE, side // SCALE), np.float32)
    return DiffusionWorkload(
        kind="generated",
        title="performance only: Stable Diffusion XL's networks with generated weights,"
        f" {count:,} captions of random tokens, {steps} steps, {side} x {side}",
        digest=digest_parts("sdxl", repr(configurations), count, side, steps),
        dataset=ArrayDataset({"tokens": tokens, "tokens_2": tokens}, count),
        reference={},
        captions=[""] * count,
        side=side,
        score_all=refuse_scores,
        diffusion=DiffusionModel(
            folder=None,
            configurations=configurations,
            scheduler=SCHEDULER,
            latents=latents,
            negative={"tokens": negative, "tokens_2": negative},
            steps=steps,
            guidance=GUIDANCE,
        ),
    )


def refuse_scores(*_: object) -> dict[str, float]:
    """Pictures of made-up weights mean nothing."""
    raise ValueError("generated pictures have no scores: measure their performance")
