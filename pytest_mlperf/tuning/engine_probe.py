"""A short probe that makes the first run on an unknown machine a sensible one.

It finds the layout (streams x threads) and the batch with the best bare loop, and from
that what LoadGen has to be told: the expected rate, the expected latency, or a Server
load that keeps the bound. Every number that a system file or the command line gives is
taken as it is. What was found is said in the run's facts.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pytest_mlperf.api.batch_bound import BoundsBatches
from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import NeedsSettling
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.engine import open_streams
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.machine.host import read_available_memory
from pytest_mlperf.sut.tuned_load import Tuned
from pytest_mlperf.tuning.bare_loop import bare_loop
from pytest_mlperf.tuning.bare_loop import time_batch

SLICE_S = 0.4
"""How long one candidate is timed, at least."""
FINALISTS = 3
"""How many of the candidates are timed a second time."""
SAMPLES = 64
"""Samples a candidate works through before its rate counts, so that long and short
ones take part in proportion."""
PASS_S = 2.0
"""What a pass over a candidate's batches may take; a slow model gets fewer of them."""
LONG_PASS_S = 1.0
"""What a pass takes, at least, when a device is timed settled."""
ANSWER_RATES = {Scenario.OFFLINE: 2.5e6, Scenario.SERVER: 5e4}
"""What an engine that only answers (``null``) is asked for, in samples/s: it has no
rate of its own, it measures the suite."""

STREAM_ANSWER_NS = 1000
"""What a stream scenario is told to expect of such an engine."""


NO_MEMORY = re.compile("out of memory|failed to allocate memory", re.IGNORECASE)
"""What frameworks say, each in an exception of its own, of memory that is not there."""


class OutOfMemory(BuildFailed):
    """No batch runs in a layout of streams, because memory is short."""


