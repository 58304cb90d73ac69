"""Samples that lie in a CUDA device's memory, and outputs that stay there.

Arrays are gathered by index on the device; a BERT's tokens lie end to end and are laid
out for the packed encoder there. From the host come row numbers, and for a BERT the
lengths of sequences: what a query says, never a sample.
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
from pytest_mlperf.engines.torch.packing import block_map
from pytest_mlperf.engines.torch.packing import flat_size

WIDE = (8, 4, 2)
"""Bytes that a gather moves at a time, where a row is a multiple of them."""


@dataclass(slots=True)
class Rows:
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
                        kind = torch.from_numpy(array[:1]).dtype
                        shape = (count, *array.shape[1:])
                        self.arrays[name] = torch.empty(
                            shape, dtype=kind, device=self.device
                        )
                        self.sample[name] = np.array(array[:1])
                    rows = self.arrays[name][start : start + len(array)]
                    rows.copy_(torch.from_numpy(array))
                start += len(array)
        except torch.OutOfMemoryError as error:
            raise too_much(count, error) from error
        sizes = [t.element_size() for t in self.arrays.values()]
        return sum(t.nbytes for t in self.arrays.values()), float(max(sizes))

    def drop(self) -> None:
        self.arrays.clear()

    def fetch(self, rows: NDArray[np.int64], places: Mapping[str, Any]) -> None:
        """Enqueue the gather of chosen rows into the first rows of device tensors."""
        import torch

        chosen = torch.from_numpy(rows)
        if self.device == "cuda":
            chosen = chosen.pin_memory().cuda(non_blocking=True)
        for name, place in places.items():
            source = wide(self.arrays[name])
            target = wide(place)[: len(rows)]
            torch.index_select(source, 0, chosen, out=target)


def wide(tensor: Any) -> Any:
    """Return a tensor's rows as [row, n] of the widest whole numbers they divide into.

    A picture's 150,528 bytes are gathered as 18,816 numbers.
    """
    import torch

    flat = tensor.reshape(len(tensor), -1).view(torch.uint8)
    kinds = {8: torch.int64, 4: torch.int32, 2: torch.int16}
    size = next((n for n in WIDE if not flat.shape[1] % n), 1)
    return flat.view(kinds[size]) if size > 1 else flat


@dataclass(slots=True)
class Tokens:
    """Sequences of a BERT, end to end without padding: a ``Store``."""

    names: tuple[str, str, str]
    """The batch's arrays: ids, mask, kinds."""
    device: str = "cuda"
    ids: Any = None
    kinds: Any = None
    firsts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    lengths: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))

    def keep(self, batches: Iterator[Batch], count: int) -> tuple[int, float]:
        import torch

        parts: list[tuple[Array, Array, Array]] = []
        for batch in batches:
            ids, mask, kinds = (batch[name] for name in self.names)
            inside = mask.astype(bool)
            lengths = inside.sum(axis=1, dtype=np.int32)
            if (inside != (np.arange(mask.shape[1]) < lengths[:, None])).any():
                raise BuildFailed(
                    f"{self.names[1]} leaves tokens out in the middle of a sequence, "
                    "but sequences are kept on the device up to their length; leave "
                    "--mlperf-start-from-device away"
                )
            parts.append((ids[inside], kinds[inside], lengths))
        packed = [np.concatenate(column) for column in zip(*parts, strict=True)]
        try:
            self.ids, self.kinds = (
                torch.from_numpy(column.astype(np.int32)).to(self.device)
                for column in packed[:2]
            )
        except torch.OutOfMemoryError as error:
            raise too_much(count, error) from error
        self.lengths = packed[2]
        self.firsts = np.cumsum(self.lengths, dtype=np.int64) - self.lengths
        return int(self.ids.nbytes + self.kinds.nbytes), 4.0

    def drop(self) -> None:
        self.ids = self.kinds = None

    def lay_out(
        self,
        rows: NDArray[np.int64],
        staged: Any,
        numbers: NDArray[np.int32],
        flat: Any,
        bucket: int,
    ) -> None:
        """Enqueue a chunk's layout in ``flat``, as ``torch_packing.lay_out`` has it.

        ``numbers`` is the array of ``staged``, pinned memory of a chunk: rows go in
        front, the block map where it will be.
        """
        import torch

        lengths = self.lengths[rows]
        count, tokens = len(rows), int(lengths.sum())
        table = numbers[: 3 * count].reshape(3, count)
        table[0], table[1] = self.firsts[rows], np.cumsum(lengths) - lengths
        table[2] = lengths
        blocks, end = block_map(lengths), flat_size(bucket)
        spots = numbers[3 * bucket : end].reshape(-1, 3)
        spots[: len(blocks)] = blocks
        spots[len(blocks) :] = 0
        flat[3 * bucket : end].copy_(staged[3 * bucket : end], non_blocking=True)
        there = staged[: 3 * count].to(flat.device, non_blocking=True).view(3, count)
        owners = torch.repeat_interleave(there[2].long(), output_size=tokens)
        places = torch.arange(tokens, dtype=torch.int32, device=flat.device)
        places -= there[1][owners]
        chosen = there[0][owners] + places
        columns = flat[: 3 * bucket].view(3, bucket)
        columns[:, tokens:] = 0
        columns[0, :tokens] = self.ids[chosen]
        columns[1, :tokens] = places
        columns[2, :tokens] = self.kinds[chosen]


@dataclass(slots=True)
class Outputs:
    """What a padded batch gave, on the device: ``Resting``."""

    tensors: Sequence[Any]
    size: int

    def fetch(self) -> list[Array]:
        return [t[: self.size].float().cpu().numpy() for t in self.tensors]


def mask_of(lengths: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return the mask that the dataset would have given: up to the longest."""
    return np.arange(int(lengths.max())) < lengths[:, None]


def picked(batch: Batch) -> Picked | None:
    """Return a batch whose samples are on the device; None for any other."""
    return batch if isinstance(batch, Picked) else None


def too_much(count: int, error: Exception) -> BuildFailed:
    """Return what to say where the device has no room for the samples."""
    return BuildFailed(
        f"{count:,} samples do not fit into the device's memory beside the model: "
        f"{str(error).splitlines()[0]}; leave --mlperf-start-from-device away"
    )
