"""A workbench of several devices: what a ``Workbench`` does, done by all of them."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace
from typing import Any
from typing import Protocol

from pytest_mlperf.api import registry
from pytest_mlperf.api.device_dataset import Kept
from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.timeline import Timeline
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.api.workload import Workload
from pytest_mlperf.core.errors import Refused
from pytest_mlperf.run.engine_backend import Built
from pytest_mlperf.run.engine_backend import Workbench
from pytest_mlperf.runner import device_messages
from pytest_mlperf.runner.device_group import Fleet
from pytest_mlperf.runner.device_group import RemoteStream
from pytest_mlperf.runner.device_group import Site
from pytest_mlperf.runner.messages import Job
from pytest_mlperf.runner.messages import Part
from pytest_mlperf.tuning.server_load import Tuned


class Channel(Protocol):
    """What a fleet tells the parent."""

    def beat(self) -> None: ...

    def fail(self, error: BaseException) -> None: ...

    def attend(self, parts: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class GroupSamples:
    """The samples as LoadGen is to load them: on every device's process."""

    dataset: Dataset
    fleet: Fleet

    @property
    def total(self) -> int:
        return self.dataset.total

    @property
    def performance_count(self) -> int:
        return self.dataset.performance_count

    def load(self, indices: Sequence[int]) -> None:
        """Bring samples into the devices' memory; this process has none."""
        self.fleet.ask(device_messages.Load(indices))

    def unload(self, indices: Sequence[int]) -> None:
        self.fleet.ask(device_messages.Load(indices, keep=False))


class FleetBench:
    """The devices of an item that takes several, and the workload without samples."""

    def __init__(self, channel: Channel, site: Site) -> None:
        self._channel, self._site = channel, site
        # Of its own: the engine is not touched here, only the workload's facts.
        self._bench = Workbench(channel.beat)
        self._fleet: Fleet | None = None
        self._bound: list[str] = []
        self._answers = False

    @property
    def fleet(self) -> Fleet:
        assert self._fleet is not None, "workload() comes first"
        return self._fleet

    def workload(self, job: Job) -> Workload:
        """Open the job's workload, here and in every device's process."""
        if self._fleet is None or self._fleet.seats != job.seats:
            self.close()
            channel = self._channel
            self._fleet = Fleet.start(job.seats, self._site, channel.beat, channel.fail)
            channel.attend(self._fleet.parts)
        self._answers = registry.engine(job.engine).answers
        self.fleet.tell(device_messages.Open(job))
        workload = self._bench.opened(job)
        self._bound = self.fleet.answers()
        return workload

    def build(self, job: Job) -> Built:
        """Build the job's engine on every device: once, where builds are cached."""
        built: list[Built] = self.fleet.ask(device_messages.Build(job))
        digests = [one.digest for one in built]
        if len({*digests}) > 1:
            each = ", ".join(
                f"{member.name}: {digest[:12]}"
                for member, digest in zip(self.fleet.members, digests, strict=True)
            )
            raise Refused(
                f"the devices' engine builds differ ({each}), but one result needs "
                "the same build on all: choose devices of one kind with "
                "CUDA_VISIBLE_DEVICES, or take one with --mlperf-devices-per-item 1"
            )
        first = built[0]
        facts = {**first.facts, "bound to": "; ".join(self._named(self._bound))}
        if "device" in facts:
            facts["device"] = f"{len(built)} x {facts['device']}"
        return replace(first, facts=facts)

    def measure(self, job: Job) -> Tuned:
        """Time the bare engine on the first device, while the others rest."""
        first = self.fleet.members[0]
        first.tell(device_messages.Measure(job))
        tuned: Tuned = first.answer()
        return tuned

    @contextmanager
    def engines(self, tuned: Tuned) -> Iterator[Sequence[RemoteStream]]:
        """Open every device's engines; yields the streams to all of them."""
        with self.fleet.serving(
            device_messages.Serve(tuned.streams, tuned.batch)
        ) as streams:
            yield streams

    def warm_up(self, engines: Sequence[Engine], batch: int) -> None:  # noqa: ARG002
        """Run each stream of each device once, untimed."""
        self.fleet.ask(device_messages.WarmUp(batch))

    def timelines(self, engines: Sequence[Engine]) -> list[Timeline]:  # noqa: ARG002
        """Return what the devices noted since the warm-up."""
        return [
            line
            for lines in self.fleet.ask(device_messages.Timelines())
            for line in lines
        ]

    @staticmethod
    def placed(workload: Workload) -> Workload:
        """Return the workload as this process has it: samples are with the devices."""
        return workload

    def resident(self) -> Kept:
        """Return what lay on each device; their copies are measured at one time."""
        return Kept.slowest(self.fleet.ask(device_messages.Resident()))

    def library(self, workload: Workload) -> GroupSamples:
        """Return the samples as LoadGen is to load them."""
        return GroupSamples(workload.dataset, self.fleet)

    def facts(self, engines: Sequence[Engine], tuned: Tuned) -> dict[str, str]:  # noqa: ARG002
        """Return what each device did in a run, and how the rate scales with them."""
        members = self.fleet.members
        found = {"devices": str(len(members))}
        streams = [s for m in members for s in m.streams if s.batches]
        if not streams:
            return found
        began = min(stream.first for stream in streams)
        for member in members:
            done = sum(stream.done for stream in member.streams)
            batches = sum(stream.batches for stream in member.streams)
            ended = max((stream.last for stream in member.streams), default=began)
            name = member.name.partition(" (")[0]
            each = f"{done:,} samples in {batches:,} batches"
            seconds = ended - began
            found[name] = f"{each}, {done / seconds:,.1f}/s" if seconds > 0 else each
        seconds = max(stream.last for stream in streams) - began
        total = sum(stream.done for stream in streams)
        if tuned.loop_rate and seconds > 0 and not self._answers:
            rate, alone = total / seconds, tuned.loop_rate
            share = rate / (alone * len(members))
            of = f"{rate:,.1f}/s of {len(members)} x {alone:,.1f}/s"
            found["scaling"] = f"{share:.3f} ({of}, one device's bare loop)"
        return found

    def forget(self) -> None:
        """Let go of everything: the processes keep nothing once they have ended."""
        self.kill()
        self._bench.forget()

    def kill(self) -> None:
        """End the devices' processes at once."""
        if self._fleet is not None:
            self._fleet.kill()
        self._gone()

    def close(self) -> None:
        """End the devices' processes gently."""
        if self._fleet is not None:
            self._fleet.close()
        self._gone()

    def _gone(self) -> None:
        self._fleet = None
        self._channel.attend(no_parts)

    def _named(self, texts: Sequence[str]) -> list[str]:
        return [f"device {number}: {text}" for number, text in enumerate(texts)]


def no_parts() -> tuple[Part, ...]:
    """Return no devices: those of a run in one process are the runner itself."""
    return ()
