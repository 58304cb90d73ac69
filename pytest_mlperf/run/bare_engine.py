"""A built engine, and its batches timed without LoadGen."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import fmean

from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.engine import open_streams
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


class BareEngine:
    """One stream that stays open from one round of batches to the next."""

    def __init__(
        self,
        key: tuple[str, int],
        built: BuiltEngine,
        streams: Streams,
        beat: Callable[[], None],
    ) -> None:
        self.key = key
        """Digest of the build, and samples of a batch."""
        self._workload, self._beat = built.workload, beat
        self._stack = ExitStack()
        dataset = built.workload.dataset
        loaded = min(dataset.total, dataset.performance_count)
        self._samples = [number % loaded for number in range(key[1])]
        dataset.load(self._samples)
        self._stack.callback(dataset.unload, self._samples)
        opened = open_streams(built.provider, built.build, streams, beat)
        self._engine = self._stack.enter_context(opened)[0]
        time_batch(self._engine, self._workload, self._samples)  # warm

    def time_batches(self, count: int) -> BatchTimes:
        """Return what each of ``count`` batches takes, and their mean steps."""
        found = []
        for _ in range(count):
            found.append(time_steps(self._engine, self._workload, self._samples))
            self._beat()
        means = {name: fmean(one[name] for one in found) for name in found[0]}
        return BatchTimes(
            tuple(sum(one.values()) for one in found),
            {name: seconds * 1e6 for name, seconds in means.items()},
        )

    def close(self) -> None:
        """Close the stream and let go of the samples."""
        self._stack.close()
