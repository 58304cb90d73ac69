"""One task, for any backend: open, build, tune, warm up, run, score.

A backend is an engine, a group of devices, or a service.
"""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any
from typing import Protocol
from typing import TypeVar

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.api.workload import PromptWorkload
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.api.workload import Workload
from pytest_mlperf.core.error_text import read_text
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.errors import WrongFiles
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.plan import plan_settings
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import Mode
from pytest_mlperf.run.channel import Channel
from pytest_mlperf.run.preflight import check_build
from pytest_mlperf.run.preflight import check_disk
from pytest_mlperf.run.preflight import check_memory
from pytest_mlperf.run.preflight import check_time
from pytest_mlperf.run.preflight import planned_samples
from pytest_mlperf.run.progress import watch_loadgen
from pytest_mlperf.run.recording import latency_reader
from pytest_mlperf.run.recording import start_recording
from pytest_mlperf.run.recording import write_record
from pytest_mlperf.run.scoring import format_scores
from pytest_mlperf.run.scoring import write_accuracy
from pytest_mlperf.run.scoring import write_compliance
from pytest_mlperf.runner.batch_times import BatchLoad
from pytest_mlperf.runner.batch_times import BatchTimes
from pytest_mlperf.runner.messages import BareBatches
from pytest_mlperf.runner.messages import BuildTask
from pytest_mlperf.runner.messages import Built
from pytest_mlperf.runner.messages import Opened
from pytest_mlperf.runner.messages import OpenTask
from pytest_mlperf.runner.messages import RunnerCommand
from pytest_mlperf.runner.messages import RunnerReply
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.messages import TuneTask
from pytest_mlperf.sut.batch_sut import BatchSUT
from pytest_mlperf.sut.batch_sut import Fixed
from pytest_mlperf.sut.batch_sut import quiet_interpreter
from pytest_mlperf.sut.protocol import SUT
from pytest_mlperf.sut.protocol import ReadLatencies
from pytest_mlperf.sut.protocol import SampleLibrary
from pytest_mlperf.sut.tuned_load import ServiceTuned
from pytest_mlperf.sut.tuned_load import Tuned
from pytest_mlperf.sut.tuned_load import TunedLoad
from pytest_mlperf.sut.work_share import WorkShare
from pytest_mlperf.sut.work_share import share_by_length
from pytest_mlperf.sut.work_share import share_equally
from pytest_mlperf.tuning import saved

T = TypeVar("T", bound=TunedLoad)
T_contra = TypeVar("T_contra", bound=TunedLoad, contravariant=True)
Found = TypeVar("Found")
KINDS: dict[type[TunedLoad], str] = {Tuned: "an engine", ServiceTuned: "a service"}


class ShortRun(Protocol[T_contra]):
    """A short real run of a task, for a probe."""

    def __call__(
        self, tuned: T_contra, seconds: float, read: Callable[[Log], Found], /
    ) -> Found:
        """Run LoadGen for so many seconds and return what was read of its log."""


class Backend(Protocol[T]):
    """Keeps workload, build or server, and tuning between the tasks of a runner."""

    def reserve(self, task: Task) -> AbstractContextManager[None]:
        """Hold what only one task may have, while the block runs.

        After an exception in the block the backend is as new.
        """

    def open(self, task: Task) -> Workload:
        """Open the task's workload. Raises ``RequirementMissing``."""

    def choose_precision(self, task: Task) -> Task:
        """Return the task with the precision that it is run in."""

    def build(self, task: Task) -> Built:
        """Build the engine, or have a server that answers; untimed.

        Raises ``RequirementMissing``, ``BuildFailed``, ``RunRefused``.
        """

    @property
    def samples(self) -> SampleLibrary:
        """What LoadGen loads, once something is built."""

    @property
    def tuning(self) -> type[T]:
        """What ``tune`` returns."""

    def tune(
        self, task: Task, settings: Callable[[T], Settings], run: ShortRun[T]
    ) -> T:
        """Return how the task runs, found once."""

    def sut(
        self,
        task: Task,
        tuned: T,
        settings: Settings,
        fail: Callable[[BaseException], None],
    ) -> AbstractContextManager[SUT]:
        """Open the system under test."""

    def warm_up(self, task: Task, tuned: T) -> None:
        """Run what a run begins with, untimed; the system under test is open."""

    def facts(self, task: Task, tuned: T) -> RunFacts:
        """Return what a run showed, while the system under test is open."""

    def finish(self, task: Task, result: RunResult) -> RunResult:
        """Return the result with what can be said once everything is closed."""

    def explain(self, error: BaseException) -> BaseException:
        """Return a run's failure with what the backend knows of its cause."""

    def time_batches(self, task: Task, load: BatchLoad) -> BatchTimes:
        """Return what batches take: one after another on one stream of the bare engine,
        or as requests of several samples.

        Raises ``RunRefused`` where neither is possible.
        """

    def forget(self) -> None:
        """Let go of workload, build and server: another backend needs the room."""

    def close(self) -> None:
        """End what was started."""


