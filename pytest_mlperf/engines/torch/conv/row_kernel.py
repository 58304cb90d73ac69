"""Launches the kernels of CUDA C++ for several convolutions (fp8_rows.cuh)."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlperf.engines.torch import cuda_source
from pytest_mlperf.engines.torch.conv.pointwise import launch
from pytest_mlperf.engines.torch.conv.stem import empty_pictures


@dataclass(frozen=True, slots=True)
class RowKernel:
    """A kernel of one program a multiprocessor, which share the rows of pictures.

    Its parameters are tensors, the number of rows or pictures, and a node's scales.
    """

    source: Path
    name: str
    scales: tuple[str, ...]
    """The attributes that it takes, in its order; 0 where a node has none."""

    def launch(
        self,
        at: Mapping[str, Any],
        defines: Mapping[str, int],
        shared_bytes: int,
        tensors: Sequence[Any],
        rows: int,
    ) -> None:
        """Enqueue it; ``defines`` has GROUPS, the groups of four warps in a program."""
        pointer, number = cuda_source.POINTER, cuda_source.FLOAT
        device = tensors[0].device
        kernel = cuda_source.load_kernel(
            self.source,
            self.name,
            tuple(defines.items()),
            (
                *[pointer] * len(tensors),
                cuda_source.INTEGER,
                *[number] * len(self.scales),
            ),
            shared_bytes,
            device.index or 0,
        )
        grid = (launch.count_processors(device), 1, 1)
        scales = [float(at.get(name, 0.0)) for name in self.scales]
        kernel.launch(grid, 128 * defines["GROUPS"], *tensors, rows, *scales)


def make_results(like: Any, size: tuple[int, int], *channels: int) -> list[Any]:
    """Return memory of ``like``'s type for pictures of so many channels each, channels
    last; of 0 channels that of the first, which a kernel then does not write.
    """
    results: list[Any] = []
    for count in channels:
        shape = (len(like), count, *size)
        results.append(empty_pictures(like, shape, like.dtype) if count else results[0])
    return results
