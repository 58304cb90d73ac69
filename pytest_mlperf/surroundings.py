"""What a run happens in: host settings before it, the device's state during it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

from pytest_mlperf import host_state
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.job import Beat
from pytest_mlperf.neighbours import CpuTime
from pytest_mlperf.neighbours import described
from pytest_mlperf.sampler import MEASURED
from pytest_mlperf.sampler import Sampler
from pytest_mlperf.sampler import source_for
from pytest_mlperf.sampler import watching
from pytest_mlperf.system import System

PERIOD_S = 5.0
"""How often CPU times are read in a run: on a large machine that takes some ms."""


@dataclass(slots=True)
class Surroundings:
    """Filled while a job runs; ``facts`` go into its verdict."""

    sampler: Sampler
    cpus: Sequence[int] = ()
    root: Path = Path("/")
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    first: CpuTime | None = None
    last: CpuTime | None = None
    looked: float = 0.0

    def see(self, beat: Beat) -> Beat:
        """Note the runner's phase and return the heartbeat."""
        self.sampler.phase = beat.phase
        if beat.phase == MEASURED and time.monotonic() - self.looked >= PERIOD_S:
            self.looked = time.monotonic()
            self.last = CpuTime.read(self.cpus, root=self.root)
            self.first = self.first or self.last
        return beat

    @property
    def facts(self) -> dict[str, str]:
        found = self.before | self.sampler.facts | self.after
        if self.first and self.last:
            found |= described(self.first, self.last, len(self.cpus))
        return found


@contextmanager
def observed(
    system: System,
    cpus: Sequence[int],
    visible: str,
    scenario: Scenario,
    folder: Path,
    root: Path = Path("/"),
) -> Iterator[Surroundings]:
    """Watch host and device while the block runs; nothing is changed.

    ``visible``: the device's ``CUDA_VISIBLE_DEVICES`` value, empty for CPUs;
    ``folder``: the run's, for ``device.jsonl``.
    """
    found = host_state.findings(cpus, scenario, root)
    before = {one.name: str(one) for one in found}
    if system.numa_note or system.numa_config:
        before["numa"] = system.numa_note or system.numa_config
    hot = host_state.cpu_throttles(cpus, root)
    with watching(folder, source_for(visible)) as sampler:
        around = Surroundings(sampler, cpus, root, before)
        yield around
    now = host_state.cpu_throttles(cpus, root)
    if hot is not None and now is not None and now > hot:
        around.after["cpu throttling"] = f"{now - hot} times too hot"