def obey(
    command: RunnerCommand[Any], backend: Backend[T], channel: Channel
) -> RunnerReply:
    """Do what the pytest process asks, and everything that comes before it.

    Workload, build and tuning that are there already are used again.
    """
    task = command.task
    workload = open_workload(task, backend, channel)
    if isinstance(command, OpenTask):
        return describe_opened(workload)
    channel.enter("server" if task.service else "build")
    task = backend.choose_precision(task)
    built = backend.build(task)
    check_build(task, built.digest)
    if isinstance(command, BuildTask):
        return built
    if isinstance(command, BareBatches):
        return backend.time_batches(task, command.load)
    tuned = tune(task, backend, channel)
    if isinstance(command, TuneTask):
        return tuned
    return run(task, backend, channel, workload, built, tuned)


def open_workload(task: Task, backend: Backend[T], channel: Channel) -> Workload:
    """Open the workload. Raises ``RequirementMissing`` and ``WrongFiles``."""
    channel.enter("open")
    try:
        workload = backend.open(task)
    except ValueError as error:
        # In the runner's log, for the author of a benchmark, whose mistake it may be.
        traceback.print_exception(error)
        raise WrongFiles(read_text(error)) from error
    if task.mode is Mode.ACCURACY and workload.kind == "generated":
        raise RequirementMissing(
            f"{workload.title}: it has no accuracy; run it without accuracy "
            "items (-k 'not accuracy'), or use --mlperf-workload embedded"
        )
    return workload


def tune(task: Task, backend: Backend[T], channel: Channel) -> T:
    """Return how the task runs: given, as its reference did, or probed."""
    channel.enter("probe")
    if task.tuned is not None:
        if isinstance(task.tuned, backend.tuning):
            return task.tuned
        raise RunRefused(
            f"{task.cell.id} is to be tuned as an earlier run of it was, but that has "
            f"the tuning of {KINDS[type(task.tuned)]}, and should have that of "
            f"{KINDS[backend.tuning]}; run both in one session"
        )

    def run_short(tuned: T, seconds: float, read: Callable[[Log], Found]) -> Found:
        settings = replace(
            settings_of(task, backend, tuned),
            min_duration_ms=int(seconds * 1000),
            min_query_count=1,
            # It would take every sample of the dataset, however few a second.
            equal_issue=False,
        )
        with tempfile.TemporaryDirectory(prefix="pytest-mlperf-") as name:
            folder = Path(name)
            with backend.sut(task, tuned, settings, fail_of(backend, channel)) as sut:
                if task.service is None:
                    # Streams are new: what they do once would be a trial's p99. A
                    # service is as warm as its last answer.
                    backend.warm_up(task, tuned)
                drive_loadgen(sut, settings, folder, backend, channel)
            return read(Log.read(folder))

    return backend.tune(task, lambda t: settings_of(task, backend, t), run_short)


