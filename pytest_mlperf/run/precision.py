"""Which precision an engine runs where nobody chose one: the faster, found once.

On a CPU without instructions made for int8, int8 can be slower than fp32. Then both are
built and timed in turn, and the outcome is kept beside the builds, so that every run of
this build on this machine has the same precision.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import ExitStack
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.engine import open_streams
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.core.whole_file import write_whole
from pytest_mlperf.tuning.bare_loop import time_batch

LEAST_TURNS, MOST_TURNS = 5, 25
"""Batches of each build, timed in turn: other load meets both alike."""
LIMIT_S = 10.0
"""After which no more turns than the least are taken."""
SAMPLES = 4
"""Of a batch."""
MARGIN = 1.05
"""The default gives way to what is faster by this much."""


@dataclass(frozen=True, slots=True)
class PrecisionChoice:
    """The precision that is run, and why."""

    precision: str
    why: str

    @classmethod
    def read(cls, path: Path, precisions: Collection[str]) -> PrecisionChoice | None:
        """Return which of these an earlier comparison found; None where none did."""
        with suppress(OSError, ValueError, TypeError):
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
            if found.precision in precisions and isinstance(found.why, str):
                return found
        return None


def choose_precision(
    provider: EngineProvider,
    builds: Mapping[str, Build],
    workload: TensorWorkload,
    cpus: int,
    beat: Callable[[], None],
) -> PrecisionChoice:
    """Return the precision of these builds that is fastest here.

    ``builds``: precision -> build, the default first. All of them keep the accuracy
    target: what is tried beside the default is more exact than it.
    """
    default = next(iter(builds))
    cache = builds[default].request.cache / "precisions"
    key = {name: build.digest for name, build in builds.items()}
    path = cache / f"{content_hash({**key, 'cpus': cpus})[:32]}.json"
    # Two sessions on one host would disturb each other's comparison.
    with _lock_choice(path) as is_kept:
        if found := PrecisionChoice.read(path, builds):
            return found
        if not is_kept:  # runs that belong together could choose differently
            why = f"{default}: no comparison can be kept in {cache}"
            return PrecisionChoice(default, why)
        streams = Streams(1, cpus)
        times = _time_in_turn(provider, builds, workload, streams, beat)
        fastest = min(times, key=lambda name: times[name])
        chosen = fastest if times[default] > MARGIN * times[fastest] else default
        each = ", ".join(f"{name} {s * 1e3:.4g} ms" for name, s in times.items())
        why = f"{chosen}: a batch of {SAMPLES} took {each} in turn"
        choice = PrecisionChoice(chosen, why)
        write_whole(path, f"{json.dumps(asdict(choice), indent=1)}\n")
    return choice


@contextmanager
def _lock_choice(path: Path) -> Iterator[bool]:
    """Hold the lock of a choice; yield whether the cache can be written."""
    from filelock import FileLock

    lock = FileLock(path.with_suffix(".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _time_in_turn(
    provider: EngineProvider,
    builds: Mapping[str, Build],
    workload: TensorWorkload,
    streams: Streams,
    beat: Callable[[], None],
) -> dict[str, float]:
    """Return precision -> median seconds of a batch."""
    dataset = workload.dataset
    loaded = range(min(dataset.total, dataset.performance_count, SAMPLES * MOST_TURNS))
    dataset.load(loaded)
    picked = [loaded[i % len(loaded)] for i in range(SAMPLES * MOST_TURNS)]
    seconds: dict[str, list[float]] = {name: [] for name in builds}
    started = time.monotonic()
    with ExitStack() as stack:
        engines = {
            name: stack.enter_context(open_streams(provider, one, streams, beat))[0]
            for name, one in builds.items()
        }
        for engine in engines.values():
            time_batch(engine, workload, picked[:SAMPLES])  # warm
        for turn in range(MOST_TURNS):
            if turn >= LEAST_TURNS and time.monotonic() - started > LIMIT_S:
                break
            batch = picked[turn * SAMPLES : (turn + 1) * SAMPLES]
            for name, engine in engines.items():
                seconds[name].append(time_batch(engine, workload, batch))
                beat()
    dataset.unload(loaded)
    return {name: statistics.median(values) for name, values in seconds.items()}
