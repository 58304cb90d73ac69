"""Whisper on PyTorch beside transformers' own, at a tiny size on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.whisper_model import WhisperModel
from pytest_mlperf.api.whisper_model import WhisperSize
from pytest_mlperf.engines.torch.whisper.decode import GreedyDecoder
from pytest_mlperf.engines.torch.whisper.load import follow
from pytest_mlperf.engines.torch.whisper.network import WhisperNetwork
from pytest_mlperf.engines.torch.whisper.weights import count_heads
from pytest_mlperf.engines.torch.whisper.weights import list_shapes
from pytest_mlperf.engines.torch.whisper.weights import make_weights
from pytest_mlperf.engines.torch.whisper.weights import read_weights

torch = pytest.importorskip("torch")

SIZE = WhisperSize(layers=2, width=32, heads=2, mels=8, vocabulary=90, words=80)
PROMPT, END, MOST = (3, 4, 5, 6), 2, 12


@pytest.fixture(scope="module")
def features() -> Any:
    """Of three clips: float32 [3, 8, 3000]."""
    torch.set_num_threads(1)
    return np.random.default_rng(1).standard_normal((3, 8, 3000), np.float32)


def describe(**changes: Any) -> WhisperModel:
    """Return a made-up model of the tiny size."""
    given = {"folder": None, "size": SIZE, "end": END, "max_tokens": MOST, **changes}
    return WhisperModel(prompt=PROMPT, **given)


def open_network(whisper: WhisperModel, dtype: Any = torch.float32) -> WhisperNetwork:
    weights = read_weights(whisper, torch.device("cpu"), dtype)
    return WhisperNetwork(weights, count_heads(whisper))


def transcribe(network: WhisperNetwork, whisper: WhisperModel, features: Any) -> Any:
    """Return tokens and their numbers as the engine does."""
    decoder = GreedyDecoder(network, whisper, len(features))
    decoder.features.copy_(torch.from_numpy(features))
    with torch.inference_mode():
        decoder.run(decoder.encode, decoder.step)
    return decoder.read(decoder.chosen.numpy(), len(features))


def test_large_v3s_weights_are_as_many_as_the_published_ones() -> None:
    """1,543,490,560 parameters; the matrix of the words is also that of the logits."""
    count = sum(int(np.prod(shape)) for _, shape in list_shapes(WhisperSize()))

    assert count == 1_543_490_560


def test_transcripts_are_those_of_transformers(tmp_path: Path, features: Any) -> None:
    """A checkpoint that transformers wrote: logits of each step, and ends."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    config = transformers.WhisperConfig(
        vocab_size=SIZE.vocabulary, num_mel_bins=SIZE.mels, d_model=SIZE.width,
        encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=128, decoder_ffn_dim=128,
        pad_token_id=1, bos_token_id=1, eos_token_id=END, decoder_start_token_id=3,
        init_std=0.3,
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config).eval()
    model.save_pretrained(tmp_path)
    whisper = describe(folder=tmp_path, size=None)
    network = open_network(whisper)
    rows, counts = transcribe(network, whisper, features)
    logits, _ = follow(network, whisper, features)
    heard = torch.from_numpy(features)
    tokens = torch.tensor([PROMPT] * 3)
    with torch.inference_mode():
        for step in range(MOST):
            found = model(input_features=heard, decoder_input_ids=tokens).logits[:, -1]
            if step < len(logits):
                assert np.allclose(logits[step], found.numpy(), atol=2e-4)
            tokens = torch.cat([tokens, found.argmax(1, keepdim=True)], dim=1)

    expected = tokens[:, len(PROMPT) :].tolist()
    ended = [row[: row.index(END) + 1] if END in row else row for row in expected]
    assert [row[:n].tolist() for row, n in zip(rows, counts, strict=True)] == ended
    assert {n.dtype for n in (rows, counts)} == {np.dtype(np.int32)}


def test_a_batch_changes_no_transcript_and_no_token_ends_a_generated_one(
    features: Any,
) -> None:
    """The end is suppressed: all are as long as the official ones on average."""
    whisper = describe(suppressed=(END,))
    network = open_network(whisper)
    rows, counts = transcribe(network, whisper, features)
    alone = [transcribe(network, whisper, features[n : n + 1])[0][0] for n in range(3)]

    assert counts.tolist() == [MOST] * 3
    assert np.array_equal(rows, np.stack(alone))
    assert END not in rows


def test_an_end_stops_a_batch_once_all_have_it(features: Any) -> None:
    """Steps are saved; what comes after an end is no token."""
    longer = describe(max_tokens=60)
    network = open_network(longer)
    free, _ = transcribe(network, longer, features)
    # The fifth token of the first clip ends; of the others wherever they have it.
    whisper = describe(max_tokens=60, end=int(free[0, 4]))
    decoder = GreedyDecoder(network, whisper, 1)
    decoder.features.copy_(torch.from_numpy(features[:1]))
    steps: list[int] = []

    def step() -> None:
        steps.append(1)
        decoder.step()

    with torch.inference_mode():
        decoder.run(decoder.encode, step)
    rows, counts = decoder.read(decoder.chosen.numpy(), 1)
    first = free[0].tolist().index(whisper.end) + 1

    assert counts.tolist() == [first]
    assert rows[0].tolist() == free[0, :first].tolist()
    assert len(steps) < decoder.steps


def test_made_up_weights_in_half_precision_agree_with_fp32(features: Any) -> None:
    """As a build is checked: the same tokens are asked of both."""
    whisper = describe(suppressed=(END,))
    weights = make_weights(SIZE, torch.device("cpu"), torch.bfloat16)
    exact = WhisperNetwork({n: t.float() for n, t in weights.items()}, SIZE.heads)
    logits, tokens = follow(exact, whisper, features)
    found, _ = follow(WhisperNetwork(weights, SIZE.heads), whisper, features, tokens)
    spread = np.std(np.stack(logits))

    assert len(logits) == 8
    assert 0 < np.std(np.stack(logits) - np.stack(found)) < 0.1 * spread


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    """Such as CTranslate2's, and one whose configuration tells no heads."""
    whisper = describe(folder=tmp_path, size=None)
    with pytest.raises(BuildFailed, match=r"no model.safetensors.*ctranslate2"):
        open_network(whisper)
    with pytest.raises(BuildFailed, match="encoder_attention_heads"):
        count_heads(whisper)
    with pytest.raises(BuildFailed, match=r"no model.decoder.embed_tokens.weight"):
        WhisperNetwork(
            {
                name: torch.zeros(shape)
                for name, shape in list_shapes(SIZE)
                if "embed_tokens" not in name
            },
            SIZE.heads,
        )
