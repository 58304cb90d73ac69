"""The three backends of a runner's process, and which one a task goes to."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.machine.affinity import bind
from pytest_mlperf.run import phases
from pytest_mlperf.run.channel import Channel
from pytest_mlperf.run.device_group import RunnerFiles
from pytest_mlperf.run.engine_backend import EngineBackend
from pytest_mlperf.run.group_backend import DeviceGroupBackend
from pytest_mlperf.run.protocol import Backend
from pytest_mlperf.run.protocol import T
from pytest_mlperf.runner.messages import RunnerCommand
from pytest_mlperf.runner.messages import RunnerReply
from pytest_mlperf.runner.messages import Skipped

if TYPE_CHECKING:
    from pytest_mlperf.run.service_backend import ServiceBackend


class Backends:
    """The backend of each kind, of which one at a time holds something."""

    def __init__(self, channel: Channel, files: RunnerFiles) -> None:
        self._channel = channel
        self._engine: EngineBackend | None = None
        self._group = DeviceGroupBackend(channel, files)
        self._service: ServiceBackend | None = None

    def obey(self, command: RunnerCommand[Any]) -> RunnerReply | Skipped:
        """Do what is asked; ``Skipped`` when this machine lacks something."""
        task, channel = command.task, self._channel
        bound = str(bind(task.cpus))
        self._engine = self._engine or EngineBackend(channel.beat, bound)
        try:
            # What another backend keeps would be in this one's way: a server, or the
            # device's memory.
            if task.service:
                self._engine.forget()
                self._group.forget()
                return self._obey(command, self._open_service())
            if self._service:
                self._service.forget()
            if task.slots:
                self._engine.forget()
                return self._obey(command, self._group)
            self._group.forget()
            return self._obey(command, self._engine)
        except RequirementMissing as missing:
            return Skipped(str(missing))

    def _open_service(self) -> ServiceBackend:
        # An engine's child is spared the import of HTTP and TLS.
        from pytest_mlperf.run.service_backend import ServiceBackend

        self._service = self._service or ServiceBackend(self._channel)
        return self._service

    def _obey(self, command: RunnerCommand[Any], backend: Backend[T]) -> RunnerReply:
        with backend.reserve(command.task):
            return phases.obey(command, backend, self._channel)

    def close(self) -> None:
        """End what was started."""
        if self._service:
            self._service.close()
        self._group.close()
