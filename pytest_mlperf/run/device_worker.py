"""What one device of several does in its process: obeys, and answers batches."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from socket import socket
from typing import Any
from typing import NoReturn

from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.core.error_text import describe_error
from pytest_mlperf.core.error_text import format_traceback
from pytest_mlperf.core.error_text import read_text
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.machine.affinity import Binding
from pytest_mlperf.machine.message_pipe import MessagePipe
from pytest_mlperf.run import device_messages
from pytest_mlperf.run.engine_backend import EngineBackend
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.batch_sut import quiet_interpreter
from pytest_mlperf.sut.completion import batch_answerer
from pytest_mlperf.sut.shared_batch import Answerer
from pytest_mlperf.sut.shared_batch import BatchSlot

BEAT_S = 0.25
CRASHED = 70
"""Exit status after a ``Crashed`` was sent."""


class DeviceWorker:
    """One device's engines, and the pipe to the runner."""

    def __init__(self, pipe: MessagePipe, bound: Binding) -> None:
        self._pipe = pipe
        self._bound = bound
        self._steps = 0
        self._backend = EngineBackend(self._beat, str(bound))
        self._serving = ExitStack()
        threading.Thread(target=self._keep_beating, daemon=True).start()

    def serve(self) -> None:
        """Obey commands until the pipe closes."""
        while True:
            try:
                command = self._pipe.receive()
            except EOFError:
                return
            if isinstance(command, device_messages.EndProcess):
                return
            try:
                self._send(device_messages.Reply(self._obey(command)))
            except (BuildFailed, RequirementMissing, RunRefused) as error:
                # By its text alone: what it was raised from may not travel.
                told = type(error)(read_text(error))
                self._send(device_messages.Refusal(told))

    def _obey(self, command: device_messages.DeviceCommand[Any]) -> object:
        backend = self._backend
        match command:
            case device_messages.OpenWorkload(task):
                backend.open(self._own(task))
                return str(self._bound)
            case device_messages.BuildEngine(task):
                return backend.build(self._own(task))
            case device_messages.TimeEngine(task):
                return backend.measure(self._own(task))
            case device_messages.LoadSamples(indices, keep):
                samples = backend.samples
                (samples.load if keep else samples.unload)(indices)
            case device_messages.ServeBatches():
                self._serve_batches(command)
            case device_messages.WarmUpStreams(batch, varying):
                backend.warm_up_streams(batch, varying=varying)
            case device_messages.MeasureCopies():
                return backend.resident_samples()
            case device_messages.ReadTimelines():
                return backend.timelines()
            case device_messages.StopServing():
                self._serving.close()
        return None

    def _own(self, task: Task) -> Task:
        """Return a task as this device alone has it."""
        return replace(task, cpus=self._bound.cpus, slots=())

    def _serve_batches(self, command: device_messages.ServeBatches) -> None:
        """Open an engine a stream, each with a thread that answers its slot."""
        ends = []
        for _ in range(command.streams.count):
            self._pipe.receive()
            memory, line = self._pipe.take_handles(2)
            slot = BatchSlot(memory, command.most)
            ends.append(Answerer(slot, socket(fileno=line)))
        with ExitStack() as stack:
            opened = self._backend.open_engines(command.streams)
            engines = stack.enter_context(opened)
            stack.enter_context(quiet_interpreter())
            for number, (engine, end) in enumerate(zip(engines, ends, strict=True)):
                thread = threading.Thread(
                    target=self._answer,
                    args=(engine, end),
                    name=f"stream-{number}",
                    daemon=True,
                )
                thread.start()
                # In reverse: the thread ends when the other side has closed the slot.
                stack.callback(end.close)
                stack.callback(thread.join)
            self._serving = stack.pop_all()

    def _answer(self, engine: Engine, end: Answerer) -> None:
        try:
            answer = batch_answerer(engine, self._backend.built.workload)
            while (indices := end.take()) is not None:
                end.answer(answer(indices))
        except BaseException as error:  # noqa: BLE001 - reported, then the end
            self.crash(error)

    def _send(self, report: device_messages.Report) -> None:
        try:
            self._pipe.send(report)
        except OSError:
            # The runner is gone.
            os._exit(CRASHED)

    def _beat(self) -> None:
        self._steps += 1

    def _keep_beating(self) -> None:
        reported = -1
        while True:
            if reported != self._steps:
                reported = self._steps
                self._send(device_messages.DeviceHeartbeat(reported))
            time.sleep(BEAT_S)

    def crash(self, error: BaseException) -> NoReturn:
        """Report an exception and end the process; any thread may call this."""
        text = format_traceback(error)
        self._send(device_messages.Crashed(describe_error(error), text))
        os._exit(CRASHED)
