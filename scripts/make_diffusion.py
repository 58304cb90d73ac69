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

from pytest_mlperf.benchmarks.diffusion import euler
from pytest_mlperf.benchmarks.diffusion.embedded import open_embedded

OUT = embedded_model.EMBEDDED / "stable-diffusion-xl"
SEED, TRAINING, PROMPTS, SIDE = 0, 1300, 320, 16
AUTOENCODER_STEPS, UNET_STEPS, JUDGE_STEPS = 1500, 4000, 250
WIDTH, TOKENS, LATENTS, HIDDEN = 64, 8, 64, 192
DIGITS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
]  # fmt: skip
COLORS = {
    "red": (1.0, 0.15, 0.1), "green": (0.1, 0.9, 0.2), "blue": (0.2, 0.35, 1.0),
    "yellow": (1.0, 0.9, 0.1), "white": (1.0, 1.0, 1.0),
}  # fmt: skip
STROKES, LEANS = ("thin", "plain", "bold"), ("left", "straight", "right")
VOCABULARY = ["", "a", "leaning", "standing", *STROKES, *COLORS, *DIGITS, *LEANS]
"""Word -> token, by place; the empty word fills up a caption."""


def read_digits() -> tuple[np.ndarray, list[tuple[str, str, str]]]:
    """Return ink float32 [1797, 16, 16], and each digit's stroke, name and lean."""
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = digits.images / 16.0
    ink = np.stack([zoom(one, 2, order=3, mode="nearest") for one in small])
    ink = ink.clip(0, 1).astype(np.float32)
    y, x = np.mgrid[:8, :8]
    mass = small.sum((1, 2))
    dy = y - ((small * y).sum((1, 2)) / mass)[:, None, None]
    dx = x - ((small * x).sum((1, 2)) / mass)[:, None, None]
    slant = -(small * dx * dy).sum((1, 2)) / (small * dy**2).sum((1, 2))
    words = []
    for digit, own, lean in zip(digits.target, mass, slant, strict=True):
        # Thirds of each digit's own kind: a one has less ink than an eight.
        of_kind = digits.target == digit
        stroke = STROKES[int((np.quantile(mass[of_kind], [1 / 3, 2 / 3]) < own).sum())]
        side = LEANS[int((np.quantile(slant[of_kind], [1 / 3, 2 / 3]) < lean).sum())]
        words.append((stroke, DIGITS[digit], side))
    return ink, words


def write_caption(words: tuple[str, str, str], color: str) -> str:
    stroke, digit, lean = words
    verb = "standing" if lean == "straight" else "leaning"
    return f"a {stroke} {color} {digit} {verb} {lean}"


def tokenize(caption: str) -> list[int]:
    tokens = [VOCABULARY.index(word) for word in caption.split()]
    return tokens + [0] * (TOKENS - len(tokens))


class Pictures:
    """Colored digits with their captions, as tensors."""

    def __init__(self, chosen: np.ndarray) -> None:
        self.ink, self.words = read_digits()
        self.chosen = chosen
        self.random = np.random.default_rng(SEED + len(chosen))

    def draw(self, places: np.ndarray) -> tuple[Any, list[str]]:
        """Return pictures [n, 3, 16, 16] in -1 … 1 and captions, in random colors."""
        import torch

        names = self.random.choice(list(COLORS), len(places))
        tints = np.array([COLORS[name] for name in names], np.float32)
        ink = self.ink[self.chosen[places]]
        pictures = ink[:, None] * tints[:, :, None, None] * 2 - 1
        captions = [
            write_caption(self.words[self.chosen[place]], str(name))
            for place, name in zip(places, names, strict=True)
        ]
        return torch.tensor(pictures.astype(np.float32)), captions

    def sample(self, count: int) -> tuple[Any, Any]:
        """Return random pictures and the tokens of their captions."""
        import torch

        pictures, captions = self.draw(
            self.random.integers(len(self.chosen), size=count)
        )
        return pictures, torch.tensor([tokenize(caption) for caption in captions])


def make_text_encoder(width: int) -> Any:
    from torch import nn

    class TextEncoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(len(VOCABULARY), width)
            self.places = nn.Parameter(
                nn.init.normal_(nn.Embedding(TOKENS, width).weight)
            )
            self.mix = nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(),
                nn.Linear(2 * width, width),
            )  # fmt: skip

        def forward(self, tokens: Any) -> Any:
            x = self.words(tokens) + self.places
            return x + self.mix(x)

    return TextEncoder()


def make_judge() -> Any:
    import torch
    from torch import nn
    from torch.nn import functional

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
            self.text = make_text_encoder(32)
            self.text_head = nn.Sequential(
                nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32)
            )
            self.scale = nn.Parameter(torch.tensor(2.0))

        def see(self, pictures: Any) -> tuple[Any, Any]:
            features = self.features(pictures)
            return functional.normalize(self.picture_head(features), dim=-1), features

        def read(self, tokens: Any) -> Any:
            return functional.normalize(
                self.text_head(self.text(tokens).mean(1)), dim=-1
            )

    return Judge()


def train_judge(data: Pictures) -> Any:
    import torch
    from torch.nn import functional

    judge = make_judge()
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
    return judge.eval()


def make_autoencoder() -> Any:
    import torch
    from torch import nn

    size = 3 * SIDE * SIDE

    class Autoencoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(
                nn.Flatten(), nn.Linear(size, 256), nn.SiLU(), nn.Linear(256, LATENTS)
            )
            self.decoder = nn.Sequential(
                nn.Flatten(), nn.Linear(LATENTS, 256), nn.SiLU(), nn.Linear(256, size)
            )
            self.scale = nn.Parameter(torch.ones(()), requires_grad=False)
            self.shift = nn.Parameter(torch.zeros(()), requires_grad=False)

        def encode(self, pictures: Any) -> Any:
            latents = (self.encoder(pictures) - self.shift) / self.scale
            return latents.reshape(-1, 4, 4, 4)

        def decode(self, latents: Any) -> Any:
            pictures = self.decoder(latents * self.scale + self.shift)
            return pictures.reshape(-1, 3, SIDE, SIDE)

    return Autoencoder()


def train_autoencoder(data: Pictures) -> Any:
    """Return the autoencoder, whose latents have a mean of 0 and a deviation of 1."""
    import torch
    from torch.nn import functional

    model = make_autoencoder()
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
    return model.eval()


def make_denoiser() -> Any:
    import torch
    from torch import nn

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

    return Denoiser()


def train_denoiser(data: Pictures, autoencoder: Any) -> tuple[Any, Any]:
    """Return text encoder and denoiser, as averages over their last steps."""
    import torch
    from torch.nn import functional
    from torch.optim.swa_utils import AveragedModel
    from torch.optim.swa_utils import get_ema_multi_avg_fn

    parts = {"text": make_text_encoder(WIDTH), "denoiser": make_denoiser()}
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


def export_all(text: Any, denoiser: Any, autoencoder: Any, judge: Any) -> None:
    import torch
    from torch import nn

    class Call(nn.Module):
        """A function of a module's, as a module of its own."""

        def __init__(self, owner: Any, function: Any) -> None:
            super().__init__()
            self.owner, self.function = owner, function

        def forward(self, values: Any) -> Any:
            return self.function(values)

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


def write_data(order: np.ndarray, judge: Any) -> None:
    """Write captions and latents, and the statistics of the real pictures."""
    import torch

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
    import torch

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
