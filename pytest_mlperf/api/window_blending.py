"""Volumes answered window by window, for engines that blend on their device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from typing import runtime_checkable

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Responses

Start = tuple[int, int, int]
"""The first voxel of a window: depth, height, width."""


@runtime_checkable
class BlendsWindows(Protocol):
    """A ``RunsModel`` workload whose model scores the classes in windows of a volume.

    Its answer is, for each voxel, the class with the largest sum of scores, each window
    weighted by ``importance``. An engine may do all that on its device.
    """

    @property
    def windows_a_run(self) -> int:
        """Windows that one run of the model takes."""

    @property
    def importance(self) -> Array:
        """The weight of each voxel of a window: float32 [side, side, side]."""

    def volume(self, index: int) -> Array:
        """Return a sample: float32 [channels, depth, height, width]."""

    def starts(self, index: int) -> Sequence[Start]:
        """Return the first voxel of each window of a sample."""

    def check_scores(self, shape: Sequence[int], count: int) -> None:
        """Raise ``ValueError`` unless that is the shape of the scores of so many
        windows: [windows, classes, side, side, side].
        """

    def answer(
        self, classes: Sequence[Array], finite: Sequence[bool], indices: Sequence[int]
    ) -> Responses:
        """Return the answers from the class of each voxel, uint8 [depth, height, width]
        a sample, and whether all its scores were finite.

        Raises ``ValueError`` where some were not.
        """
