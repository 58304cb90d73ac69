"""The process of one device of several: it infers, LoadGen is in the runner.

Started by ``Fleet`` as ``python -m pytest_mlperf.run.device_child FD STACKS CPUS``.
It is bound to its device's CPUs before anything else is imported, sees its device
alone, follows ``orders`` and answers the batches that come through its ``slot``s.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING
from typing import Any
from typing import NoReturn

from pytest_mlperf.machine.affinity import Binding
from pytest_mlperf.machine.affinity import bind
from pytest_mlperf.machine.host import parse_cpus
from pytest_mlperf.machine.process import settle_in

if TYPE_CHECKING:
    from pytest_mlperf.api.engine import Engine
    from pytest_mlperf.runner.device_messages import Order
    from pytest_mlperf.runner.device_messages import Report
    from pytest_mlperf.sut.shared_batch import Answerer

BEAT_S = 0.25
BROKEN = 70
"""Exit status after a ``Broken`` was sent."""


class Device:
    """One device's engines, and the pipe to the runner."""

    def __init__(self, connection: Connection, bound: Binding) -> None:
        from pytest_mlperf.run.engine_backend import Workbench

        self._connection = connection
        self._lock = threading.Lock()
        self._bound = bound
        self._steps = 0
        self._workbench = Workbench(self._beat)
        self._serving = ExitStack()
        self._engines: list[Engine] = []
        threading.Thread(target=self._keep_beating, daemon=True).start()

    def follow(self) -> None:
        """Follow orders until the pipe closes."""
        from pytest_mlperf.api.errors import BuildFailed
        from pytest_mlperf.api.errors import Missing
        from pytest_mlperf.core.errors import Refused
        from pytest_mlperf.runner.device_messages import Refusal
        from pytest_mlperf.runner.device_messages import Said

        while True:
            try:
                order = self._connection.recv()
            except EOFError:
                return
            if order is None:
                return
            try:
                self._send(Said(self._obey(order)))
            except (BuildFailed, Missing, Refused) as error:
                # By its text alone: what it was raised from may not travel.
                self._send(Refusal(type(error)(str(error))))

    def _obey(self, order: Order) -> Any:
        from pytest_mlperf.runner import device_messages

        bench, dataset = self._workbench, None
        if not isinstance(
            order,
            device_messages.Open | device_messages.Build | device_messages.Measure,
        ):
            dataset = bench.built[1].request.workload.dataset
        match order:
            case device_messages.Open(job):
                bench.workload(self._own(job))
                return str(self._bound)
            case device_messages.Build(job):
                return bench.build(self._own(job))
            case device_messages.Measure(job):
                return bench.measure(self._own(job))
            case device_messages.Load(indices, keep) if dataset is not None:
                (dataset.load if keep else dataset.unload)(indices)
            case device_messages.Serve():
                self._serve(order)
            case device_messages.WarmUp(batch):
                bench.warm_up(self._engines, batch)
            case device_messages.Resident():
                return bench.resident()
            case device_messages.Timelines():
                return bench.timelines(self._engines)
            case device_messages.Rest():
                self._serving.close()
        return None

    def _own(self, job: Any) -> Any:
        """Return a job as this device alone has it."""
        return replace(job, cpus=self._bound.cpus, seats=())

    def _serve(self, order: Any) -> None:
        """Open an engine a stream, each with a thread that answers its slot."""
        from pytest_mlperf.sut.batch_sut import quiet_interpreter
        from pytest_mlperf.sut.shared_batch import Answerer
        from pytest_mlperf.sut.shared_batch import Slot
        from pytest_mlperf.tuning.server_load import Tuned

        ends = []
        for _ in range(order.streams.count):
            descriptor = reduction.recv_handle(self._connection)
            line = socket(fileno=reduction.recv_handle(self._connection))
            ends.append(Answerer(Slot(descriptor, order.most), line))
        with ExitStack() as stack:
            tuned = Tuned(order.streams, order.most)
            self._engines = [*stack.enter_context(self._workbench.engines(tuned))]
            stack.enter_context(quiet_interpreter())
            for number, (engine, end) in enumerate(
                zip(self._engines, ends, strict=True)
            ):
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
        from pytest_mlperf.sut.completion import answering

        try:
            work = answering(engine, self._workbench.built[1].request.workload)
            while (indices := end.take()) is not None:
                end.answer(*work(indices))
        except BaseException as error:  # noqa: BLE001 - reported, then the end
            self.break_down(error)

    def _send(self, report: Report) -> None:
        with self._lock:
            try:
                self._connection.send(report)
            except OSError:
                # The runner is gone.
                os._exit(BROKEN)

    def _beat(self) -> None:
        self._steps += 1

    def _keep_beating(self) -> None:
        from pytest_mlperf.runner.device_messages import Alive

        told = -1
        while True:
            if told != self._steps:
                told = self._steps
                self._send(Alive(told))
            time.sleep(BEAT_S)

    def break_down(self, error: BaseException) -> NoReturn:
        """Report an exception and end the process; any thread may call this."""
        from pytest_mlperf.runner.device_messages import Broken

        text = "".join(traceback.format_exception(error))
        self._send(Broken(f"{type(error).__name__}: {error}", text))
        os._exit(BROKEN)


def main(descriptor: int, stacks: str, cpus: str) -> None:
    """Serve one device until the pipe closes."""
    bound = bind(parse_cpus(cpus))
    settle_in()
    with Path(stacks).open("w") as file:
        faulthandler.enable(file, all_threads=True)
        faulthandler.register(signal.SIGUSR1, file, all_threads=True)
        device = Device(Connection(descriptor), bound)
        try:
            device.follow()
        except BaseException as error:  # noqa: BLE001 - reported, then the end
            device.break_down(error)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
