"""One task, for any backend: open, build, tune, warm up, run, score.

A backend is an engine, a group of devices, or a service.
"""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any
from typing import Generic
from typing import NoReturn

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.api.workload import PromptWorkload
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.api.workload import Workload
from pytest_mlperf.core.error_text import read_text
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.errors import WrongFiles
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
from pytest_mlperf.run.protocol import Backend
from pytest_mlperf.run.protocol import Found
from pytest_mlperf.run.protocol import T
from pytest_mlperf.run.recording import latency_reader
from pytest_mlperf.run.recording import start_recording
from pytest_mlperf.run.recording import write_record
from pytest_mlperf.run.scoring import format_scores
from pytest_mlperf.run.scoring import write_accuracy
from pytest_mlperf.run.scoring import write_compliance
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
from pytest_mlperf.sut.tuned_load import ServiceTuned
from pytest_mlperf.sut.tuned_load import Tuned
from pytest_mlperf.sut.tuned_load import TunedLoad
from pytest_mlperf.sut.work_share import WorkShare
from pytest_mlperf.sut.work_share import share_by_length
from pytest_mlperf.sut.work_share import share_equally
from pytest_mlperf.tuning import saved

KINDS: dict[type[TunedLoad], str] = {Tuned: "an engine", ServiceTuned: "a service"}


def obey(
    command: RunnerCommand[Any], backend: Backend[T], channel: Channel
) -> RunnerReply:
    """Do what the pytest process asks, and everything that comes before it.

    Workload, build and tuning that are there already are used again.
    """
    run = TaskRun(command.task, backend, channel)
    workload = run.open_workload()
    if isinstance(command, OpenTask):
        return describe_opened(workload)
    run, built = run.build()
    if isinstance(command, BuildTask):
        return built
    if isinstance(command, BareBatches):
        return backend.time_batches(run.task, command.load)
    tuned = run.tune()
    if isinstance(command, TuneTask):
        return tuned
    return run.measure(workload, built, tuned)


