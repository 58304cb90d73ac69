"""Samples in files of their own, in memory while LoadGen has them loaded."""

from __future__ import annotations

import os
from abc import ABC
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Generic
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array

File = TypeVar("File")
"""What a sample's file is known by: its path, or a record that has it."""


@dataclass(eq=False)
class FileDataset(ABC, Generic[File]):
    """Reads a sample's file when LoadGen loads it; a subclass reads and gathers."""

    files: Sequence[File]
    performance_count: int
    lengths: NDArray[np.int32] | None = field(default=None, init=False)
    _samples: dict[int, Array] = field(default_factory=dict, init=False)

    @property
    def total(self) -> int:
        return len(self.files)

    @abstractmethod
    def read(self, file: File) -> Array:
        """Return a sample; raises ``ValueError`` for a file that is not one."""

    def load(self, indices: Sequence[int]) -> None:
        """Read samples, in as many threads as there are cores; raises as ``read``."""
        from concurrent.futures import ThreadPoolExecutor

        absent = [index for index in indices if index not in self._samples]
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            read = pool.map(self.read, [self.files[index] for index in absent])
            self._samples.update(zip(absent, read, strict=True))

    def unload(self, indices: Sequence[int]) -> None:
        for index in indices:
            self._samples.pop(index, None)
