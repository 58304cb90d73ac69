"""What ``script_source`` calls in the code that it writes: TorchScript compiles these.

They mean what the functions of ``ops`` mean; sizes and axes are lists of numbers here.
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_integers(x: Tensor) -> list[int]:
    """Numbers of a shape that the graph computes."""
    numbers: list[int] = x.reshape(-1).tolist()
    return numbers


def divide(a: Tensor, b: Tensor) -> Tensor:
    """Quotient; of integers without its fraction."""
    if a.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


def reshape(x: Tensor, sizes: list[int]) -> Tensor:
    """Reshape, where a size of 0 is the input's own."""
    found: list[int] = []
    for axis, size in enumerate(sizes):
        found.append(x.size(axis) if size == 0 else size)
    return x.reshape(found)


def flatten(x: Tensor, axis: int) -> Tensor:
    """Matrix with the axes before ``axis`` as its rows."""
    rows = 1
    for size in x.shape[:axis]:
        rows *= size
    return x.reshape(rows, -1)


def reverse_axes(x: Tensor) -> Tensor:
    """Transpose without a permutation."""
    axes: list[int] = []
    for axis in range(x.dim()):
        axes.append(x.dim() - 1 - axis)
    return x.permute(axes)


def unsqueeze(x: Tensor, axes: list[int]) -> Tensor:
    """Axes of size 1 at these places of the result."""
    rank = x.dim() + len(axes)
    for axis in sorted([axis % rank for axis in axes]):
        x = x.unsqueeze(axis)
    return x


def squeeze(x: Tensor, axes: list[int]) -> Tensor:
    """Drop these axes, where they have size 1; without any, all that have."""
    if len(axes) == 0:
        return x.squeeze()
    rank = x.dim()
    for axis in sorted([-(axis % rank) for axis in axes]):
        x = x.squeeze(-axis)
    return x


def crop(
    x: Tensor, starts: list[int], ends: list[int], axes: list[int], steps: list[int]
) -> Tensor:
    """Slice; without axes those from the first on."""
    for place, start in enumerate(starts):
        axis = axes[place] if len(axes) else place
        step = steps[place] if len(steps) else 1
        x = torch.ops.aten.slice(x, axis, start, ends[place], step)
    return x


def gather(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """Entries of an axis; negative indices count from its end."""
    axis = axis % x.dim()
    index = index.to(torch.int64)
    index = torch.where(index < 0, index + x.size(axis), index)
    if axis == 0 and x.dim() == 2 and index.dim() > 0:
        return torch.embedding(x, index)
    shape = x.shape[:axis] + index.shape + x.shape[axis + 1 :]
    return x.index_select(axis, index.reshape(-1)).reshape(shape)


def expand(x: Tensor, sizes: list[int]) -> Tensor:
    """Broadcast in both directions."""
    return x * torch.ones(sizes, dtype=x.dtype, device=x.device)


def no_numbers() -> list[int]:
    """Return the empty list, which as a literal would have no type."""
    numbers: list[int] = []
    return numbers


def axes_from(x: Tensor, first: int) -> list[int]:
    """Axes of ``x`` from one on."""
    return [axis for axis in range(first, x.dim())]  # noqa: C416 - no list(range()) there


def average_picture(x: Tensor) -> Tensor:
    """Mean over all axes behind the channels."""
    return x.mean(axes_from(x, 2), keepdim=True)
