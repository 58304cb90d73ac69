"""Whisper's weights by the names of Hugging Face's checkpoints: read, or made up."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.whisper_model import FRAMES
from pytest_mlperf.api.whisper_model import POSITIONS
from pytest_mlperf.api.whisper_model import WhisperModel
from pytest_mlperf.api.whisper_model import WhisperSize

CHECKPOINT = "model.safetensors"
SEED, SPREAD = 6, 0.02
"""Of made-up matrices: the generator's seed, and the standard deviation."""
ATTENTION = ("q", "k", "v", "out")


def read_weights(whisper: WhisperModel, device: Any, dtype: Any) -> dict[str, Any]:
    """Return name -> tensor on the device.

    Raises ``BuildFailed`` for a folder without Hugging Face's checkpoint.
    """
    if whisper.size is not None:
        return make_weights(whisper.size, device, dtype)
    assert whisper.folder is not None, "there is a folder or a size"
    path = whisper.folder / CHECKPOINT
    if not path.is_file():
        raise BuildFailed(
            f"{whisper.folder} has no {CHECKPOINT}, but the engine torch should find"
            " Hugging Face's checkpoint there; copy it, or choose --mlperf-engine"
            " ctranslate2, which reads a converted model"
        )
    if not importlib.util.find_spec("safetensors"):
        raise RequirementMissing(
            f"{path} cannot be read without safetensors: pip install safetensors"
        )
    from safetensors.torch import load_file

    return {n: t.to(device, dtype) for n, t in load_file(path).items()}


def count_heads(whisper: WhisperModel) -> int:
    """Return the heads of each layer; raises ``BuildFailed`` where nothing says it."""
    if whisper.size is not None:
        return whisper.size.heads
    assert whisper.folder is not None, "there is a folder or a size"
    path = whisper.folder / "config.json"
    try:
        heads = int(json.loads(path.read_bytes())["encoder_attention_heads"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuildFailed(
            f"{path} should have encoder_attention_heads, the number of heads"
            f" ({type(error).__name__}: {error}); copy the checkpoint's whole folder"
        ) from error
    return heads


def make_weights(size: WhisperSize, device: Any, dtype: Any) -> dict[str, Any]:
    """Return weights of the right shapes, made on the device: nothing is carried."""
    import torch

    generator = torch.Generator(device).manual_seed(SEED)
    weights = {}
    for name, shape in list_shapes(size):
        tensor = torch.zeros(shape, device=device, dtype=dtype)
        if "layer_norm.weight" in name:
            tensor += 1
        elif not name.endswith("bias"):
            tensor.normal_(std=SPREAD, generator=generator)
        weights[name] = tensor
    return weights


def list_shapes(size: WhisperSize) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of every weight, in one order."""
    width = size.width
    yield "model.encoder.conv1.weight", (width, size.mels, 3)
    yield "model.encoder.conv1.bias", (width,)
    yield "model.encoder.conv2.weight", (width, width, 3)
    yield "model.encoder.conv2.bias", (width,)
    yield "model.encoder.embed_positions.weight", (FRAMES, width)
    yield "model.decoder.embed_tokens.weight", (size.vocabulary, width)
    yield "model.decoder.embed_positions.weight", (POSITIONS, width)
    for side, attentions in (
        ("encoder", ("self_attn",)),
        ("decoder", ("self_attn", "encoder_attn")),
    ):
        shapes: dict[str, tuple[int, ...]] = {
            "fc1.weight": (4 * width, width),
            "fc1.bias": (4 * width,),
            "fc2.weight": (width, 4 * width),
            "fc2.bias": (width,),
        }
        for attention in attentions:
            for part in ATTENTION:
                shapes[f"{attention}.{part}_proj.weight"] = (width, width)
                if part != "k":
                    shapes[f"{attention}.{part}_proj.bias"] = (width,)
        for norm in (*(f"{one}_layer_norm" for one in attentions), "final_layer_norm"):
            shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
        for number in range(size.layers):
            for name, shape in shapes.items():
                yield f"model.{side}.layers.{number}.{name}", shape
        yield f"model.{side}.layer_norm.weight", (width,)
        yield f"model.{side}.layer_norm.bias", (width,)


def count_layers(weights: Mapping[str, Any], side: str) -> int:
    """Return the layers of ``encoder`` or ``decoder``."""
    return sum(
        name.startswith(f"model.{side}.layers.") and name.endswith(".fc1.weight")
        for name in weights
    )
