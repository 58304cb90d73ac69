"""Puts a Whisper model on the device, and compares its logits with fp32's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.whisper_model import WhisperModel
from pytest_mlperf.engines.torch import verify
from pytest_mlperf.engines.torch.whisper.decode import GreedyDecoder
from pytest_mlperf.engines.torch.whisper.network import WhisperNetwork
from pytest_mlperf.engines.torch.whisper.stream import LoadedWhisper
from pytest_mlperf.engines.torch.whisper.weights import count_heads
from pytest_mlperf.engines.torch.whisper.weights import read_weights

SAMPLES, TOKENS = 4, 8
"""Clips, and tokens of each, whose logits are compared."""


def load_whisper(request: BuildRequest, whisper: WhisperModel) -> LoadedWhisper:
    """Return the model on the device, once it agrees with its weights in fp32.

    Raises ``BuildFailed`` for a precision that this path lacks, or a checkpoint that is
    no Whisper model's.
    """
    import torch

    kinds = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
    dtype = kinds.get(request.precision)
    if dtype is None:
        raise BuildFailed(
            f"the engine torch has no {request.precision} for Whisper, but"
            f" {', '.join(kinds)}: choose with --mlperf-precision"
        )
    heads = count_heads(whisper)
    weights = read_weights(whisper, torch.device("cuda"), dtype)
    model = LoadedWhisper(WhisperNetwork(weights, heads), whisper)
    verify.check_on_device(weights)
    request.beat()
    features = verify.gather_samples(request.workload)["features"][:SAMPLES]
    exact = WhisperNetwork({n: t.float() for n, t in weights.items()}, heads)
    logits, tokens = follow(exact, whisper, features)
    found, _ = follow(model.network, whisper, features, tokens)
    del exact
    torch.cuda.empty_cache()
    verify.judge_agreement(model, logits, found, request.precision, len(features))
    model.facts["path"] = "encoder and cached decoder"
    return model


def follow(
    network: WhisperNetwork, whisper: WhisperModel, features: Array, tokens: Any = None
) -> tuple[list[Array], Any]:
    """Return each step's logits, float32 [batch, vocabulary], and the tokens chosen.

    With ``tokens`` the transcripts are those, so that networks that differ in rounding
    are asked the same.
    """
    import torch

    cut = replace(whisper, max_tokens=min(TOKENS, whisper.max_tokens))
    decoder = GreedyDecoder(network, cut, len(features))
    decoder.features.copy_(torch.from_numpy(features))
    first = len(cut.prompt) - 1
    if tokens is not None:
        decoder.force(tokens[:, first:-1])
    logits = []
    decoder.encode()
    for _ in range(decoder.steps):
        decoder.step()
        logits.append(decoder.logits.float().cpu().numpy())
    return logits[first:], decoder.chosen
