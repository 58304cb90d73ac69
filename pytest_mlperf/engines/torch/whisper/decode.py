"""Greedy decoding of a batch: buffers on the device, and steps that can be recorded."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.whisper_model import FRAMES
from pytest_mlperf.api.whisper_model import WhisperModel
from pytest_mlperf.engines.torch.whisper.network import WhisperNetwork

FREE = -1
"""A position whose token is the last step's own."""
LOOK_EVERY = 8
"""Steps between two looks at whether all transcripts have ended: each look waits for
the device."""


class GreedyDecoder:
    """The buffers of one batch size, and what is computed in them.

    Nothing depends on the host from ``encode`` to the last ``step``: position, tokens
    and caches are on the device.
    """

    def __init__(self, network: WhisperNetwork, whisper: WhisperModel, size: int):
        import torch

        self.network, self.whisper, self.size = network, whisper, size
        self.steps = len(whisper.prompt) + whisper.max_tokens - 1
        device, dtype = network.device, network.dtype
        layers, width = len(network.decoder_layers), network.width
        mels = network.convolutions[0][0].shape[1]
        self.features = torch.zeros(size, mels, 2 * FRAMES, device=device)
        self.cross = torch.zeros(
            layers, size, FRAMES, 2, width, device=device, dtype=dtype
        )
        self.own = torch.zeros(
            layers, size, self.steps, 2, width, device=device, dtype=dtype
        )
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.forced = torch.full((size, self.steps), FREE, device=device)
        self.forced[:, : len(whisper.prompt)] = torch.tensor(whisper.prompt)
        self.last = torch.zeros(size, dtype=torch.int64, device=device)
        self.chosen = torch.zeros(size, self.steps, dtype=torch.int64, device=device)
        self.logits: Any = None
        self._suppressed = torch.tensor(
            list(whisper.suppressed), dtype=torch.int64, device=device
        )

    def force(self, tokens: Any) -> None:
        """Give the transcripts' first tokens: int64 [batch, tokens]."""
        first = len(self.whisper.prompt)
        self.forced[:, first : first + tokens.shape[1]] = tokens

    def encode(self) -> None:
        """Encode ``features`` and go to the first position."""
        self.network.encode(self.features, list(self.cross))
        self.position.zero_()

    def step(self) -> None:
        """Decode one token of each transcript."""
        import torch

        given = self.forced.index_select(1, self.position)[:, 0]
        tokens = torch.where(given == FREE, self.last, given)
        self.logits = self.network.decode(
            tokens, self.position, list(self.own), list(self.cross)
        )
        allowed = self.logits
        if len(self._suppressed):
            allowed = allowed.index_fill(1, self._suppressed, float("-inf"))
        self.last.copy_(allowed.argmax(dim=1))
        self.chosen.index_copy_(1, self.position, self.last[:, None])
        self.position += 1

    def run(self, encode: Callable[[], None], step: Callable[[], None]) -> None:
        """Run until all transcripts have ended, in one call a step.

        ``encode`` and ``step`` are this decoder's, or graphs recorded of them.
        """
        encode()
        may_end = self.whisper.end not in self.whisper.suppressed
        for number in range(self.steps):
            step()
            first = len(self.whisper.prompt) - 1
            if may_end and number > first and not (number - first) % LOOK_EVERY:
                written = self.chosen[:, first : number + 1]
                if bool((written == self.whisper.end).any(dim=1).all()):
                    return

    def read(self, chosen: Array, size: int) -> Sequence[Array]:
        """Return tokens int32 [size, longest] and each transcript's number of them.

        ``chosen`` is that buffer on the host. The end token counts.
        """
        tokens = chosen[:size, len(self.whisper.prompt) - 1 :].astype(np.int32)
        ends = tokens == self.whisper.end
        counts = np.where(ends.any(axis=1), ends.argmax(axis=1) + 1, tokens.shape[1])
        longest = int(counts.max())
        rows = np.where(np.arange(longest) < counts[:, None], tokens[:, :longest], 0)
        return rows, counts.astype(np.int32)
