"""A built engine, and its batches timed without LoadGen."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from statistics import fmean

from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.engine import open_streams
from pytest_mlperf.api.workload import CountsUnits
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.runner.batch_times import BatchTimes
from pytest_mlperf.tuning.bare_loop import time_batch
from pytest_mlperf.tuning.bare_loop import time_steps


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A provider with its build, whose workload may lie on the device."""

    provider: EngineProvider
    build: Build

    @property
    def workload(self) -> TensorWorkload:
        return self.build.request.workload


def split_units(total: int, size: int) -> list[Sequence[int]]:
    """Return batches of neighbors that have all units, so that no batch is one that was
    just looked up; empty where there are not enough for one.
    """
    return [range(at, at + size) for at in range(0, total - size + 1, size)]


class BareEngine:
    """One stream that stays open from one round of batches to the next."""

    def __init__(
        self,
        key: tuple[str, int, bool],
        built: BuiltEngine,
        streams: Streams,
        beat: Callable[[], None],
    ) -> None:
        self.key = key
        """Digest of the build, size of a batch, and whether that is in units."""
        _, size, in_units = key
        self._workload, self._beat = built.workload, beat
        self._stack = ExitStack()
        batches = None
        if in_units and isinstance(built.workload, CountsUnits):
            self._workload = built.workload.in_units()
            batches = split_units(self._workload.dataset.total, size)
        dataset = self._workload.dataset
        loaded = min(dataset.total, dataset.performance_count)
        batches = batches or [[number % loaded for number in range(size)]]
        for samples in batches:
            dataset.load(samples)
            self._stack.callback(dataset.unload, samples)
        self._batches = cycle(batches)
        opened = open_streams(built.provider, built.build, streams, beat)
        self._engine = self._stack.enter_context(opened)[0]
        for samples in batches:
            time_batch(self._engine, self._workload, samples)  # warm
            beat()

    def time_batches(self, count: int) -> BatchTimes:
        """Return what each of ``count`` batches takes, and their mean steps."""
        found = []
        for _ in range(count):
            samples = next(self._batches)
            found.append(time_steps(self._engine, self._workload, samples))
            self._beat()
        means = {name: fmean(one[name] for one in found) for name in found[0]}
        return BatchTimes(
            tuple(sum(one.values()) for one in found),
            {name: seconds * 1e6 for name, seconds in means.items()},
        )

    def close(self) -> None:
        """Close the stream and let go of the samples."""
        self._stack.close()
