"""The server that answers a cell: attached to, or started and ended here.

A started one is fresh for every performance run, and kept for the accuracy and
compliance runs that follow it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock
from filelock import Timeout

from pytest_mlperf.api.embedded_server import ServerRecipe
from pytest_mlperf.api.embedded_server import StartsEmbeddedServer
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.api.workload import PromptWorkload
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.config.option_types import find_token_problem
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.types import Mode
from pytest_mlperf.machine import gpu_memory
from pytest_mlperf.machine.server_process import LocalServer
from pytest_mlperf.machine.server_process import ServerFailed
from pytest_mlperf.machine.server_process import start_server
from pytest_mlperf.run.channel import Channel
from pytest_mlperf.runner.messages import ServiceSpec
from pytest_mlperf.runner.messages import Task

LOG = "server.log"
LOCK_S = 0.5
LAST_WORDS_S = 3.0
"""How long a server that answers no more is given to end, and to say why."""


class Servers:
    """Keeps at most one server."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._server: LocalServer | None = None
        self._recipe: ServerRecipe | None = None
        self._before: Mapping[str, int] | None = None
        self._memory = ""
        self.facts: dict[str, str] = {}
        """Of the server that answers now."""
        self.concurrency: int | None = None
        """What the server is built for, where that is known."""
        self.is_used = False
        """True once a run has begun on the server: the next one gets a fresh one."""

    def target(
        self, task: Task, workload: PromptWorkload | TensorWorkload
    ) -> ServiceTarget:
        """Return where the task's service is, started or found.

        Raises ``RequirementMissing`` where there is none, and ``RunRefused`` for one
        that does not start.
        """
        spec = task.service
        assert spec is not None, "a service answers this task"
        self.facts, self.concurrency = {}, None
        if spec.urls:
            self.stop()
            return service_target(spec, spec.urls, task.engine_options)
        recipe = self._recipe_for(task, spec, workload)
        is_stale = self.is_used and task.mode is Mode.PERFORMANCE
        if self._server is None or is_stale or recipe != self._recipe:
            self.stop()
            self._start(recipe, task.folder / LOG)
        server = self._server
        assert server is not None, "started above"
        self.facts["server"] = " ".join(recipe.command)
        self.facts["server log"] = str(server.log)
        if self._memory:
            self.facts["GPU memory after the last server"] = self._memory
        self.concurrency = recipe.concurrency
        return service_target(spec, (server.service_url,), task.engine_options)

    def stop(self) -> None:
        """End the server; ``RunRefused`` when a GPU's memory does not come free."""
        server, self._server = self._server, None
        self._recipe = None
        if server is None:
            return
        used = gpu_memory.describe_growth(self._before, gpu_memory.read_memory_in_use())
        server.stop()
        free, seen = gpu_memory.wait_until_free(self._before, beat=self._channel.beat)
        self._memory = f"{seen}; {used}" if used else seen
        if not free:
            raise RunRefused(
                f"the server that was ended left GPU memory in use: {seen}; end what "
                "holds it (nvidia-smi shows the processes), or the next run would be "
                "measured beside it"
            )

    def last_words(self) -> str:
        """Return what became of the server, where that explains a failed request."""
        if self._server is None:
            return ""
        until = time.monotonic() + LAST_WORDS_S
        try:
            while self._server.health() != "200" and time.monotonic() < until:
                self._server.check_running()
                time.sleep(0.1)
            self._server.check_healthy()
        except ServerFailed as error:
            return str(error)
        return ""

    def _start(self, recipe: ServerRecipe, log: Path) -> None:
        self._before = gpu_memory.read_memory_in_use()
        try:
            server = start_server(recipe, log, self._channel.beat)
        except (ServerFailed, ValueError) as error:
            raise RunRefused(str(error)) from None
        self._server, self._recipe, self.is_used = server, recipe, False

    def _recipe_for(
        self, task: Task, spec: ServiceSpec, workload: PromptWorkload | TensorWorkload
    ) -> ServerRecipe:
        plan = spec.server
        if plan is not None:
            return ServerRecipe(
                plan.command,
                model=spec.model,
                devices=plan.devices,
                port=plan.port,
                health=plan.health,
                ready_s=plan.ready_s,
                grace_s=plan.grace_s,
            )
        provider = task.provider.load()
        if (
            not isinstance(provider, StartsEmbeddedServer)
            or workload.kind not in provider.serves
        ):
            raise RequirementMissing(
                f"no server for {task.cell.model}: name a running one with "
                "--mlperf-endpoint URL, or how to start one in the system file's "
                "[server] table"
            )
        return provider.embedded_server(
            workload, task.precision, task.cache, task.cpus, task.engine_options
        )


def service_target(
    spec: ServiceSpec, urls: tuple[str, ...], options: Mapping[str, str]
) -> ServiceTarget:
    """Return the target of a service; the token comes from the environment, here.

    Raises ``RunRefused`` for a token that no HTTP header can hold.
    """
    key = os.environ.get(spec.token_env, "").strip()
    if problem := find_token_problem(key):
        raise RunRefused(f"the environment variable {spec.token_env} {problem}")
    made = ServiceTarget(
        urls=urls,
        model=spec.model,
        balance=spec.balance,
        chat=spec.chat,
        timeout_s=spec.timeout_s,
        stall_s=spec.stall_s,
        health=spec.health,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        key_name=spec.token_env,
        ca_file=spec.ca_file,
        options=options,
    )
    return replace(made, concurrency=spec.concurrency or made.concurrency)


@contextmanager
def lock_endpoints(
    urls: Sequence[str], cache: Path, beat: Callable[[], None]
) -> Iterator[None]:
    """Keep other workers of this host off the endpoints: they would share the load.

    Waits for its turn for as long as it takes.
    """
    folder = cache / "endpoints"
    if urls:
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # In one order, so that no two wait for each other.
        for url in sorted(urls):
            name = hashlib.sha256(url.encode()).hexdigest()[:16]
            lock = FileLock(folder / f"{name}.lock")
            while not lock.is_locked:
                try:
                    lock.acquire(timeout=LOCK_S)
                except Timeout:
                    beat()
            stack.callback(lock.release)
        yield
