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
from typing import TYPE_CHECKING

from filelock import FileLock
from filelock import Timeout

from pytest_mlperf.api.errors import Missing
from pytest_mlperf.api.registry import request_benchmark
from pytest_mlperf.api.service import Target
from pytest_mlperf.api.workload import RequestWorkload
from pytest_mlperf.core.errors import Refused
from pytest_mlperf.core.types import Mode
from pytest_mlperf.machine import gpu_memory
from pytest_mlperf.runner.messages import Job
from pytest_mlperf.runner.messages import ServiceWish
from pytest_mlperf.services.local import launch
from pytest_mlperf.services.local import llama

if TYPE_CHECKING:
    from pytest_mlperf.run.phases import Channel

EMBEDDED_WAITING = 4
"""Requests outstanding at the embedded server: it works on one and has the next ones
there when that is done."""
LOG = "server.log"
LOCK_S = 0.5
LAST_WORDS_S = 3.0
"""How long a server that answers no more is given to end, and to say why."""


class Servers:
    """Keeps at most one server."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._server: launch.Server | None = None
        self._recipe: launch.Recipe | None = None
        self._before: Mapping[str, int] | None = None
        self._memory = ""
        self.facts: dict[str, str] = {}
        """Of the server that answers now."""
        self.concurrency: int | None = None
        """What the server is built for, where that is known."""

    def target(self, job: Job, workload: RequestWorkload) -> Target:
        """Return where the job's service is, started or found.

        Raises ``Missing`` where there is none, and ``Refused`` for one that does not
        start.
        """
        wish = job.service
        assert wish is not None, "a service answers this job"
        self.facts, self.concurrency = {}, None
        if wish.urls:
            self.stop()
            return target(wish, wish.urls)
        recipe = self._recipe_for(job, wish, workload)
        fresh = job.mode is Mode.PERFORMANCE
        if self._server is None or fresh or recipe != self._recipe:
            self.stop()
            self._start(recipe, Path(job.folder) / LOG, wish)
        server = self._server
        assert server is not None, "started above"
        self.facts["server"] = without_key(wish, " ".join(recipe.command))
        self.facts["server log"] = str(server.log)
        if self._memory:
            self.facts["GPU memory after the last server"] = self._memory
        if job.service and job.service.server is None:
            self.concurrency = EMBEDDED_WAITING
        return target(wish, (server.url,))

    def stop(self) -> None:
        """End the server; ``Refused`` when a GPU's memory does not come free."""
        server, self._server = self._server, None
        self._recipe = None
        if server is None:
            return
        used = gpu_memory.held(self._before, gpu_memory.in_use())
        server.stop()
        free, seen = gpu_memory.freed(self._before, beat=self._channel.beat)
        self._memory = f"{seen}; {used}" if used else seen
        if not free:
            raise Refused(
                f"the server that was ended left GPU memory in use: {seen}; end what "
                "holds it (nvidia-smi shows the processes), or the next run would be "
                "measured beside it"
            )

    def words(self, wish: ServiceWish) -> str:
        """Return what became of the server, where that explains a failed request."""
        if self._server is None:
            return ""
        until = time.monotonic() + LAST_WORDS_S
        try:
            while self._server.health() != "200" and time.monotonic() < until:
                self._server.check()
                time.sleep(0.1)
            self._server.check_healthy()
        except launch.ServerFailed as error:
            return without_key(wish, str(error))
        return ""

    def _start(self, recipe: launch.Recipe, log: Path, wish: ServiceWish) -> None:
        self._before = gpu_memory.in_use()
        try:
            server = launch.Server(recipe, log)
            try:
                server.wait_ready(self._channel.beat)
            except BaseException:
                server.stop()
                raise
        except (launch.ServerFailed, ValueError) as error:
            raise Refused(without_key(wish, str(error))) from None
        self._server, self._recipe = server, recipe

    def _recipe_for(
        self, job: Job, wish: ServiceWish, workload: RequestWorkload
    ) -> launch.Recipe:
        plan = wish.server
        if plan is not None:
            return launch.Recipe(
                plan.command,
                model=wish.model,
                devices=plan.devices,
                port=plan.port,
                health=plan.health,
                ready_s=plan.ready_s,
                grace_s=plan.grace_s,
            )
        if workload.kind != "embedded":
            raise Missing(
                f"no server for {job.cell.model}: name a running one with "
                "--mlperf-endpoint URL, or how to start one in the system file's "
                "[server] table"
            )
        if (why := llama.unavailable()) is not None:
            raise Missing(why)
        benchmark = request_benchmark(job.cell.benchmark)
        precision = job.tuning.precision or benchmark.precision(job.cell.target)
        try:
            model = llama.model_file(precision, Path(job.cache))
        except ValueError as error:
            raise Refused(str(error)) from None
        # One CPU is for LoadGen and the client. The server's threads wait for each
        # other at every layer: one that must share its CPU holds all of them up.
        threads = min(max(1, len(job.cpus) - 1), llama.MOST_THREADS)
        command = llama.command(model, threads=threads)
        return launch.Recipe(tuple(command))


def without_key(wish: ServiceWish, text: str) -> str:
    """Return a text without the bearer token, which a server's command may hold, and
    its own log repeat.
    """
    key = os.environ.get(wish.token_env, "").strip()
    return text.replace(key, f"${wish.token_env}") if key else text


def target(wish: ServiceWish, urls: tuple[str, ...]) -> Target:
    """Return the target of a wish; the token comes from the environment, here."""
    key = os.environ.get(wish.token_env, "").strip()
    made = Target(
        urls=urls,
        model=wish.model,
        balance=wish.balance,
        chat=wish.chat,
        timeout_s=wish.timeout_s,
        stall_s=wish.stall_s,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        key_name=wish.token_env,
        ca_file=wish.ca_file,
    )
    return replace(made, concurrency=wish.concurrency or made.concurrency)


@contextmanager
def held(urls: Sequence[str], cache: Path, beat: Callable[[], None]) -> Iterator[None]:
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
