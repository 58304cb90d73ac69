"""The backend of several devices, a process each behind one LoadGen."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace

from pytest_mlperf.api.device_dataset import ResidentSamples
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.timeline import summarize
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.run import device_messages
from pytest_mlperf.run.channel import Channel
from pytest_mlperf.run.device_group import DeviceGroup
from pytest_mlperf.run.device_group import RunnerFiles
from pytest_mlperf.run.engine_backend import EngineBackend
from pytest_mlperf.run.engine_backend import batch_sut
from pytest_mlperf.run.engine_backend import has_varying_batches
from pytest_mlperf.run.protocol import ShortRun
from pytest_mlperf.run.run_facts import add_resident_samples
from pytest_mlperf.run.run_facts import make_engine_facts
from pytest_mlperf.run.tuning_cache import TuningCache
from pytest_mlperf.runner.batch_times import BatchLoad
from pytest_mlperf.runner.batch_times import BatchTimes
from pytest_mlperf.runner.messages import Built
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.batch_sut import BatchSUT
from pytest_mlperf.sut.tuned_load import Tuned


@dataclass(frozen=True, slots=True)
class GroupSamples:
    """The samples as LoadGen is to load them: in every device's process."""

    dataset: Dataset
    group: DeviceGroup

    @property
    def total(self) -> int:
        return self.dataset.total

    @property
    def performance_count(self) -> int:
        return self.dataset.performance_count

    def load(self, indices: Sequence[int]) -> None:
        """Bring samples into the devices' memory; this process has none."""
        self.group.ask(device_messages.LoadSamples(indices))

    def unload(self, indices: Sequence[int]) -> None:
        self.group.ask(device_messages.LoadSamples(indices, keep=False))


