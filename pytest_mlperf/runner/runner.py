"""The parent's end of a runner: starts the child, watches it, replaces it.

One runner per device. LoadGen hangs when a sample is never completed and takes the
process down on a bad id, so every such end is met here and becomes one ``RunFailed``
that says what happened and shows the child's stacks; the next job gets a fresh child.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pytest_mlperf.api.errors import Missing
from pytest_mlperf.machine.process import Process
from pytest_mlperf.machine.process import dump_stacks
from pytest_mlperf.runner.messages import Beat
from pytest_mlperf.runner.messages import Done
from pytest_mlperf.runner.messages import Failure
from pytest_mlperf.runner.messages import Job
from pytest_mlperf.runner.messages import Message
from pytest_mlperf.runner.messages import Unmet
from pytest_mlperf.runner.watchdog import Watch
from pytest_mlperf.runner.watchdog import progress_text

POLL_S = 0.2
PARTIAL = "PARTIAL.json"
"""Written into the folder of a run that did not end by itself."""


class RunFailed(Exception):
    """A run that did not end well: cause, stacks and where the logs are."""

    def __init__(
        self, cause: str, *, folder: str, last: Beat | None = None, stacks: str = ""
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.folder = folder
        self.last = last
        self.stacks = stacks

    def __str__(self) -> str:
        lines = [self.cause]
        if self.last is not None:
            lines.append(f"last sign of life: {progress_text(self.last)}")
        lines.append(f"logs: {self.folder}")
        if self.stacks:
            lines += ["", "stacks of the runner:", self.stacks]
        return "\n".join(lines)


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
        self._scratch: Path | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id while one is alive."""
        return self._process.pid if self._process else None

    def run(self, job: Job, on_beat: Callable[[Beat], None] = lambda _: None) -> Done:
        """Run a job to its end.

        Raises ``Missing`` (skip), ``RunFailed`` (cause and stacks). On Ctrl-C, and
        whatever else ``on_beat`` raises, the child is ended, what LoadGen wrote so far
        is marked partial, and the exception goes on.
        """
        last: Beat | None = None
        watch = Watch(self._stall_s, self._build_s)
        with suppress(OSError):  # of an earlier attempt at the same item
            (Path(job.folder) / PARTIAL).unlink()
        idle = self._process is not None
        try:
            process = self._send(job)
            while True:
                message = self._next(process)
                if isinstance(message, Beat):
                    last = message
                    watch.see(message)
                    on_beat(message)
                elif isinstance(message, Done):
                    return message
                elif isinstance(message, Unmet):
                    raise Missing(message.reason)
                elif isinstance(message, Failure):
                    raise self._failed(message, job, last)
                elif process.gone:
                    if not idle or last is not None:
                        raise self._died(process, job, last)
                    # It died while it waited for a job: not this job's doing.
                    idle = False
                    self.kill()
                    process = self._send(job)
                elif complaint := watch.complaint():
                    stacks = stacks_of(process, watch)
                    self.kill()
                    raise RunFailed(
                        complaint, folder=job.folder, last=last, stacks=stacks
                    )
        except Missing:
            raise
        except BaseException as error:
            self._mark_partial(job, last, error)
            if not isinstance(error, RunFailed):
                # Ctrl-C, a test's timeout: the child is still at work on this job,
                # and its answer would be taken for the next one's.
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
            shutil.rmtree(self._scratch, ignore_errors=True)
        self._process = self._scratch = None

    def _send(self, job: Job) -> Process:
        if self._process is not None and self._process.gone:
            self.kill()
        process = self._process or self._start()
        try:
            process.connection.send(job)
        except OSError:  # it died since we looked
            self.kill()
            process = self._start()
            process.connection.send(job)
        return process

    def _start(self) -> Process:
        self._scratch = Path(tempfile.mkdtemp(prefix="pytest-mlperf-runner-"))
        log = self._log or self._scratch / "runner.log"
        self._process = Process(
            "pytest_mlperf.run.child",
            stacks=self._scratch / "stacks.txt",
            log=log,
            more=[str(log)],
            # What a killed child leaves behind goes with our own folder.
            environment={**self._environment, "TMPDIR": str(self._scratch)},
        )
        return self._process

    @staticmethod
    def _next(process: Process) -> Message | None:
        """Return the next message; None when there is none for now."""
        process.note_memory()
        try:
            if process.connection.poll(POLL_S):
                message: Message = process.connection.recv()
                return message
        except (EOFError, OSError):
            # The child is about to be gone; give the kernel time to say how.
            process.wait(5)
        return None

    def _failed(self, failure: Failure, job: Job, last: Beat | None) -> RunFailed:
        if failure.fatal:
            self.kill()
        cause = f"the run failed in phase {failure.phase or 'start'}: {failure.cause}"
        return RunFailed(cause, folder=job.folder, last=last, stacks=failure.traceback)

    def _died(self, process: Process, job: Job, last: Beat | None) -> RunFailed:
        cause = f"the runner {process.ending()}"
        stacks = process.stacks() + process.last_words()
        self.kill()
        return RunFailed(cause, folder=job.folder, last=last, stacks=stacks)

    @staticmethod
    def _mark_partial(job: Job, last: Beat | None, error: BaseException) -> None:
        cause = f"interrupted by {type(error).__name__}: {error}".rstrip(": ")
        if isinstance(error, RunFailed):
            cause = error.cause
        elif isinstance(error, KeyboardInterrupt):
            cause = "interrupted by the user"
        note = {
            "partial": True,
            "cause": cause,
            "last": progress_text(last) if last else None,
        }
        with suppress(OSError):
            Path(job.folder).mkdir(parents=True, exist_ok=True)
            text = json.dumps(note, indent=1) + "\n"
            (Path(job.folder) / PARTIAL).write_text(text, encoding="utf-8")


def stacks_of(process: Process, watch: Watch) -> str:
    """Return the stacks of a child that hangs, after those of the device that does."""
    texts = []
    if part := watch.stuck:
        texts = [f"{part.name}:", dump_stacks(part.pid, Path(part.stacks))]
        texts += ["", "LoadGen's process:"]
    texts.append(dump_stacks(process.pid, process.stacks_path))
    return "\n".join(texts)
