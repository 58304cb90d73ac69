"""Group normalization of channels-last activations.

PyTorch's own would copy them into another layout, and the next convolution back.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pytest_mlperf.engines.torch.volumes.instance_norm import ROWS
from pytest_mlperf.engines.torch.volumes.instance_norm import VOXELS

WIDTHS = (64, 32, 16)
"""Channels of a program: the largest that divides a layer's."""


def use_channels_last(network: Any) -> None:
    """Put a network of two-dimensional convolutions into the layout channels-last."""
    import torch

    network.to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, torch.nn.GroupNorm) and suits(module):
            module.forward = partial(normalize, module)


def suits(norm: Any) -> bool:
    """Tell whether the kernels take a layer's channels."""
    return bool(norm.affine and norm.num_channels % WIDTHS[-1] == 0)


def normalize(norm: Any, x: Any) -> Any:
    """Return a ``GroupNorm`` of ``x``; of [batch, channels, height, width] in the
    layout channels-last.
    """
    import torch

    from pytest_mlperf.engines.torch.volumes import kernels

    if x.ndim != 4:
        return type(norm).forward(norm, x)
    x = x.contiguous(memory_format=torch.channels_last)
    batch, channels, height, columns = x.shape
    pixels = height * columns
    blocks = -(-pixels // VOXELS)
    width = max(w for w in WIDTHS if channels % w == 0)
    partial_sums = torch.empty(
        batch, blocks, 2, channels, dtype=torch.float32, device=x.device
    )
    out = torch.empty_like(x)
    grid = blocks, batch, channels // width
    sizes = {"VOXELS": VOXELS, "ROWS": ROWS, "WIDTH": width}
    kernels.measure_blocks[grid](x, partial_sums, pixels, channels, **sizes)
    factors = merge_groups(norm, partial_sums, pixels)
    kernels.normalize[grid](x, factors, out, pixels, channels, RELU=False, **sizes)
    return out


def merge_groups(norm: Any, parts: Any, pixels: int) -> Any:
    """Return what a channel is multiplied by and what is added: [batch, 2, channels].

    ``parts`` float32 [batch, blocks, 2, channels]: each block's means, and its sums of
    squared differences from them.
    """
    import torch

    batch, blocks, _, channels = parts.shape
    left = pixels - VOXELS * torch.arange(blocks, device=parts.device)
    counts = left.clamp(max=VOXELS)[:, None, None]
    groups, members = norm.num_groups, channels // norm.num_groups
    grouped = parts.view(batch, blocks, 2, groups, members)
    means, squares = grouped[:, :, 0], grouped[:, :, 1]
    mean = (means * counts).sum(1, keepdim=True).mean(-1, keepdim=True) / pixels
    total = (squares + counts * (means - mean) ** 2).sum((1, 3))
    factor = torch.rsqrt(total / (pixels * members) + norm.eps)[:, :, None]
    scale = norm.weight.float().view(groups, members) * factor
    summand = norm.bias.float().view(groups, members) - mean[:, 0] * scale
    return torch.stack([scale, summand], dim=1).view(batch, 2, channels)