def run(
    task: Task,
    backend: Backend[T],
    channel: Channel,
    workload: Workload,
    built: Built,
    tuned: T,
) -> RunResult:
    """Run LoadGen and score what it logged."""
    settings = settings_of(task, backend, tuned)
    channel.enter("check")
    check_memory(settings)
    answer_bytes = workload.blank.nbytes if isinstance(workload, TensorWorkload) else 0
    check_disk(task.folder, settings, answer_bytes, backend.samples.total)
    check_time(settings, task.time_limit_s, tuned.note)
    channel.enter("warm-up")
    with backend.sut(task, tuned, settings, fail_of(backend, channel)) as sut:
        backend.warm_up(task, tuned)
        channel.enter("run")
        recorder = start_recording(task, settings, sut)
        read = latency_reader(task, settings, recorder)
        share = share_of(sut, workload)
        drive_loadgen(sut, settings, task.folder, backend, channel, read, share)
        facts = backend.facts(task, tuned)
    saved.write(task.folder, tuned)
    metrics: dict[str, float] = {}
    channel.enter("record" if task.mode is Mode.PERFORMANCE else "score")
    if recorder:
        write_record(task, settings, recorder)
    if task.mode is Mode.ACCURACY:
        metrics = write_accuracy(task.folder, workload, task.rule)
        facts = replace(facts, texts={**facts.texts, "scores": format_scores(metrics)})
    if task.audit:
        write_compliance(task.audit.test, task.folder, task.references, workload)
    result = RunResult(
        settings=settings,
        build=built.digest,
        reference=dict(workload.reference),
        dataset_total=backend.samples.total,
        workload_kind=workload.kind,
        hopeless=tuned.hopeless,
        facts=facts,
        metrics=metrics,
    )
    return backend.finish(task, result)


def drive_loadgen(
    sut: SUT,
    settings: Settings,
    folder: Path,
    backend: Backend[T],
    channel: Channel,
    read_latencies: ReadLatencies = tuple,
    share_work: WorkShare = share_equally,
) -> None:
    """Run LoadGen on an open system under test; the heartbeat watches it."""
    # Imported here: LoadGen is not needed to find out that something is missing.
    from pytest_mlperf.sut import loadgen

    samples = backend.samples
    total = planned_samples(settings, samples.total)
    pace = replace(
        watch_loadgen(settings, folder),
        read_latencies=read_latencies,
        share_work=share_work,
    )
    channel.watch(sut, total, settings.expected_s, pace)
    try:
        with quiet_interpreter():
            loadgen.run(settings, folder, sut, samples, fail_of(backend, channel))
    finally:
        channel.watch(None)


def share_of(sut: SUT, workload: Workload) -> WorkShare:
    """Return how the work of a run is spread over its samples as they are answered."""
    is_sorted = isinstance(sut, BatchSUT) and isinstance(sut.policy, Fixed)
    if not is_sorted or not isinstance(workload, TensorWorkload):
        return share_equally
    return share_by_length(workload.dataset.lengths)


def settings_of(task: Task, backend: Backend[T], tuned: T) -> Settings:
    """Return what LoadGen is asked for."""
    samples, rate = backend.samples, tuned.answer_rate
    return plan_settings(
        task.rule,
        task.seeds,
        task.mode,
        available=min(samples.total, samples.performance_count),
        shortening=task.shortening,
        target_qps=tuned.target_qps,
        expected_latency_ns=tuned.expected_latency_ns,
        answer_rate=None if rate is None else rate * task.devices,
        queries=tuned.queries,
        audit=task.audit,
    )


def fail_of(backend: Backend[T], channel: Channel) -> Callable[[BaseException], None]:
    """Return what ends the process with a failure of the run, explained."""
    return lambda error: channel.fail(backend.explain(error))


def describe_opened(workload: Workload) -> Opened:
    """Return what the pytest process hears of an open workload."""
    counted = workload.dataset if isinstance(workload, TensorWorkload) else workload
    assert isinstance(counted, PromptWorkload | Dataset)
    lengths = counted.lengths if isinstance(counted, Dataset) else None
    return Opened(
        workload.kind,
        workload.title,
        workload.digest,
        counted.total,
        counted.performance_count,
        0 if lengths is None else int(max(lengths, default=0)),
    )
