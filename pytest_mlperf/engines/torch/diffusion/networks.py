"""Stable Diffusion XL's networks: a checkpoint's, or with made-up weights."""

from __future__ import annotations

from typing import Any

from pytest_mlperf.api.diffusion_model import DiffusionModel

SEED = 6
"""Of made-up weights."""


def load_pipeline(model: DiffusionModel, dtype: Any, device: str) -> Any:
    """Return diffusers' pipeline with the official sampler, on its device."""
    import torch
    from diffusers import EulerDiscreteScheduler
    from diffusers import StableDiffusionXLPipeline

    scheduler = EulerDiscreteScheduler(**model.scheduler)
    if model.folder is None:
        torch.manual_seed(SEED)
        with torch.device(device):
            parts = make_networks(model, dtype)
        pipeline = StableDiffusionXLPipeline(
            **parts,
            tokenizer=None,
            tokenizer_2=None,
            scheduler=scheduler,
            add_watermarker=False,
        )
    else:
        pipeline = StableDiffusionXLPipeline.from_pretrained(
            str(model.folder),
            scheduler=scheduler,
            dtype=dtype,
            add_watermarker=False,
            local_files_only=True,
        )
    pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)
    if dtype == torch.float16 and pipeline.vae.config.force_upcast:
        pipeline.vae.to(torch.float32)
    return pipeline


def make_networks(model: DiffusionModel, dtype: Any) -> dict[str, Any]:
    """Return the networks of a configuration with random weights."""
    import torch
    from diffusers import AutoencoderKL
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig
    from transformers import CLIPTextModel
    from transformers import CLIPTextModelWithProjection

    given = model.configurations
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        parts = {
            "text_encoder": CLIPTextModel(CLIPTextConfig(**given["text_encoder"])),
            "text_encoder_2": CLIPTextModelWithProjection(
                CLIPTextConfig(**given["text_encoder_2"])
            ),
            "unet": UNet2DConditionModel(**given["unet"]),
            "vae": AutoencoderKL(**given["vae"]),
        }
    finally:
        torch.set_default_dtype(before)
    return {name: network.eval() for name, network in parts.items()}