@dataclass(frozen=True, slots=True)
class TaskRun(Generic[T]):
    """One task on its way through the phases of a backend."""

    task: Task
    backend: Backend[T]
    channel: Channel
    """What the pytest process hears of it."""

    def open_workload(self) -> Workload:
        """Open the workload. Raises ``RequirementMissing`` and ``WrongFiles``."""
        self.channel.enter("open")
        try:
            workload = self.backend.open(self.task)
        except ValueError as error:
            # In the runner's log, for a benchmark's author, whose mistake it may be.
            traceback.print_exception(error)
            raise WrongFiles(read_text(error)) from error
        if self.task.mode is Mode.ACCURACY and workload.kind == "generated":
            raise RequirementMissing(
                f"{workload.title}: it has no accuracy; run it without accuracy "
                "items (-k 'not accuracy'), or use --mlperf-workload embedded"
            )
        return workload

    def build(self) -> tuple[TaskRun[T], Built]:
        """Choose the precision and build; return the run in that precision."""
        self.channel.enter("server" if self.task.service else "build")
        chosen = replace(self, task=self.backend.choose_precision(self.task))
        built = self.backend.build(chosen.task)
        check_build(chosen.task, built.digest)
        return chosen, built

    def tune(self) -> T:
        """Return how the task runs: given, as its reference did, or probed."""
        self.channel.enter("probe")
        given, kind = self.task.tuned, self.backend.tuning
        if given is None:
            return self.backend.tune(self.task, self.plan_settings, self.run_short)
        if isinstance(given, kind):
            return given
        raise RunRefused(
            f"{self.task.cell.id} is to be tuned as an earlier run of it was, but that "
            f"has the tuning of {KINDS[type(given)]}, and should have that of "
            f"{KINDS[kind]}; run both in one session"
        )

    def run_short(
        self, tuned: T, seconds: float, read: Callable[[Log], Found], /
    ) -> Found:
        """Run LoadGen for so many seconds and return what was read of its log."""
        settings = replace(
            self.plan_settings(tuned),
            min_duration_ms=int(seconds * 1000),
            min_query_count=1,
            # It would take every sample of the dataset, however few a second.
            equal_issue=False,
        )
        with tempfile.TemporaryDirectory(prefix="pytest-mlperf-") as name:
            folder = Path(name)
            with self.backend.sut(self.task, tuned, settings, self.fail) as sut:
                if self.task.service is None:
                    # Streams are new: what they do once would be a trial's p99. A
                    # service is as warm as its last answer.
                    self.backend.warm_up(self.task, tuned)
                self.drive_loadgen(sut, settings, folder)
            return read(Log.read(folder))

    def measure(self, workload: Workload, built: Built, tuned: T) -> RunResult:
        """Run LoadGen and score what it logged."""
        task, backend, channel = self.task, self.backend, self.channel
        settings, total = self.plan_settings(tuned), backend.samples.total
        channel.enter("check")
        check_memory(settings)
        blank = workload.blank.nbytes if isinstance(workload, TensorWorkload) else 0
        check_disk(task.folder, settings, blank, total)
        check_time(settings, task.time_limit_s, tuned.note)
        channel.enter("warm-up")
        with backend.sut(task, tuned, settings, self.fail) as sut:
            backend.warm_up(task, tuned)
            channel.enter("run")
            recorder = start_recording(task, settings, sut)
            read = latency_reader(task, settings, recorder)
            share = share_of(sut, workload)
            self.drive_loadgen(sut, settings, task.folder, read, share)
            facts = backend.facts(task, tuned)
        saved.write(task.folder, tuned)
        metrics: dict[str, float] = {}
        channel.enter("record" if task.mode is Mode.PERFORMANCE else "score")
        if recorder:
            write_record(task, settings, recorder)
        if task.mode is Mode.ACCURACY:
            metrics = write_accuracy(task.folder, workload, task.rule)
            scores = {"scores": format_scores(metrics)}
            facts = replace(facts, texts={**facts.texts, **scores})
        if task.audit:
            write_compliance(task.audit.test, task.folder, task.references, workload)
        result = RunResult(
            settings=settings,
            build=built.digest,
            reference=dict(workload.reference),
            dataset_total=total,
            workload_kind=workload.kind,
            hopeless=tuned.hopeless,
            facts=facts,
            metrics=metrics,
        )
        return backend.finish(task, result)

    def drive_loadgen(
        self,
        sut: SUT,
        settings: Settings,
        folder: Path,
        read_latencies: ReadLatencies = tuple,
        share_work: WorkShare = share_equally,
    ) -> None:
        """Run LoadGen on an open system under test; the heartbeat watches it."""
        # Imported here: LoadGen is not needed to find out that something is missing.
        from pytest_mlperf.sut import loadgen

        samples = self.backend.samples
        total = planned_samples(settings, samples.total)
        pace = replace(
            watch_loadgen(settings, folder),
            read_latencies=read_latencies,
            share_work=share_work,
        )
        self.channel.watch(sut, total, settings.expected_s, pace)
        try:
            with quiet_interpreter():
                loadgen.run(settings, folder, sut, samples, self.fail)
        finally:
            self.channel.watch(None)

    def plan_settings(self, tuned: T) -> Settings:
        """Return what LoadGen is asked for."""
        samples, rate = self.backend.samples, tuned.answer_rate
        return plan_settings(
            self.task.rule,
            self.task.seeds,
            self.task.mode,
            available=min(samples.total, samples.performance_count),
            shortening=self.task.shortening,
            target_qps=tuned.target_qps,
            expected_latency_ns=tuned.expected_latency_ns,
            answer_rate=None if rate is None else rate * self.task.devices,
            queries=tuned.queries,
            audit=self.task.audit,
        )

    def fail(self, error: BaseException) -> NoReturn:
        """End the process with a failure of the run, explained."""
        self.channel.fail(self.backend.explain(error))


def share_of(sut: SUT, workload: Workload) -> WorkShare:
    """Return how the work of a run is spread over its samples as they are answered."""
    is_sorted = isinstance(sut, BatchSUT) and isinstance(sut.policy, Fixed)
    if not is_sorted or not isinstance(workload, TensorWorkload):
        return share_equally
    return share_by_length(workload.dataset.lengths)


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
