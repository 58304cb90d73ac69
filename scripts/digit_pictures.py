"""Pictures of the embedded diffusion model: scikit-learn's digits, colored, in words.

A caption says what is drawn: "a bold red seven leaning left".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.ndimage import zoom
from sklearn.datasets import load_digits

SEED, SIDE, TOKENS = 0, 16, 8
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
        pictures, captions = self.draw(
            self.random.integers(len(self.chosen), size=count)
        )
        return pictures, torch.tensor([tokenize(caption) for caption in captions])
