"""Whisper's true architecture with generated weights, for performance alone.

For machines without the official files. Its answers mean nothing: no token ends one, so
that each has as many as the official answers have on average.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.whisper_model import WhisperModel
from pytest_mlperf.api.whisper_model import WhisperSize
from pytest_mlperf.benchmarks.files import SPEECH_EXTRA
from pytest_mlperf.benchmarks.files import require_package
from pytest_mlperf.benchmarks.speech import transcripts
from pytest_mlperf.benchmarks.speech.features import RATE
from pytest_mlperf.benchmarks.speech.workload import SpeechWorkload
from pytest_mlperf.benchmarks.standins.generated import cache_folder
from pytest_mlperf.benchmarks.standins.generated import digest_parts
from pytest_mlperf.core.whole_file import is_whole
from pytest_mlperf.core.whole_file import note_content

TOKENS = 63
"""Output tokens of a clip: 45,333 tokens/s at 714 samples/s in a result of v5.1."""
SHORTEST_S, LONGEST_S = 16.0, 30.0
"""Clips of 23 s on average, as LibriSpeech's repackaged dev sets have."""
SPECIAL = {
    "<|endoftext|>": 0, "<|startoftranscript|>": 1, "<|en|>": 2, "<|transcribe|>": 103,
    "<|nospeech|>": 106, "<|notimestamps|>": 107,
}  # fmt: skip
"""Special tokens -> their places behind the words."""
LARGE = WhisperSize()
SPREAD = 0.02
"""Standard deviation of weights."""


@dataclass(frozen=True)
class NoiseDataset:
    """Clips of noise, cut out of one: they take no memory of their own."""

    noise: NDArray[np.float32]
    lengths: NDArray[np.int32]
    make_features: Callable[[Sequence[NDArray[np.float32]]], dict[str, Array]]

    @property
    def total(self) -> int:
        return len(self.lengths)

    @property
    def performance_count(self) -> int:
        return len(self.lengths)

    def load(self, indices: Sequence[int]) -> None:
        """Nothing to do: the noise is in memory."""

    def unload(self, indices: Sequence[int]) -> None:
        """Nothing to do: the noise stays in memory."""

    def gather(self, indices: Sequence[int]) -> dict[str, Array]:
        return self.make_features([self.noise[: self.lengths[i]] for i in indices])


def open_generated(
    count: int,
    make_features: Callable[[Sequence[NDArray[np.float32]]], dict[str, Array]],
    size: WhisperSize = LARGE,
    folder: Path | None = None,
) -> SpeechWorkload:
    """Open ``count`` clips of noise for a model with made-up weights.

    An engine makes them on its device, or has them written at their first use
    (large-v3: 3 GB).
    """
    random = np.random.default_rng(5)
    lengths = random.uniform(SHORTEST_S, LONGEST_S, count) * RATE
    noise = random.standard_normal(int(LONGEST_S * RATE)) * 0.1
    places = {word: size.words + place for word, place in SPECIAL.items()}
    prompt = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")
    end = places["<|endoftext|>"]
    return SpeechWorkload(
        kind="generated",
        title=f"performance only: Whisper of 2 x {size.layers} layers of {size.width},"
        f" generated weights; {count:,} clips of noise, {TOKENS} tokens each",
        digest=digest_parts("whisper", size, count),
        dataset=NoiseDataset(
            noise.astype(np.float32), lengths.astype(np.int32), make_features
        ),
        reference={},
        metric="ACCURACY",
        transcripts=(),
        alphabet=transcripts.WHISPER,
        to_text=lambda tokens: " ".join(map(str, tokens)),
        error_rate=transcripts.normalized_error_rate,
        whisper=WhisperModel(
            folder=None,
            prompt=tuple(places[word] for word in prompt),
            end=end,
            max_tokens=TOKENS,
            suppressed=(end,),
            size=size,
            write_folder=partial(ensure_model, folder or cache_folder(), size),
        ),
    )


def ensure_model(folder: Path, size: WhisperSize) -> Path:
    """Return the folder of a generated model, written at its first use."""
    require_package("ctranslate2", "Whisper models cannot be written", SPEECH_EXTRA)
    path = folder / f"whisper-{digest_parts('whisper', size)[:12]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not is_whole(path / "model.bin"):
            shutil.rmtree(path, ignore_errors=True)
            making = path.with_suffix(".making")
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            make_spec(size).save(str(making))
            making.rename(path)
            note_content(path / "model.bin")
    return path


def make_spec(size: WhisperSize) -> Any:
    """Return CTranslate2's description of a model, filled with numbers in fp16."""
    from ctranslate2.specs import WhisperSpec

    width = size.width
    numbers = np.random.default_rng(6).standard_normal(1 << 20) * SPREAD
    block = numbers.astype(np.float16)

    def draw(*shape: int) -> NDArray[np.float16]:
        return np.resize(block, shape)

    def fill(layer: Any, *shape: int) -> None:
        layer.weight = draw(*shape)
        layer.bias = np.zeros(shape[0], np.float16)

    def normalize(layer: Any) -> None:
        layer.gamma, layer.beta = (
            np.ones(width, np.float16),
            np.zeros(width, np.float16),
        )

    def feed_forward(layer: Any) -> None:
        normalize(layer.layer_norm)
        fill(layer.linear_0, 4 * width, width)
        fill(layer.linear_1, width, 4 * width)

    def attend(layer: Any, *rows: int) -> None:
        normalize(layer.layer_norm)
        for linear, count in zip(layer.linear, rows, strict=True):
            fill(linear, count * width, width)

    spec = WhisperSpec(size.layers, size.heads, size.layers, size.heads)
    fill(spec.encoder.conv1, width, size.mels, 3)
    fill(spec.encoder.conv2, width, width, 3)
    spec.encoder.position_encodings.encodings = draw(1500, width)
    for layer in spec.encoder.layer:
        attend(layer.self_attention, 3, 1)
        feed_forward(layer.ffn)
    spec.decoder.embeddings.weight = draw(size.vocabulary, width)
    spec.decoder.projection.weight = spec.decoder.embeddings.weight
    spec.decoder.position_encodings.encodings = draw(448, width)
    for layer in spec.decoder.layer:
        attend(layer.self_attention, 3, 1)
        attend(layer.attention, 1, 2, 1)
        feed_forward(layer.ffn)
    normalize(spec.encoder.layer_norm)
    normalize(spec.decoder.layer_norm)
    names = {size.words + place: word for word, place in SPECIAL.items()}
    spec.register_vocabulary(
        [names.get(number, f"word {number}") for number in range(size.vocabulary)]
    )
    spec.validate()
    return spec
