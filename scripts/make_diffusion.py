"""Make the embedded stable-diffusion-xl again: a small latent diffusion model.

    pip install -e '.[onnxruntime]' torch scikit-learn==1.9.1
    OMP_NUM_THREADS=2 python scripts/make_diffusion.py

Data: the 1,797 digits of scikit-learn (BSD), enlarged to 16 x 16 and colored. A caption
says what is drawn: "a bold red seven leaning left". 1,300 digits are for training; the
others give the captions that are asked for, and the pictures that FID compares with.
The model has SDXL's parts: text encoder, a network that predicts the noise of latents,
and the decoder of an autoencoder; each is a few fully connected layers, so that it is
trained within minutes. A judge of the same kind as CLIP scores its pictures. The
script records the scores of the shipped files in fp32, through the package's own code,
and every sha256.
"""

from __future__ import annotations

from typing import Any

import embedded_model
import numpy as np
import torch
from diffusion_networks import WIDTH
from diffusion_networks import Autoencoder
from diffusion_networks import Denoiser
from diffusion_networks import Judge
from diffusion_networks import TextEncoder
from digit_pictures import SEED
from digit_pictures import SIDE
from digit_pictures import TOKENS
from digit_pictures import VOCABULARY
from digit_pictures import Pictures
from digit_pictures import read_digits
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pytest_mlperf.benchmarks.diffusion import euler
from pytest_mlperf.benchmarks.diffusion.embedded import open_embedded

OUT = embedded_model.EMBEDDED / "stable-diffusion-xl"
TRAINING, PROMPTS = 1300, 320
AUTOENCODER_STEPS, UNET_STEPS, JUDGE_STEPS = 1500, 4000, 250


def train_judge(data: Pictures) -> Judge:
    judge = Judge()
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3)
    training = embedded_model.Training(optimizer, every=250, name="judge")
    for _ in range(JUDGE_STEPS):
        pictures, tokens = data.sample(128)
        seen, _ = judge.see(pictures + 0.1 * torch.randn_like(pictures))
        logits = judge.scale.exp() * seen @ judge.read(tokens).T
        same = (tokens[:, None] == tokens[None]).all(-1).float()
        target = same / same.sum(1, keepdim=True)
        loss = (
            functional.cross_entropy(logits, target)
            + functional.cross_entropy(logits.T, target)
        ) / 2
        training.take_step(loss)
    judge.eval()
    return judge


def train_autoencoder(data: Pictures) -> Autoencoder:
    """Return the autoencoder, whose latents have a mean of 0 and a deviation of 1."""
    model = Autoencoder()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 3e-3, total_steps=AUTOENCODER_STEPS
    )
    training = embedded_model.Training(optimizer, every=250, name="autoencoder")
    for _ in range(AUTOENCODER_STEPS):
        pictures, _ = data.sample(128)
        latents = model.encode(pictures)
        decoded = model.decode(latents + 0.05 * torch.randn_like(latents))
        # Latents stay near unit size, as the divergence of SDXL's keeps them.
        loss = functional.mse_loss(decoded, pictures) + 1e-3 * (latents**2).mean()
        training.take_step(loss)
        schedule.step()
    with torch.no_grad():
        latents = model.encode(data.sample(1024)[0])
        model.shift.copy_(latents.mean())
        model.scale.copy_(latents.std())
    model.eval()
    return model


def train_denoiser(
    data: Pictures, autoencoder: Autoencoder
) -> tuple[TextEncoder, Denoiser]:
    """Return text encoder and denoiser, as averages over their last steps."""
    parts = {"text": TextEncoder(WIDTH), "denoiser": Denoiser()}
    both = torch.nn.ModuleDict(parts)
    print("parameters:", sum(p.numel() for p in both.parameters()))
    average = AveragedModel(both, multi_avg_fn=get_ema_multi_avg_fn(0.998))
    root = torch.linspace(euler.FIRST_BETA**0.5, euler.LAST_BETA**0.5, 1000)
    kept = torch.cumprod(1 - root**2, 0)
    optimizer = torch.optim.AdamW(both.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2e-3, total_steps=UNET_STEPS, pct_start=0.1
    )
    training = embedded_model.Training(optimizer, every=250, name="denoiser")
    for _ in range(UNET_STEPS):
        pictures, tokens = data.sample(256)
        with torch.no_grad():
            latents = autoencoder.encode(pictures)
        tokens[torch.rand(len(tokens)) < 0.1] = 0  # what guidance leads away from
        times = torch.randint(0, 1000, (len(latents),))
        noise = torch.randn_like(latents)
        share = kept[times][:, None, None, None]
        noisy = share.sqrt() * latents + (1 - share).sqrt() * noise
        found = both["denoiser"](noisy, times, both["text"](tokens))
        loss = functional.mse_loss(found, noise)
        training.take_step(loss)
        schedule.step()
        average.update_parameters(both)
    return average.module["text"].eval(), average.module["denoiser"].eval()


