"""The order of weights for kernels whose results stay in registers (fp8_rows.cuh).

What a product leaves in a thread is what the next one reads there, or 16 bytes for
memory: so the columns of a product and the depth of the next are permuted.
"""

from __future__ import annotations

from typing import Any

BLOCK = 64
"""Rows and depth of a block of weights."""


def order_totals() -> Any:
    """Return for a thread's word and byte the channel of 64: [word, quad, byte].

    A thread of a quad of lanes ends a product with channels 8j + 2 quad + i, of which
    two neighbors of j make a word.
    """
    import torch

    word, quad, byte = torch.meshgrid(
        torch.arange(4), torch.arange(4), torch.arange(4), indexing="ij"
    )
    return 16 * word + 8 * (byte // 2) + 2 * quad + byte % 2


def order_words() -> Any:
    """Return the same where a thread's four words are adjacent channels."""
    import torch

    word, quad, byte = torch.meshgrid(
        torch.arange(4), torch.arange(4), torch.arange(4), indexing="ij"
    )
    return 16 * quad + 4 * word + byte


def order_pairs() -> Any:
    """Return the same where they are adjacent by two: 8 channels of each half."""
    import torch

    word, quad, byte = torch.meshgrid(
        torch.arange(4), torch.arange(4), torch.arange(4), indexing="ij"
    )
    return 32 * (word // 2) + 8 * quad + 4 * (word % 2) + byte


def make_columns(order: Any) -> Any:
    """Return which channel each of a product's 64 columns should make."""
    import torch

    columns = torch.empty(BLOCK, dtype=torch.long)
    columns[order_totals().flatten()] = order.flatten()
    return columns


def cut_block(weight: Any, rows: Any, channels: Any) -> Any:
    """Return [64, 64] fp8 weights as a block: [4 parts of 16 channels, 64 rows, 16]."""
    chosen = weight[rows][:, channels.flatten()]
    return chosen.reshape(BLOCK, 4, 16).permute(1, 0, 2).reshape(-1)
