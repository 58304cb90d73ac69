"""Several devices behind one LoadGen: a process for each, told what to do together.

The runner that has LoadGen touches no device. It starts a process a device, bound to
that device alone, and hands it whole batches: a stream that is free takes the next one,
so the device with the least to do gets it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from pytest_mlperf.machine.message_pipe import PipeDamaged
from pytest_mlperf.machine.numa import format_ids
from pytest_mlperf.machine.process import Process
from pytest_mlperf.run import device_messages
from pytest_mlperf.run.device_messages import DeviceCommand
from pytest_mlperf.runner.messages import DeviceLost
from pytest_mlperf.runner.messages import DeviceSlot
from pytest_mlperf.runner.messages import DeviceStatus
from pytest_mlperf.runner.messages import R
from pytest_mlperf.sut.completion import CompleteBatch
from pytest_mlperf.sut.completion import CompleteRows
from pytest_mlperf.sut.shared_batch import Caller
from pytest_mlperf.sut.shared_batch import Ended
from pytest_mlperf.sut.shared_batch import make_pair

GONE = "the device process is gone"


@dataclass(frozen=True, slots=True)
class RunnerFiles:
    """Where the processes of a runner leave what they have to say."""

    stacks: Path
    """The runner's own file; a device's is beside it."""
    log: Path


class DeviceProcess:
    """One device's process: what it was told, what it owes, how it ended."""

    def __init__(
        self,
        number: int,
        slot: DeviceSlot,
        files: RunnerFiles,
        beat: Callable[[], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.name = f"device {number} ({slot.name})"
        self.streams: list[RemoteStream] = []
        self._beat, self._on_failure = beat, on_failure
        self._replies = queue.SimpleQueue[
            device_messages.Reply | device_messages.Refusal
        ]()
        self._steps = 0
        self._is_busy = False
        self._closing = False
        self.process = Process(
            "pytest_mlperf.run.device_child",
            stacks=files.stacks.with_name(f"stacks-device{number}.txt"),
            log=files.log.with_name(f"{files.log.stem}-device{number}.log"),
            more=[format_ids(slot.cpus)],
            environment=slot.environment,
        )
        threading.Thread(target=self._listen, name=self.name, daemon=True).start()

    @property
    def status(self) -> DeviceStatus:
        """How the device is doing; asked for with every heartbeat."""
        self.process.look()
        handed = sum(stream.handed for stream in self.streams)
        done = sum(stream.done for stream in self.streams)
        return DeviceStatus(
            self.name,
            self.process.pid,
            str(self.process.stacks_path),
            handed - done,
            done + self._steps,
            self._is_busy,
        )

    def ask(self, command: DeviceCommand[R]) -> R:
        """Give a command and wait for its answer, as ``tell`` does."""
        return self.tell(command)()

    def tell(self, command: DeviceCommand[R]) -> Callable[[], R]:
        """Give a command; return what waits for its answer, and raises what the process
        refused it with. One command at a time.
        """
        self._is_busy = True
        try:
            self.process.pipe.send(command)
        except OSError:
            self.lost()
        return self._wait

    def open_slot(self, memory: int, line: int) -> None:
        """Hand over a stream's slot, as two descriptors."""
        with suppress(OSError):  # the listening thread tells why it is gone
            self.process.pipe.send(device_messages.OpenSlot(), (memory, line))

    def _wait(self) -> Any:
        answer = self._replies.get()
        self._is_busy = False
        if isinstance(answer, device_messages.Refusal):
            raise type(answer.error)(f"{self.name}: {answer.error}")
        return answer.value

    def lost(self) -> None:
        """Wait for the end: another thread tells why this device is gone."""
        time.sleep(60)
        raise DeviceLost(f"{self.name}: {GONE}")

    def _listen(self) -> None:
        while True:
            try:
                self.process.look()
                report = self.process.pipe.receive()
            except (EOFError, OSError):
                break
            except PipeDamaged as damage:
                self.process.kill()
                cause = f"{self.name}: its pipe is damaged: {damage}"
                self._on_failure(DeviceLost(cause, self.process.read_last_output()))
                return
            if isinstance(report, device_messages.DeviceHeartbeat):
                self._steps = report.steps
                self._beat()
            elif isinstance(report, device_messages.Crashed):
                cause = f"{self.name}: {report.cause}"
                self._on_failure(DeviceLost(cause, report.traceback))
            else:
                self._replies.put(report)
        if self._closing:
            return
        has_ended = self.process.wait()
        self.process.kill()
        if not has_ended:
            cause = f"{self.name}: its pipe is damaged: it was closed"
            self._on_failure(DeviceLost(cause, self.process.read_last_output()))
            return
        last_words = self.process.stacks() + self.process.read_last_output()
        self._on_failure(
            DeviceLost(f"{self.name} {self.process.describe_exit()}", last_words)
        )

    def close(self) -> None:
        """End the process gently."""
        self._closing = True
        with suppress(OSError):
            # Not by closing the pipe: a thread waits for what comes from there.
            self.process.pipe.send(device_messages.EndProcess())
        if not self.process.wait(10):
            self.process.kill()

    def kill(self) -> None:
        """End the process."""
        self._closing = True
        self.process.kill()


@dataclass(slots=True)
class RemoteStream:
    """A device's stream as LoadGen's side sees it. Used from one thread at a time."""

    process: DeviceProcess
    caller: Caller
    handed: int = 0
    done: int = 0
    batches: int = 0
    first: float = 0.0
    last: float = 0.0
    """When the first batch was handed over and the last was answered."""

    def complete_batch(
        self, complete_rows: CompleteRows, count: Callable[[int], None]
    ) -> CompleteBatch:
        """Return what has a batch answered, and completes it in one call."""
        ask, wait = self.caller.ask, self.caller.wait

        def complete_batch(ids: list[int], indices: list[int]) -> None:
            size = len(ids)
            self.first = self.first or time.monotonic()
            self.handed += size
            try:
                ask(indices)
                base, row, sizes, tokens = wait(size)
            except Ended:
                self.process.lost()
                return
            complete_rows(ids, base, row, sizes, tokens)
            self.done += size
            self.batches += 1
            self.last = time.monotonic()
            count(size)

        return complete_batch

    def close(self) -> None:
        """Tell the stream's thread that there is no more."""
        self.caller.close()


@dataclass(slots=True)
class DeviceGroup:
    """The processes of an item's devices."""

    slots: tuple[DeviceSlot, ...]
    processes: list[DeviceProcess] = field(default_factory=list)

    @classmethod
    def start(
        cls,
        slots: tuple[DeviceSlot, ...],
        files: RunnerFiles,
        beat: Callable[[], None],
        on_failure: Callable[[BaseException], None],
    ) -> DeviceGroup:
        """Start a process a device; from a process's main thread (they die with it)."""
        group = cls(slots)
        for number, slot in enumerate(slots):
            group.processes.append(DeviceProcess(number, slot, files, beat, on_failure))
        return group

    def statuses(self) -> tuple[DeviceStatus, ...]:
        """Return how each device is doing."""
        return tuple(process.status for process in self.processes)

    def ask(self, command: DeviceCommand[R]) -> list[R]:
        """Give all devices a command and wait for their answers, as ``tell`` does."""
        return self.tell(command)()

    def tell(self, command: DeviceCommand[R]) -> Callable[[], list[R]]:
        """Give all devices a command; return what waits for their answers, and raises
        what the first device in order refused it with, naming it.
        """
        waits = [process.tell(command) for process in self.processes]
        return lambda: [wait() for wait in waits]

    @contextmanager
    def serving(
        self, command: device_messages.ServeBatches
    ) -> Iterator[list[RemoteStream]]:
        """Open every device's engines, and yield the streams to all of them.

        Streams of different devices alternate.
        """
        with ExitStack() as stack:
            far, waits = [], []
            for process in self.processes:
                process.streams = []
                waits.append(process.tell(command))
                for _ in range(command.streams.count):
                    caller, line = make_pair(command.most)
                    stream = RemoteStream(process, caller)
                    process.streams.append(stream)
                    stack.callback(stream.close)
                    far.append(line)
                    process.open_slot(caller.slot.descriptor, line.fileno())
            for wait in waits:
                wait()
            for line in far:
                line.close()
            rounds = zip(*(one.streams for one in self.processes), strict=True)
            yield [stream for streams in rounds for stream in streams]
        self.ask(device_messages.StopServing())

    def close(self) -> None:
        """End all processes gently."""
        for process in self.processes:
            process.close()

    def kill(self) -> None:
        """End all processes at once."""
        for process in self.processes:
            process.kill()
