"""Volumes on the device: uploaded once, cut into windows, blended and classified there.

Otherwise each window's scores would go to the host, 25 MB for 128 voxels a side and
three classes, and one core there would be the limit.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_mlperf.api.samples import Responses
from pytest_mlperf.api.window_blending import BlendsWindows
from pytest_mlperf.api.window_blending import Start

RunWindows = Callable[[Callable[[Any], None], int], Any]
"""(what fills the model's input, windows) -> their scores, valid until the next run."""


@dataclass(slots=True)
class _Sums:
    scores: Any
    """float32 [classes, depth, height, width]."""
    left: int
    """Windows that have not been added."""


@dataclass(slots=True)
class ClassVolume:
    """A volume that is answered, on the device."""

    classes: Any
    """uint8 [depth, height, width]."""
    finite: Any
    """bool []: no score was NaN or infinite."""


class WindowBlender:
    """The volumes of one workload on one device, in the order of the current stream."""

    def __init__(self, workload: BlendsWindows, device: Any) -> None:
        import torch

        self._torch, self._workload = torch, workload
        self._device = torch.device(device)
        self._importance = torch.from_numpy(workload.importance).to(self._device)

    def upload(self, indices: Sequence[int]) -> list[Any]:
        """Enqueue the copies of volumes, float32 [channels, depth, height, width]."""
        volumes = []
        for index in indices:
            volume = self._torch.from_numpy(self._workload.volume(index))
            if self._device.type == "cuda":
                staged = self._torch.empty(volume.shape, pin_memory=True)
                volume = staged.copy_(volume)
            volumes.append(volume.to(self._device, non_blocking=True))
        return volumes

    def answer(
        self, volumes: Sequence[Any], indices: Sequence[int], run: RunWindows
    ) -> list[ClassVolume]:
        """Enqueue the runs of all windows, full ones across volumes.

        Raises ``ValueError`` for scores of another shape.
        """
        starts = [self._workload.starts(index) for index in indices]
        items = [(place, start) for place, some in enumerate(starts) for start in some]
        sums: dict[int, _Sums] = {}
        done: dict[int, ClassVolume] = {}
        most = self._workload.windows_a_run
        for first in range(0, len(items), most):
            part = items[first : first + most]

            def fill(held: Any, part: Sequence[tuple[int, Start]] = part) -> None:
                for row, (place, start) in enumerate(part):
                    held[row].copy_(self._cut(volumes[place], start))

            scores = run(fill, len(part))[: len(part)]
            self._workload.check_scores(scores.shape, len(part))
            for (place, start), window in zip(part, scores, strict=True):
                if place not in sums:
                    shape = scores.shape[1], *volumes[place].shape[1:]
                    zeros = self._torch.zeros(shape, device=self._device)
                    sums[place] = _Sums(zeros, len(starts[place]))
                total = self._cut(sums[place].scores, start)
                total.addcmul_(window.float(), self._importance)
                sums[place].left -= 1
                if not sums[place].left:
                    done[place] = self._classify(sums.pop(place).scores)
        return [done[place] for place in range(len(indices))]

    def _cut(self, volume: Any, start: Start) -> Any:
        side, (i, j, k) = len(self._importance), start
        return volume[:, i : i + side, j : j + side, k : k + side]

    def _classify(self, scores: Any) -> ClassVolume:
        torch = self._torch
        classes = scores.argmax(dim=0).to(torch.uint8)
        return ClassVolume(classes, torch.isfinite(scores).all())

    def fetch(self, tensor: Any) -> Any:
        """Enqueue a copy to host memory."""
        if self._device.type != "cuda":
            return tensor
        pinned = self._torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return pinned.copy_(tensor, non_blocking=True)


class VolumeRunner:
    """Answers batches of volumes on one stream of a padded model."""

    def __init__(self, stream: Any, workload: Any) -> None:
        """Take a ``PaddedStream`` and a workload that blends windows."""
        self.workload, self._stream = workload, stream
        self._blender = WindowBlender(workload, "cuda")
        side, channels = len(workload.importance), len(workload.volume(0))
        window = np.zeros((1, channels, side, side, side), np.float32)
        (name,) = workload.model.inputs
        self._sample = {name: window}

    def __call__(self, indices: Sequence[int]) -> Responses:
        blender, stream, events = self._blender, self._stream, self._stream.events
        with stream.current():
            events.start()
            volumes = blender.upload(indices)
            events.mark(1)
            done = blender.answer(volumes, indices, self._run)
            events.mark(2)
            classes = [blender.fetch(one.classes) for one in done]
            finite = [blender.fetch(one.finite) for one in done]
            events.mark(3)
        events.finish(len(indices))
        answers: Responses = self.workload.answer(
            [one.numpy() for one in classes], [bool(one) for one in finite], indices
        )
        return answers

    def _run(self, fill: Callable[[Any], None], count: int) -> Any:
        (scores,) = self._stream.run_filled(self._sample, fill, count)
        return scores
