"""The process of one device of several: it infers, LoadGen is in the runner.

Started by ``DeviceGroup`` as
``python -m pytest_mlperf.run.device_child FD STACKS CPUS``. It is bound to its device's
CPUs before anything else is imported: threads that a library starts stay there.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
from pathlib import Path

from pytest_mlperf.machine.affinity import bind
from pytest_mlperf.machine.host import parse_cpus
from pytest_mlperf.machine.message_pipe import MessagePipe
from pytest_mlperf.machine.process import set_up_child


def main(descriptor: int, stacks: str, cpus: str) -> None:
    """Serve one device until the pipe closes."""
    bound = bind(parse_cpus(cpus))
    set_up_child()
    with Path(stacks).open("w") as file:
        faulthandler.enable(file, all_threads=True)
        faulthandler.register(signal.SIGUSR1, file, all_threads=True)
        from pytest_mlperf.run.device_worker import DeviceWorker

        device = DeviceWorker(MessagePipe(descriptor), bound)
        try:
            device.serve()
        except BaseException as error:  # noqa: BLE001 - reported, then the end
            device.crash(error)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