class DeviceGroupBackend:
    """The devices of an item that takes several, and the workload without samples."""

    def __init__(self, channel: Channel, files: RunnerFiles) -> None:
        self._channel, self._files = channel, files
        # Its engine is not touched: it has the workload's facts.
        self._local = EngineBackend(channel.beat, "")
        self._tunings = TuningCache()
        self._running: DeviceGroup | None = None
        self._bound: list[str] = []
        self._workload: TensorWorkload | None = None
        self._built: Built | None = None
        self._provider: EngineProvider | None = None

    @property
    def group(self) -> DeviceGroup:
        assert self._running is not None, "open() comes first"
        return self._running

    @property
    def built(self) -> Built:
        assert self._built is not None, "build() comes first"
        return self._built

    @property
    def provider(self) -> EngineProvider:
        assert self._provider is not None, "open() comes first"
        return self._provider

    @property
    def workload(self) -> TensorWorkload:
        assert self._workload is not None, "open() comes first"
        return self._workload

    @property
    def samples(self) -> GroupSamples:
        return GroupSamples(self.workload.dataset, self.group)

    @contextmanager
    def reserve(self, task: Task) -> Iterator[None]:  # noqa: ARG002 - one shape
        try:
            yield
        except BaseException:
            # Each device may have met it, or be at work still.
            self.forget()
            raise

    def open(self, task: Task) -> TensorWorkload:
        """Open the workload here, and in every device's process."""
        if self._running is None or self._running.slots != task.slots:
            self.close()
            channel = self._channel
            self._running = DeviceGroup.start(
                task.slots, self._files, channel.beat, channel.fail
            )
            channel.watch_devices(self._running.statuses)
        self._provider = task.provider.load()
        wait = self.group.tell(device_messages.OpenWorkload(task))
        self._workload = self._local.open_workload(task)
        self._bound = wait()
        return self._workload

    def choose_precision(self, task: Task) -> Task:
        """Return the task as it is: each device runs the default."""
        return task

    def build(self, task: Task) -> Built:
        """Build the task's engine on every device: once, where builds are cached."""
        each = self.group.ask(device_messages.BuildEngine(task))
        digests = [built.digest for built in each]
        if len({*digests}) > 1:
            named = ", ".join(
                f"{process.name}: {digest[:12]}"
                for process, digest in zip(self.group.processes, digests, strict=True)
            )
            raise RunRefused(
                f"the devices' engine builds differ ({named}), but one result needs "
                "the same build on all: choose devices of one kind with "
                "CUDA_VISIBLE_DEVICES, or take one with --mlperf-devices-per-item 1"
            )
        bound = (f"device {number}: {text}" for number, text in enumerate(self._bound))
        facts = {**each[0].facts, "bound to": "; ".join(bound)}
        device = each[0].device and f"{len(each)} x {each[0].device}"
        self._built = replace(each[0], facts=facts, device=device)
        return self._built

    @property
    def tuning(self) -> type[Tuned]:
        return Tuned

    def tune(
        self,
        task: Task,
        settings: Callable[[Tuned], Settings],  # noqa: ARG002 - one shape
        run: ShortRun[Tuned],
    ) -> Tuned:
        total = self.samples.total
        return self._tunings.tune(
            task, self.provider, self.built, total, lambda: self._measure(task),
            run, self._channel.beat,
        )  # fmt: skip

    def _measure(self, task: Task) -> Tuned:
        """Time the bare engine on the first device, while the others rest."""
        return self.group.processes[0].ask(device_messages.TimeEngine(task))

    @contextmanager
    def sut(
        self,
        task: Task,
        tuned: Tuned,
        settings: Settings,
        fail: Callable[[BaseException], None],
    ) -> Iterator[BatchSUT]:
        serve = device_messages.ServeBatches(tuned.streams, tuned.batch)
        with self.group.serving(serve) as streams:
            yield batch_sut(task, tuned, settings, streams, self.workload, fail)

    def warm_up(self, task: Task, tuned: Tuned) -> None:
        varying = has_varying_batches(task)
        self.group.ask(device_messages.WarmUpStreams(tuned.batch, varying))

    def facts(self, task: Task, tuned: Tuned) -> RunFacts:
        each = self.group.ask(device_messages.ReadTimelines())
        lines = [line for lines in each for line in lines]
        facts = make_engine_facts(task, tuned, self.provider, self.built, self.workload)
        shares = self._shares(tuned)
        return replace(facts, texts={**facts.texts, **summarize(lines), **shares})

    def _shares(self, tuned: Tuned) -> dict[str, str]:
        """Return what each device did, and how the rate scales with them."""
        processes = self.group.processes
        streams = [s for p in processes for s in p.streams if s.batches]
        if not streams:
            return {}
        texts = {}
        began = min(stream.first for stream in streams)
        for process in processes:
            done = sum(stream.done for stream in process.streams)
            batches = sum(stream.batches for stream in process.streams)
            ended = max((stream.last for stream in process.streams), default=began)
            name = process.name.partition(" (")[0]
            each = f"{done:,} samples in {batches:,} batches"
            seconds = ended - began
            texts[name] = f"{each}, {done / seconds:,.1f}/s" if seconds > 0 else each
        seconds = max(stream.last for stream in streams) - began
        total = sum(stream.done for stream in streams)
        if tuned.loop_rate and seconds > 0 and not self.provider.answers:
            rate, alone = total / seconds, tuned.loop_rate
            share = rate / (alone * len(processes))
            of = f"{rate:,.1f}/s of {len(processes)} x {alone:,.1f}/s"
            texts["scaling"] = f"{share:.3f} ({of}, one device's bare loop)"
        return texts

    def finish(self, task: Task, result: RunResult) -> RunResult:
        result = replace(result, answers_only=self.provider.answers)
        if not task.residency:
            return result
        each = self.group.ask(device_messages.MeasureCopies())
        return add_resident_samples(result, ResidentSamples.slowest(each))

    def explain(self, error: BaseException) -> BaseException:
        return error

    def time_batches(
        self,
        task: Task,
        load: BatchLoad,  # noqa: ARG002 - one shape
    ) -> BatchTimes:
        raise RunRefused(
            f"{task.cell.id} runs over {task.devices} devices, but the bare engine is "
            "timed on one: use --mlperf-devices-per-item 1"
        )

    def forget(self) -> None:
        """Let go of everything: the processes keep nothing once they have ended."""
        if self._running is not None:
            self._running.kill()
        self._drop()
        self._local.forget()

    def close(self) -> None:
        """End the devices' processes gently."""
        if self._running is not None:
            self._running.close()
        self._drop()

    def _drop(self) -> None:
        self._running = self._built = None
        self._channel.watch_devices(tuple)
