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
from itertools import repeat
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from pytest_mlperf.api.samples import Array
from pytest_mlperf.machine.numa import format_ids
from pytest_mlperf.machine.process import Process
from pytest_mlperf.runner import device_messages
from pytest_mlperf.runner.messages import DeviceLost
from pytest_mlperf.runner.messages import Part
from pytest_mlperf.runner.messages import Seat
from pytest_mlperf.sut.shared_batch import Caller
from pytest_mlperf.sut.shared_batch import Ended
from pytest_mlperf.sut.shared_batch import pair

GONE = "the device process is gone"


@dataclass(frozen=True, slots=True)
class Site:
    """Where the processes of a runner leave what they have to say."""

    stacks: Path
    """The runner's own file; a device's is beside it."""
    log: Path


class Member:
    """One device's process: what it was told, what it owes, how it ended."""

    def __init__(
        self,
        number: int,
        seat: Seat,
        site: Site,
        beat: Callable[[], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.name = f"device {number} ({seat.name})"
        self.streams: list[RemoteStream] = []
        self._beat, self._on_failure = beat, on_failure
        self._answers = queue.SimpleQueue[
            device_messages.Said | device_messages.Refusal
        ]()
        self._steps = 0
        self._asked = False
        self._closing = False
        self.process = Process(
            "pytest_mlperf.run.device_child",
            stacks=site.stacks.with_name(f"stacks-device{number}.txt"),
            log=site.log.with_name(f"{site.log.stem}-device{number}.log"),
            more=[format_ids(seat.cpus)],
            environment=seat.environment,
            # With the runner's group it ends when the runner does.
            own_group=False,
        )
        threading.Thread(target=self._listen, name=self.name, daemon=True).start()

    @property
    def part(self) -> Part:
        """How the device is doing; asked for with every heartbeat."""
        self.process.note_memory()
        handed = sum(stream.handed for stream in self.streams)
        done = sum(stream.done for stream in self.streams)
        return Part(
            self.name,
            self.process.pid,
            str(self.process.stacks_path),
            handed - done,
            done + self._steps,
            self._asked,
        )

    def tell(self, order: device_messages.Order) -> None:
        """Give an order; ``answer`` waits for what it says."""
        self._asked = True
        try:
            self.process.connection.send(order)
        except OSError:
            self.lost()

    def answer(self) -> Any:
        """Wait for the answer to the last order. Raises what the process refused."""
        said = self._answers.get()
        self._asked = False
        if isinstance(said, device_messages.Refusal):
            raise type(said.error)(f"{self.name}: {said.error}")
        return said.value

    def lost(self) -> None:
        """Wait for the end: another thread tells why this device is gone."""
        time.sleep(60)
        raise DeviceLost(f"{self.name}: {GONE}")

    def _listen(self) -> None:
        connection = self.process.connection
        while True:
            try:
                self.process.note_memory()
                report = connection.recv()
            except (EOFError, OSError):
                break
            if isinstance(report, device_messages.Alive):
                self._steps = report.steps
                self._beat()
            elif isinstance(report, device_messages.Broken):
                cause = f"{self.name}: {report.cause}"
                self._on_failure(DeviceLost(cause, report.traceback))
            else:
                self._answers.put(report)
        if self._closing:
            return
        self.process.wait(5)
        self.process.kill()
        told = self.process.stacks() + self.process.last_words()
        self._on_failure(DeviceLost(f"{self.name} {self.process.ending()}", told))

    def close(self) -> None:
        """End the process gently."""
        self._closing = True
        with suppress(OSError):
            # Not by closing the pipe: a thread waits for what comes from there.
            self.process.connection.send(None)
        if not self.process.wait(10):
            self.process.kill()

    def kill(self) -> None:
        """End the process."""
        self._closing = True
        self.process.kill()


@dataclass(slots=True)
class RemoteStream:
    """A device's stream as LoadGen's side sees it. Used from one thread at a time."""

    member: Member
    caller: Caller
    handed: int = 0
    done: int = 0
    batches: int = 0
    first: float = 0.0
    last: float = 0.0
    """When the first batch was handed over and the last was answered."""
    answers: bool = False

    def completion(
        self, count: Callable[[int], None]
    ) -> Callable[[list[int], list[int]], None]:
        """Return what has a batch answered, and completes it in one call."""
        from pytest_mlperf.sut.loadgen import complete
        from pytest_mlperf.sut.loadgen import response

        ask, answers = self.caller.ask, self.caller.answers

        def work(ids: list[int], indices: list[int]) -> None:
            size = len(ids)
            self.first = self.first or time.monotonic()
            self.handed += size
            try:
                ask(indices)
                base, row, sizes = answers(size)
            except Ended:
                self.member.lost()
                return
            spots = range(base, base + size * row, row) if row else repeat(base)
            complete(list(map(response, ids, spots, sizes or repeat(row))))
            self.done += size
            self.batches += 1
            self.last = time.monotonic()
            count(size)

        return work

    def infer(self, batch: Any, size: int) -> Array:
        """Never called: batches go to the other process whole."""
        raise NotImplementedError(f"{size} samples of {type(batch).__name__}")

    def close(self) -> None:
        """Tell the stream's thread that there is no more."""
        self.caller.close()


@dataclass(slots=True)
class Fleet:
    """The processes of an item's devices."""

    seats: tuple[Seat, ...]
    members: list[Member] = field(default_factory=list)

    @classmethod
    def start(
        cls,
        seats: tuple[Seat, ...],
        site: Site,
        beat: Callable[[], None],
        on_failure: Callable[[BaseException], None],
    ) -> Fleet:
        """Start a process a device; from a process's main thread (they die with it)."""
        fleet = cls(seats)
        for number, seat in enumerate(seats):
            fleet.members.append(Member(number, seat, site, beat, on_failure))
        return fleet

    def parts(self) -> tuple[Part, ...]:
        """Return how each device is doing."""
        return tuple(member.part for member in self.members)

    def ask(self, order: device_messages.Order) -> list[Any]:
        """Give all devices an order; return their answers."""
        self.tell(order)
        return self.answers()

    def tell(self, order: device_messages.Order) -> None:
        """Give all devices an order; ``answers`` waits for what they say."""
        for member in self.members:
            member.tell(order)

    def answers(self) -> list[Any]:
        """Wait for the answers to the last order.

        Raises what the first device in order refused with, naming it.
        """
        return [member.answer() for member in self.members]

    @contextmanager
    def serving(self, order: device_messages.Serve) -> Iterator[list[RemoteStream]]:
        """Open every device's engines, and yield the streams to all of them.

        Streams of different devices alternate.
        """
        rounds: list[list[RemoteStream]] = []
        with ExitStack() as stack:
            far = []
            for member in self.members:
                member.streams = []
                member.tell(order)
                for _ in range(order.streams.count):
                    caller, line = pair(order.most)
                    stream = RemoteStream(member, caller)
                    member.streams.append(stream)
                    stack.callback(stream.close)
                    far.append(line)
                    connection, pid = member.process.connection, member.process.pid
                    reduction.send_handle(connection, caller.slot.descriptor, pid)
                    reduction.send_handle(connection, line.fileno(), pid)
            for member in self.members:
                member.answer()
            for line in far:
                line.close()
            rounds = [
                list(one)
                for one in zip(*(m.streams for m in self.members), strict=True)
            ]
            yield [stream for one in rounds for stream in one]
        self.ask(device_messages.Rest())

    def close(self) -> None:
        """End all processes gently."""
        for member in self.members:
            member.close()

    def kill(self) -> None:
        """End all processes at once."""
        for member in self.members:
            member.kill()
