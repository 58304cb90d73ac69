"""What a run happens in: host settings before it, the device's state during it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

from pytest_mlperf.core.types import Scenario
from pytest_mlperf.machine import host_checks
from pytest_mlperf.machine.cpu_usage import CpuTime
from pytest_mlperf.machine.cpu_usage import described
from pytest_mlperf.machine.sampler import MEASURED
from pytest_mlperf.machine.sampler import Sampler
from pytest_mlperf.machine.sampler import file_of
from pytest_mlperf.machine.sampler import source_for
from pytest_mlperf.machine.sampler import watching
from pytest_mlperf.machine.system import System
from pytest_mlperf.runner.messages import Beat

PERIOD_S = 5.0
"""How often CPU times are read in a run: on a large machine that takes some ms."""


@dataclass(slots=True)
class Surroundings:
    """Filled while a job runs; ``facts`` go into its verdict."""

    samplers: Sequence[Sampler]
    """One a device."""
    cpus: Sequence[int] = ()
    root: Path = Path("/")
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    first: CpuTime | None = None
    last: CpuTime | None = None
    looked: float = 0.0

    def see(self, beat: Beat) -> Beat:
        """Note the runner's phase and return the heartbeat."""
        for sampler in self.samplers:
            sampler.phase = beat.phase
        if beat.phase == MEASURED and time.monotonic() - self.looked >= PERIOD_S:
            self.looked = time.monotonic()
            self.last = CpuTime.read(self.cpus, root=self.root)
            self.first = self.first or self.last
        return beat

    @property
    def facts(self) -> dict[str, str]:
        found = dict(self.before)
        for number, sampler in enumerate(self.samplers):
            several = len(self.samplers) > 1
            for name, text in sampler.facts.items():
                own = f"device {number} {name.removeprefix('device ')}"
                found[own if several else name] = text
        found |= self.after
        if self.first and self.last:
            found |= described(self.first, self.last, len(self.cpus))
        return found


@contextmanager
def observed(
    system: System,
    cpus: Sequence[int],
    visible: Sequence[str],
    scenario: Scenario,
    folder: Path,
    root: Path = Path("/"),
) -> Iterator[Surroundings]:
    """Watch host and device while the block runs; nothing is changed.

    ``visible``: each device's ``CUDA_VISIBLE_DEVICES`` value, none for CPUs;
    ``folder``: the run's, for ``device.jsonl``, and ``device-1.jsonl`` … of others.
    """
    found = host_checks.findings(cpus, scenario, root)
    before = {one.name: str(one) for one in found}
    if system.numa_note or system.numa_config:
        before["numa"] = system.numa_note or system.numa_config
    hot = host_checks.cpu_throttles(cpus, root)
    with ExitStack() as stack:
        samplers = [
            stack.enter_context(watching(folder, source_for(one), file=file_of(number)))
            for number, one in enumerate(visible or ("",))
        ]
        around = Surroundings(samplers, cpus, root, before)
        yield around
    now = host_checks.cpu_throttles(cpus, root)
    if hot is not None and now is not None and now > hot:
        around.after["cpu throttling"] = f"{now - hot} times too hot"