@dataclass(frozen=True, slots=True)
class EngineProbe:
    """What a probe measures with."""

    provider: EngineProvider
    build: Build
    workload: TensorWorkload
    cpus: int
    beat: Callable[[], None]
    """Called between measurements, so that a watchdog sees life."""
    equal_issue: bool = False
    """The run asks every sample equally often, and all that LoadGen lists."""

    def measure(self, scenario: Scenario, given: Tuning, bound_ns: int | None) -> Tuned:
        """Return layout and batch by the bare loop; in streams, all of the tuning."""
        if scenario in (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM):
            return self._latency(given, 8 if scenario is Scenario.MULTI_STREAM else 1)
        streams, batch, rate = self._throughput(scenario, given, bound_ns)
        delay_s = (given.max_delay_ms or 0.0) / 1000
        return Tuned(streams, batch, delay_s, given.preferred, loop_rate=rate)

    def _latency(self, given: Tuning, size: int) -> Tuned:
        streams = Streams(
            1, given.threads or self.provider.layouts(self.cpus)[-1].threads
        )
        if given.expected_latency_ms is not None:
            latency_ns = int(given.expected_latency_ms * 1e6)
            return Tuned(streams, size, expected_latency_ns=latency_ns, note="as given")
        if self.provider.answers:
            expected = STREAM_ANSWER_NS * (1 if size == 1 else 4)
            return Tuned(streams, size, expected_latency_ns=expected, note="as told")
        with open_streams(self.provider, self.build, streams, self.beat) as engines:
            batches = self._batches(size)
            timed = [time_batch(engines[0], self.workload, b) for b in batches[:2]]
            started = time.monotonic()
            while time.monotonic() - started < 2 * SLICE_S or len(timed) < 5:
                chosen = batches[len(timed) % len(batches)]
                timed.append(time_batch(engines[0], self.workload, chosen))
                self.beat()
        if self.equal_issue:
            return expect_mean(self.workload, streams, size, timed, batches)
        middle = float(np.median(timed[2:]))
        # LoadGen lists twice the queries that this latency lets expect and ends with
        # an error when they run out; half the median leaves room for faster spells.
        expected = max(1, int(middle * 0.5 * 1e9))
        note = f"median {middle * 1e3:.3f} ms in the probe"
        return Tuned(
            streams, size, expected_latency_ns=expected, note=note, latency_s=middle
        )

    def _throughput(
        self, scenario: Scenario, given: Tuning, bound_ns: int | None
    ) -> tuple[Streams, int, float]:
        layouts = self._layouts()
        if given.streams or given.threads:
            count = given.streams or max(1, self.cpus // (given.threads or 1))
            layouts = (Streams(count, given.threads or max(1, self.cpus // count)),)
        sizes = (given.batch,) if given.batch else self.provider.batches
        if self.provider.answers:
            return layouts[0], sizes[-1], ANSWER_RATES[scenario]
        sort = scenario is Scenario.OFFLINE
        rates: dict[tuple[Streams, int], float] = {}
        crowded: OutOfMemory | None = None
        for streams in layouts:
            fitting = sizes if given.batch else self._fitting(sizes, streams.count)
            try:
                found = self._sweep(streams, fitting, bound_ns, sort=sort)
            except OutOfMemory as error:
                crowded = error
                continue
            rates |= {(streams, size): rate for size, rate in found.items()}
        if crowded and not rates:
            raise crowded
        best = sorted(rates, key=lambda key: -rates[key])[:FINALISTS]
        if len(best) > 1:
            # A busy spell of the machine may have met any of them.
            for streams, size in best:
                again = self._sweep(streams, (size,), None, sort=sort)[size]
                rates[streams, size] = max(rates[streams, size], again)
        streams, size = max(best, key=lambda key: rates[key])
        settles = self.provider if isinstance(self.provider, NeedsSettling) else None
        if settles is not None and settles.settle_s:
            with open_streams(self.provider, self.build, streams, self.beat) as engines:
                batches = self._batches(size, streams.count, sort=sort)
                batches = self._affordable(batches, engines)
                # Streams run dry at a pass's end: short passes would show their ends.
                pass_s = sum(map(len, batches)) / rates[streams, size]
                batches *= max(1, int(LONG_PASS_S / pass_s))
                for _ in range(2):  # the first pass is the one that warms it up
                    rates[streams, size] = bare_loop(
                        engines, self.workload, batches, settles.settle_s, self.beat
                    )
        return streams, size, rates[streams, size]

    def _layouts(self) -> Sequence[Streams]:
        """Return the provider's layouts without those that memory has no room for."""
        found = self.provider.layouts(self.cpus)
        path = self.build.path
        if path is None:
            return found
        # Every stream holds the weights, and room to work.
        most = read_available_memory() // 2 // (2 * path.stat().st_size + 1)
        return [s for s in found if s.count <= most] or found[-1:]

    def _fitting(self, sizes: Sequence[int], streams: int) -> Sequence[int]:
        """Return the batch sizes for which the device has memory, one at least."""
        if not isinstance(self.provider, BoundsBatches):
            return sizes
        most = self.provider.largest_batch(self.build, streams)
        if most is None:
            return sizes
        return [size for size in sizes if size <= most] or [most]

    def _sweep(
        self,
        streams: Streams,
        sizes: Sequence[int],
        bound_ns: int | None,
        *,
        sort: bool,
    ) -> dict[int, float]:
        """Return batch size -> samples/s of one layout, until it gets no better or has
        no memory; raises ``OutOfMemory`` where the first has none.
        """
        rates: dict[int, float] = {}
        with open_streams(self.provider, self.build, streams, self.beat) as engines:
            for size in sizes:
                batches = self._batches(size, streams.count, sort=sort)
                try:
                    batches = self._affordable(batches, engines)
                    rate = bare_loop(
                        engines, self.workload, batches, SLICE_S, self.beat
                    )
                except Exception as error:
                    is_short = isinstance(error, MemoryError)
                    if not is_short and not NO_MEMORY.search(f"{error}"):
                        raise
                    if rates:
                        break
                    plural = "s" * (streams.count != 1)
                    raise OutOfMemory(
                        f"no memory for a batch of {size:,} in {streams.count} stream"
                        f"{plural}: {error}; lower --mlperf-batch or --mlperf-streams,"
                        " or end what else holds memory"
                    ) from error
                # A batch that takes a third of the bound leaves no room to wait.
                seconds = size * streams.count / rate
                slow = bound_ns is not None and seconds > bound_ns / 3e9
                if slow and rates:
                    break
                rates[size] = rate
                if slow or rate < 0.9 * max(rates.values()):
                    break
        return rates

    def _affordable(
        self, batches: list[list[int]], engines: Sequence[Engine]
    ) -> list[list[int]]:
        """Return an even pick of batches that a pass gets through in seconds."""
        for engine in engines:
            time_batch(engine, self.workload, batches[0])  # warm
            self.beat()
        seconds = time_batch(engines[0], self.workload, batches[0])
        most = max(2, int(PASS_S / seconds)) * len(engines)
        return batches[:: -(-len(batches) // most)]

    def _batches(
        self, size: int, streams: int = 1, *, sort: bool = False
    ) -> list[list[int]]:
        """Return index batches over a fixed random pick of the dataset.

        Several batches a stream: a pass ends when its slowest stream does.
        """
        dataset = self.workload.dataset
        loaded = min(dataset.total, dataset.performance_count)
        picked = np.random.default_rng(0).permutation(loaded)
        count = max(SAMPLES, 4 * size * streams)
        picked = np.resize(picked, count)  # repeats a small dataset
        if sort and dataset.lengths is not None:
            picked = picked[np.argsort(-dataset.lengths[picked], kind="stable")]
        indices: list[int] = picked.tolist()
        return [indices[i : i + size] for i in range(0, len(indices), size)]


def expect_mean(
    workload: TensorWorkload,
    streams: Streams,
    size: int,
    timed: Sequence[float],
    batches: Sequence[list[int]],
) -> Tuned:
    """Return the tuning of a stream in which LoadGen asks all that it lists.

    It lists twice the queries that the latency lets expect and does not end before.
    At four fifths of the mean a run takes two and a half times the minimum
    duration. Where samples differ in cost, the mean is the dataset's, at the time
    for each unit of cost.
    """
    lengths = workload.dataset.lengths
    run = [batches[number % len(batches)] for number in range(2, len(timed))]
    costs = [len(one) if lengths is None else lengths[one].sum() for one in run]
    mean_cost = size * (1.0 if lengths is None else float(lengths.mean()))
    mean = float(np.sum(timed[2:]) / np.sum(costs)) * mean_cost
    note = f"mean {mean * 1e3:.3f} ms in the probe"
    expected = max(1, int(mean * 0.8 * 1e9))
    return Tuned(streams, size, expected_latency_ns=expected, note=note, latency_s=mean)
