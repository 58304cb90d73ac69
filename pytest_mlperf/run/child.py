"""The runner's child process: owns engine, dataset and LoadGen of one device.

Started by ``Runner`` as ``python -m pytest_mlperf.run.child FD STACKS LOG``; talks over
that file descriptor in ``runner.messages``. It lives for several tasks, so that
performance and accuracy share one build, and exits on the first failure: LoadGen cannot
be aborted.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
from pathlib import Path

from pytest_mlperf.machine.message_pipe import MessagePipe
from pytest_mlperf.machine.process import set_up_child
from pytest_mlperf.run.channel import HARMLESS
from pytest_mlperf.run.channel import Channel


def main(descriptor: int, stacks: str, log: str) -> None:
    """Obey commands until the pipe closes."""
    set_up_child()
    with Path(stacks).open("w") as file:
        faulthandler.enable(file, all_threads=True)
        faulthandler.register(signal.SIGUSR1, file, all_threads=True)
        channel = Channel(MessagePipe(descriptor))
        try:
            from pytest_mlperf.run.backends import Backends
            from pytest_mlperf.run.device_group import RunnerFiles

            backends = Backends(channel, RunnerFiles(Path(stacks), Path(log)))
            while (command := channel.receive()) is not None:
                try:
                    reply = backends.obey(command)
                    channel.rest()
                    channel.send(reply)
                except HARMLESS as error:
                    channel.report(error)
            backends.close()
        except BaseException as error:  # noqa: BLE001 - reported, then the end
            channel.fail(error)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