class Call(nn.Module):
    """A function of a module's, as a module of its own."""

    def __init__(self, owner: Any, function: Any) -> None:
        super().__init__()
        self.owner, self.function = owner, function

    def forward(self, values: Any) -> Any:
        return self.function(values)


def export_all(
    text: TextEncoder, denoiser: Denoiser, autoencoder: Autoencoder, judge: Judge
) -> None:
    def decode(latents: Any) -> Any:
        return (autoencoder.decode(latents) / 2 + 0.5).clamp(0, 1)

    def see(pictures: Any) -> Any:
        return judge.see(pictures * 2 - 1)

    tokens = {"tokens": torch.zeros((2, TOKENS), dtype=torch.int64)}
    latents = {"latents": torch.randn(2, 4, 4, 4)}
    words = torch.randn(2, TOKENS, WIDTH)
    noisy = {**latents, "timestep": torch.ones(2), "text": words}
    pictures = {"pictures": torch.rand(2, 3, SIDE, SIDE)}
    for name, module, inputs, outputs in (
        ("text_encoder", text, tokens, ["text"]),
        ("unet", denoiser, noisy, ["noise"]),
        ("decoder", Call(autoencoder, decode), latents, ["pictures"]),
        ("judge_pictures", Call(judge, see), pictures, ["place", "features"]),
        ("judge_captions", Call(judge, judge.read), tokens, ["place"]),
    ):
        path = OUT / f"{name}.onnx"
        embedded_model.export_network(module, path, inputs, outputs, opset=18)


def write_data(order: np.ndarray, judge: Judge) -> None:
    """Write captions and latents, and the statistics of the real pictures."""
    held_out = Pictures(order[TRAINING:])
    places = np.arange(PROMPTS) % len(held_out.chosen)
    _, captions = held_out.draw(places)
    rows = [f"{place}\t{caption}" for place, caption in enumerate(captions)]
    (OUT / "captions.tsv").write_text("\n".join(["id\tcaption", *rows]) + "\n")
    latents = np.random.default_rng(SEED).standard_normal((PROMPTS, 4, 4, 4))
    np.save(OUT / "latents.npy", latents.astype(np.float16))
    every = np.tile(np.arange(len(held_out.chosen)), 4)
    pictures, _ = held_out.draw(every)
    # As answers are: eight bits a channel.
    pictures = ((pictures / 2 + 0.5) * 255).round() / 255 * 2 - 1
    with torch.no_grad():
        features = judge.see(pictures)[1].double().numpy()
    np.savez(
        OUT / "statistics.npz",
        mu=features.mean(0),
        sigma=np.cov(features, rowvar=False),
    )


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    order = np.random.default_rng(SEED).permutation(len(read_digits()[0]))
    data = Pictures(order[:TRAINING])
    OUT.mkdir(parents=True, exist_ok=True)
    judge = train_judge(data)
    autoencoder = train_autoencoder(data)
    text, denoiser = train_denoiser(data, autoencoder)
    export_all(text, denoiser, autoencoder, judge)
    write_data(order, judge)
    write_manifest()


def write_manifest() -> None:
    """Write hashes, settings, and the scores of the shipped files."""
    names = sorted(
        path.name
        for path in OUT.iterdir()
        if path.suffix in (".onnx", ".npy", ".npz", ".tsv")
    )
    manifest: dict[str, Any] = {
        "sha256": embedded_model.hash_files(OUT, names),
        "vocabulary": VOCABULARY,
        "steps": 20,
        "guidance": 2.0,
        "fp32": {"CLIP_SCORE": 0.0, "FID_SCORE": 0.0},
    }

    def score() -> dict[str, float]:
        return embedded_model.score_samples(open_embedded(OUT))

    path = OUT / "manifest.json"
    embedded_model.write_scored_manifest(path, manifest, score, key="fp32")


if __name__ == "__main__":
    main()
