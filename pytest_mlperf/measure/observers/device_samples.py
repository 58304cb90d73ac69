"""Observes a run's devices: a reading a second into ``device.jsonl`` of its folder."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace

from pytest_mlperf.api.observer import ObservedRun
from pytest_mlperf.api.observer import RunHeartbeat
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.machine.sampler import Sampler
from pytest_mlperf.machine.sampler import open_reader
from pytest_mlperf.machine.sampler import sample_device
from pytest_mlperf.machine.sampler import sample_file_name


@dataclass(frozen=True, slots=True)
class ObservedDevices:
    """The samplers of one run, one a device."""

    samplers: Sequence[Sampler]

    def see(self, heartbeat: RunHeartbeat) -> None:
        """Tell the samplers the step: only the samples of ``run`` make facts."""
        for sampler in self.samplers:
            sampler.phase = heartbeat.step

    @property
    def facts(self) -> dict[str, str]:
        if len(self.samplers) == 1:
            return self.samplers[0].facts
        return {
            f"device {number} {name.removeprefix('device ')}": text
            for number, sampler in enumerate(self.samplers)
            for name, text in sampler.facts.items()
        }

    def complete_facts(self, facts: RunFacts) -> RunFacts:
        """Return the facts with the devices' average power while LoadGen measured."""
        own = {
            name: watts
            for number, sampler in enumerate(self.samplers)
            for name, watts in sampler.mean_watts(number).items()
        }
        return replace(facts, chip_watts={**facts.chip_watts, **own})


class DeviceSamples:
    """An ``Observer`` of temperature, power, clocks and throttling."""

    @contextmanager
    def around(self, task: ObservedRun) -> Iterator[ObservedDevices]:
        with ExitStack() as stack:
            samplers = [
                stack.enter_context(
                    sample_device(
                        task.folder, open_reader(one), file=sample_file_name(number)
                    )
                )
                for number, one in enumerate(task.visible or ("",))
            ]
            yield ObservedDevices(samplers)
