"""The parent's end of a runner: starts the child, watches it, replaces it.

One runner per device. LoadGen hangs when a sample is never completed and takes the
process down on a bad id, so every such end is met here and becomes one ``RunFailed``
that says what happened and shows the child's stacks; the next task gets a fresh child.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from typing import cast

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.core.error_text import describe_error
from pytest_mlperf.core.redaction import redact_values
from pytest_mlperf.machine.host_checks import read_address_space
from pytest_mlperf.machine.message_pipe import PipeDamaged
from pytest_mlperf.machine.process import Process
from pytest_mlperf.machine.process import dump_stacks
from pytest_mlperf.machine.process import is_stopped
from pytest_mlperf.runner.messages import Heartbeat
from pytest_mlperf.runner.messages import Message
from pytest_mlperf.runner.messages import R
from pytest_mlperf.runner.messages import RunError
from pytest_mlperf.runner.messages import RunnerCommand
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import RunTask
from pytest_mlperf.runner.messages import Skipped
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.scratch import ScratchFolder
from pytest_mlperf.runner.watchdog import Watch
from pytest_mlperf.runner.watchdog import progress_text

POLL_S = 0.2
PARTIAL = "PARTIAL.json"
"""Written into the folder of a run that did not end by itself."""


class RunFailed(Exception):
    """A run that did not end well: cause, stacks and where the logs are."""

    def __init__(
        self,
        cause: str,
        *,
        folder: Path,
        last: Heartbeat | None = None,
        stacks: str = "",
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.folder = folder
        self.last = last
        self.stacks = stacks
        self.limits = describe_limits()
        self.remarks: list[str] = []
        """What else there is to say, such as of the runs before this one."""

    def __str__(self) -> str:
        lines = [self.cause, *self.limits, *self.remarks]
        if self.last is not None:
            lines.append(f"last sign of life: {progress_text(self.last)}")
        lines.append(f"logs: {self.folder}")
        if self.stacks:
            lines += ["", "stacks of the runner:", self.stacks]
        return "\n".join(lines)


class RunStopped(Exception):
    """What ``on_beat`` raises to end a run that LoadGen would go on with."""

    def __init__(self, why: str, beat: Heartbeat) -> None:
        super().__init__(why)
        self.beat = beat
        """The last one."""


def describe_limits() -> tuple[str, ...]:
    """Return a line for each limit that a library may have met without naming it."""
    limit = read_address_space()
    return (f"{limit.name}: {limit.found}; {limit.remedy}",) if limit else ()


OnBeat = Callable[[Heartbeat], None]


def ignore_beat(beat: Heartbeat) -> None:
    """Hear a heartbeat and do nothing."""


class Runner:
    """A handle on the child process of one device."""

    def __init__(
        self,
        *,
        stall_s: float = 120.0,
        build_s: float = 3600.0,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._stall_s = stall_s
        self._build_s = build_s
        self._log = log
        self._environment = dict(environment or {})
        self._process: Process | None = None
        self._scratch: ScratchFolder | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id while one is alive."""
        return self._process.pid if self._process else None

    def run(self, task: Task, on_beat: OnBeat = ignore_beat) -> RunResult:
        """Run a task to its end, as ``obey`` does."""
        return self.obey(RunTask(task), on_beat)

    def obey(self, command: RunnerCommand[R], on_beat: OnBeat = ignore_beat) -> R:
        """Have the child do what a command says, and return its reply.

        Raises ``RequirementMissing`` (skip), ``RunFailed`` (cause and stacks). On
        Ctrl-C, and whatever else ``on_beat`` raises, the child is ended, what LoadGen
        wrote so far is marked partial, and the exception goes on.
        """
        last: Heartbeat | None = None
        task, watch = command.task, Watch(self._stall_s, self._build_s)
        with suppress(OSError):  # of an earlier attempt at the same item
            (task.folder / PARTIAL).unlink()
        was_idle = self._process is not None
        try:
            process = self._send(command)
            while True:
                try:
                    message = self._next(process)
                except PipeDamaged as damage:
                    cause = f"the runner's pipe is damaged: {damage}"
                    raise self._stopped(cause, process, watch, task) from None
                if isinstance(message, Heartbeat):
                    last = message
                    watch.see(message)
                    on_beat(message)
                elif isinstance(message, Skipped):
                    raise RequirementMissing(message.reason)
                elif isinstance(message, RunError):
                    raise self._failed(message, task, last)
                elif message is not None:
                    return cast("R", message)
                elif process.has_ended:
                    if not was_idle or last is not None:
                        raise self._died(process, task, last)
                    # It died while it waited for a command: not this one's doing.
                    was_idle = False
                    self.kill()
                    process = self._send(command)
                elif complaint := watch.complaint(
                    process.pipe.unfinished_s, process.pid
                ):
                    raise self._stopped(complaint, process, watch, task)
        except RequirementMissing:
            raise
        except BaseException as error:
            self._mark_partial(task, last, error)
            if not isinstance(error, RunFailed):
                # Ctrl-C, a test's timeout: the child is still at work on this task,
                # and its reply would be taken for the next one's.
                self.kill()
            raise

    def close(self) -> None:
        """End the child gently: it exits when its pipe closes."""
        if self._process is not None:
            self._process.close()
        self._forget()

    def kill(self) -> None:
        """End the child and whatever it started."""
        if self._process is not None:
            self._process.kill()
        self._forget()

    def _forget(self) -> None:
        if self._scratch is not None:
            self._scratch.remove()
        self._process = self._scratch = None

    def _send(self, command: RunnerCommand[Any]) -> Process:
        if self._process is not None and self._process.has_ended:
            self.kill()
        process = self._process or self._start()
        try:
            process.pipe.send(command, timeout_s=self._stall_s)
        except OSError:  # it died since we looked, or is stopped
            self.kill()
            process = self._start()
            process.pipe.send(command)
        return process

    def _start(self) -> Process:
        self._scratch = ScratchFolder()
        folder = self._scratch.path
        log = self._log or folder / "runner.log"
        self._process = Process(
            "pytest_mlperf.run.child",
            stacks=folder / "stacks.txt",
            log=log,
            more=[str(log)],
            # What a killed child leaves behind goes with our own folder.
            environment={**self._environment, "TMPDIR": str(folder)},
        )
        return self._process

    @staticmethod
    def _next(process: Process) -> Message | None:
        """Return the next message; None when there is none for now."""
        process.look()
        try:
            message: Message | None = process.pipe.receive(POLL_S)
        except (EOFError, OSError):
            # The child is about to be gone; give the kernel time to say how.
            if not process.wait():
                raise PipeDamaged("it was closed, but the runner lives on") from None
            return None
        return message

    def _failed(
        self, failure: RunError, task: Task, last: Heartbeat | None
    ) -> RunFailed:
        if failure.is_fatal:
            self.kill()
        cause = f"the run failed in phase {failure.phase or 'start'}: {failure.cause}"
        return RunFailed(cause, folder=task.folder, last=last, stacks=failure.traceback)

    def _stopped(
        self, cause: str, process: Process, watch: Watch, task: Task
    ) -> RunFailed:
        """End a child that lives, but is no use any more."""
        pid = watch.stuck.pid if watch.stuck else process.pid
        if is_stopped(pid):
            cause += f"; a signal (SIGSTOP) had stopped process {pid}"
        stacks = stacks_of(process, watch) + process.read_last_output()
        self.kill()
        return RunFailed(cause, folder=task.folder, last=watch.last, stacks=stacks)

    def _died(self, process: Process, task: Task, last: Heartbeat | None) -> RunFailed:
        cause = f"the runner {process.describe_exit()}"
        stacks = process.stacks() + process.read_last_output()
        self.kill()
        return RunFailed(cause, folder=task.folder, last=last, stacks=stacks)

    @staticmethod
    def _mark_partial(task: Task, last: Heartbeat | None, error: BaseException) -> None:
        cause = f"interrupted by {describe_error(error)}".rstrip(": ")
        if isinstance(error, RunFailed):
            cause = error.cause
        elif isinstance(error, RunStopped):
            cause = str(error)
        elif isinstance(error, KeyboardInterrupt):
            cause = f"interrupted by {str(error) or 'the user'}"
        note = {
            "partial": True,
            "cause": cause,
            "last": progress_text(last) if last else None,
        }
        with suppress(OSError):
            task.folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(redact_values(note), indent=1) + "\n"
            (task.folder / PARTIAL).write_text(text, encoding="utf-8")


def stacks_of(process: Process, watch: Watch) -> str:
    """Return the stacks of a child that hangs, after those of the device that does."""
    texts = []
    if part := watch.stuck:
        texts = [f"{part.name}:", dump_stacks(part.pid, Path(part.stacks))]
        texts += ["", "LoadGen's process:"]
    texts.append(dump_stacks(process.pid, process.stacks_path))
    return "\n".join(texts)
