"""A server of ours on loopback: started, waited for until it is healthy, ended."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pytest_mlperf.api.embedded_server import ServerRecipe
from pytest_mlperf.machine.guarded_process import GuardedProcess
from pytest_mlperf.machine.log_file import bound_log
from pytest_mlperf.machine.log_file import close_log
from pytest_mlperf.machine.log_file import read_last_lines
from pytest_mlperf.machine.ports import HOST
from pytest_mlperf.machine.ports import find_free_port
from pytest_mlperf.machine.ports import is_port_free
from pytest_mlperf.machine.process import name_signal

FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 1.0
"""Between two requests to the health path; each wait is 1.5 times the one before."""
HEALTH_TIMEOUT_S = 5.0
LOG_S = 1.0
"""Between two looks at the size of the log."""
Beat = Callable[[], None]
"""Called before every wait while a server starts."""


class ServerFailed(Exception):
    """A server did not start, or ended; the text shows the last lines of its log."""


class LocalServer:
    """A server process; it ends with ``stop``, or when this process ends."""

    def __init__(self, recipe: ServerRecipe, log: Path) -> None:
        """Start the command; its output is appended to ``log``."""
        self.recipe = recipe
        self.log = log
        self.port = recipe.port or find_free_port()
        if not recipe.command:
            raise ValueError("the server's command is empty; name a program in it")
        grpc_port = find_free_port() if recipe.has_grpc else 0
        command = recipe.fill_command(self.port, grpc_port)
        places = {"{host}": HOST, "{port}": self.port, "{grpc_port}": grpc_port}
        self.service_url = recipe.url
        for name, value in places.items():
            self.service_url = self.service_url.replace(name, str(value))
        if recipe.port is not None and not is_port_free(recipe.port):
            raise ServerFailed(
                f"port {recipe.port} is taken by another process, but should be free"
                f" for {command[0]}; end that process, or name another port"
            )
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            self._log_start = out.tell()
            self._process = GuardedProcess(
                command,
                out,
                environment=recipe.environment,
                grace_s=recipe.grace_s,
            )
        self._stopped = threading.Event()
        threading.Thread(target=self._bound_log, daemon=True).start()

    def _bound_log(self) -> None:
        while not self._stopped.wait(LOG_S):
            bound_log(self.log)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_ready(self, beat: Beat = lambda: None) -> None:
        """Return once the health path answers 200; raises ``ServerFailed``."""
        begun = time.monotonic()
        wait = FIRST_WAIT_S
        while True:
            status = self.health()
            # Another process may have taken the port of a server that ended.
            self.check_running()
            if status == "200":
                return
            passed = time.monotonic() - begun
            if passed > self.recipe.ready_s:
                raise self._failure(
                    f"{self.url}{self.recipe.health} is not healthy after"
                    f" {passed:.1f} s ({status}), but should answer 200; give it longer"
                    " (ready_s), or correct the health path"
                )
            beat()
            time.sleep(min(wait, max(0.0, self.recipe.ready_s - passed) + 0.01))
            wait = min(wait * 1.5, LONGEST_WAIT_S)

    def health(self) -> str:
        """Return the status of the health path, or the text of the error."""
        try:
            with _connect(self.port, HEALTH_TIMEOUT_S) as connection:
                connection.request("GET", self.recipe.health)
                return str(connection.getresponse().status)
        except (OSError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__

    def check_running(self) -> None:
        """Raise ``ServerFailed`` when the server has ended."""
        status = self._process.poll()
        if status is None:
            return
        how = f"status {status}" if status >= 0 else name_signal(-status)
        raise self._failure(f"the server ended with {how}, but should serve {self.url}")

    def check_healthy(self) -> None:
        """Raise ``ServerFailed`` when the server ended or is not healthy."""
        status = self.health()
        self.check_running()
        if status != "200":
            raise self._failure(
                f"{self.url}{self.recipe.health} does not answer 200 any more"
                f" ({status})"
            )

    def stop(self) -> None:
        """End the server and all it started: SIGTERM, after the grace SIGKILL."""
        self._process.end()
        self._stopped.set()
        close_log(self.log)

    def _failure(self, what: str) -> ServerFailed:
        """Return the error: a sentence and the last lines of the log."""
        lines = [f"  {line}" for line in read_last_lines(self.log, self._log_start)]
        end = "\n".join([f"; its last words [{self.log}]:", *lines]) if lines else ""
        return ServerFailed(what + (end or f"; it printed nothing [{self.log}]"))


def start_server(
    recipe: ServerRecipe, log: Path, beat: Beat = lambda: None
) -> LocalServer:
    """Return a healthy server; raises ``ServerFailed`` once it is ended again."""
    server = LocalServer(recipe, log)
    try:
        server.wait_ready(beat)
    except BaseException:
        server.stop()
        raise
    return server


@contextmanager
def _connect(port: int, timeout_s: float) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        yield connection
    finally:
        connection.close()
