"""The networks of the embedded diffusion model: SDXL's parts, a few layers each."""

from __future__ import annotations

from typing import Any

import torch
from digit_pictures import SIDE
from digit_pictures import TOKENS
from digit_pictures import VOCABULARY
from torch import nn
from torch.nn import functional

WIDTH, LATENTS, HIDDEN = 64, 64, 192
PICTURE = 3 * SIDE * SIDE
"""Numbers of a picture."""


class TextEncoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(len(VOCABULARY), width)
        self.places = nn.Parameter(nn.init.normal_(nn.Embedding(TOKENS, width).weight))
        self.mix = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(),
            nn.Linear(2 * width, width),
        )  # fmt: skip

    def forward(self, tokens: Any) -> Any:
        x = self.words(tokens) + self.places
        return x + self.mix(x)


class Judge(nn.Module):
    """A picture's and a caption's place in one space; the angle is the score."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 48, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(48, 64, 3, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(64 * 16, 64), nn.ReLU(),
        )  # fmt: skip
        self.picture_head = nn.Linear(64, 32)
        self.text = TextEncoder(32)
        self.text_head = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32))
        self.scale = nn.Parameter(torch.tensor(2.0))

    def see(self, pictures: Any) -> tuple[Any, Any]:
        features = self.features(pictures)
        return functional.normalize(self.picture_head(features), dim=-1), features

    def read(self, tokens: Any) -> Any:
        return functional.normalize(self.text_head(self.text(tokens).mean(1)), dim=-1)


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(PICTURE, 256), nn.SiLU(), nn.Linear(256, LATENTS)
        )
        self.decoder = nn.Sequential(
            nn.Flatten(), nn.Linear(LATENTS, 256), nn.SiLU(), nn.Linear(256, PICTURE)
        )
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)
        self.shift = nn.Parameter(torch.zeros(()), requires_grad=False)

    def encode(self, pictures: Any) -> Any:
        latents = (self.encoder(pictures) - self.shift) / self.scale
        return latents.reshape(-1, 4, 4, 4)

    def decode(self, latents: Any) -> Any:
        pictures = self.decoder(latents * self.scale + self.shift)
        return pictures.reshape(-1, 3, SIDE, SIDE)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(HIDDEN)
        self.condition = nn.Linear(2 * WIDTH, 2 * HIDDEN)
        self.layers = nn.Sequential(
            nn.Linear(HIDDEN, 2 * HIDDEN), nn.SiLU(), nn.Linear(2 * HIDDEN, HIDDEN)
        )

    def forward(self, x: Any, condition: Any) -> Any:
        scale, shift = self.condition(condition).chunk(2, -1)
        return x + self.layers(self.norm(x) * (1 + scale) + shift)


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        frequencies = torch.exp(torch.linspace(0, -8, WIDTH // 2))
        self.frequencies = nn.Parameter(frequencies, requires_grad=False)
        self.time = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU())
        self.into = nn.Linear(LATENTS, HIDDEN)
        self.blocks = nn.ModuleList(Block() for _ in range(4))
        self.out = nn.Sequential(nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, LATENTS))

    def forward(self, latents: Any, timestep: Any, text: Any) -> Any:
        angles = timestep.float()[:, None] * self.frequencies
        times = self.time(torch.cat([angles.sin(), angles.cos()], -1))
        condition = torch.cat([times, text.mean(1)], -1)
        x = self.into(latents.flatten(1))
        for block in self.blocks:
            x = block(x, condition)
        return self.out(x).reshape(-1, 4, 4, 4)
