"""Samples in a CUDA device's memory, and outputs that stay there.

Arrays are gathered by index on the device; a BERT's tokens lie end to end and are laid
out for the packed encoder there. The host sends row numbers and, for a BERT, the
lengths of sequences: what a query contains, never a sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.device_dataset import Picked
from pytest_mlperf.api.device_dataset import check_equal_shapes
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.engines.torch.packing import Ints
from pytest_mlperf.engines.torch.packing import flat_size
from pytest_mlperf.engines.torch.packing import write_maps

WORD_BYTES = (8, 4, 2)
"""A gather moves the largest of these at a time that divides a row."""


@dataclass(slots=True)
class RowStore:
    """Equally shaped samples, one row each: a ``Store``."""

    device: str = "cuda"
    arrays: dict[str, Any] = field(default_factory=dict)
    """Input name -> tensor [sample, ...]."""
    sample: dict[str, Array] = field(default_factory=dict)
    """One sample on the host, for the shapes and types of inputs."""

    def keep(self, batches: Iterator[Batch], count: int) -> tuple[int, float]:
        import torch

        start = 0
        try:
            for batch in check_equal_shapes(batches):
                for name, array in batch.items():
                    if name not in self.arrays:
                        dtype = torch.from_numpy(array[:1]).dtype
                        shape = (count, *array.shape[1:])
                        self.arrays[name] = torch.empty(
                            shape, dtype=dtype, device=self.device
                        )
                        self.sample[name] = np.array(array[:1])
                    rows = self.arrays[name][start : start + len(array)]
                    rows.copy_(torch.from_numpy(array))
                start += len(array)
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(count, error) from error
        sizes = [t.element_size() for t in self.arrays.values()]
        return sum(t.nbytes for t in self.arrays.values()), float(max(sizes))

    def drop(self) -> None:
        self.arrays.clear()

    def fetch(self, rows: NDArray[np.int64], targets: Mapping[str, Any]) -> None:
        """Enqueue the gather of rows into the first rows of device tensors."""
        import torch

        indices = torch.from_numpy(rows)
        if self.device == "cuda":
            indices = indices.pin_memory().cuda(non_blocking=True)
        for name, tensor in targets.items():
            source = view_as_words(self.arrays[name])
            target = view_as_words(tensor)[: len(rows)]
            torch.index_select(source, 0, indices, out=target)


def view_as_words(tensor: Any) -> Any:
    """Return a tensor's rows as [row, n] of the widest integers that divide a row.

    A picture's 150,528 bytes are gathered as 18,816 integers.
    """
    import torch

    flat = tensor.reshape(len(tensor), -1).view(torch.uint8)
    dtypes = {8: torch.int64, 4: torch.int32, 2: torch.int16}
    size = next((n for n in WORD_BYTES if not flat.shape[1] % n), 1)
    return flat.view(dtypes[size]) if size > 1 else flat


@dataclass(slots=True)
class TokenStore:
    """Sequences of a BERT, end to end without padding: a ``Store``."""

    names: tuple[str, str, str]
    """The batch's arrays: ids, mask, token types."""
    device: str = "cuda"
    ids: Any = None
    token_types: Any = None
    firsts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    lengths: Ints = field(default_factory=lambda: np.zeros(0, np.int32))

    def keep(self, batches: Iterator[Batch], count: int) -> tuple[int, float]:
        import torch

        parts: list[tuple[Array, Array, Array]] = []
        for batch in batches:
            ids, mask, token_types = (batch[name] for name in self.names)
            inside = mask.astype(bool)
            lengths = inside.sum(axis=1, dtype=np.int32)
            if (inside != (np.arange(mask.shape[1]) < lengths[:, None])).any():
                raise BuildFailed(
                    f"{self.names[1]} leaves tokens out in the middle of a sequence, "
                    "but sequences are kept on the device up to their length; leave "
                    "--mlperf-start-from-device away"
                )
            parts.append((ids[inside], token_types[inside], lengths))
        packed = [np.concatenate(column) for column in zip(*parts, strict=True)]
        try:
            self.ids, self.token_types = (
                torch.from_numpy(column.astype(np.int32)).to(self.device)
                for column in packed[:2]
            )
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(count, error) from error
        self.lengths = packed[2]
        self.firsts = np.cumsum(self.lengths, dtype=np.int64) - self.lengths
        return int(self.ids.nbytes + self.token_types.nbytes), 4.0

    def drop(self) -> None:
        self.ids = self.token_types = None

    def lay_out(
        self,
        rows: NDArray[np.int64],
        staged: Any,
        numbers: Ints,
        flat: Any,
        bucket: int,
    ) -> None:
        """Enqueue a chunk's layout in ``flat``, as ``packing.lay_out`` has it.

        ``numbers`` is the array of ``staged``, pinned memory of a chunk: rows go in
        front, the maps where it will be.
        """
        import torch

        lengths = self.lengths[rows]
        count, tokens = len(rows), int(lengths.sum())
        table = numbers[: 3 * count].reshape(3, count)
        table[0], table[1] = self.firsts[rows], np.cumsum(lengths) - lengths
        table[2] = lengths
        write_maps(lengths, numbers, bucket)
        end = flat_size(bucket)
        flat[3 * bucket : end].copy_(staged[3 * bucket : end], non_blocking=True)
        rows_there = staged[: 3 * count].to(flat.device, non_blocking=True)
        firsts, starts, sizes = rows_there.view(3, count)
        owners = torch.repeat_interleave(sizes.long(), output_size=tokens)
        positions = torch.arange(tokens, dtype=torch.int32, device=flat.device)
        positions -= starts[owners]
        sources = firsts[owners] + positions
        columns = flat[: 3 * bucket].view(3, bucket)
        columns[:, tokens:] = 0
        columns[0, :tokens] = self.ids[sources]
        columns[1, :tokens] = positions
        columns[2, :tokens] = self.token_types[sources]


@dataclass(slots=True)
class TorchOutputs:
    """Outputs of a padded batch that stay on the device: ``DeviceOutputs``."""

    tensors: Sequence[Any]
    size: int

    def fetch(self) -> list[Array]:
        return [t[: self.size].float().cpu().numpy() for t in self.tensors]


def make_mask(lengths: Ints) -> NDArray[np.bool_]:
    """Return the mask that the dataset would have given: up to the longest."""
    return np.arange(int(lengths.max())) < lengths[:, None]


def as_picked(batch: Batch) -> Picked | None:
    """Return a batch whose samples are on the device; None for any other."""
    return batch if isinstance(batch, Picked) else None


def _out_of_memory(count: int, error: Exception) -> BuildFailed:
    return BuildFailed(
        f"{count:,} samples do not fit into the device's memory beside the model: "
        f"{str(error).splitlines()[0]}; leave --mlperf-start-from-device away"
    )
