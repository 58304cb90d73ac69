"""Starts a server from a command template, waits until it answers, and ends it."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from types import TracebackType
from typing import Self

GUARD = Path(__file__).with_name("guard.py")
HOST = "127.0.0.1"
FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 1.0
"""Between two looks at the health path; each wait is half as long again."""
HEALTH_TIMEOUT_S = 5.0
SHOWN_LINES = 15
SHOWN_BYTES = 4000
Beat = Callable[[], None]
"""Called at every sign of life while a server starts."""


class ServerFailed(Exception):
    """A server did not start, or ended: what happened, and its last words."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a server is started; ``{port}``, ``{model}`` and ``{devices}`` are filled."""

    command: tuple[str, ...]
    model: str = ""
    devices: str = ""
    """As CUDA_VISIBLE_DEVICES has them: ``0,1``."""
    port: int | None = None
    """None takes a free one."""
    health: str = "/health"
    ready_s: float = 600.0
    """A server that is not healthy by then has failed."""
    grace_s: float = 10.0
    """Between SIGTERM and SIGKILL."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def filled(self, port: int) -> list[str]:
        """Return the command; ``ValueError`` for a name that nothing fills."""
        values = {"port": str(port), "model": self.model, "devices": self.devices}

        def value(match: re.Match[str]) -> str:
            if match[1] not in values:
                legal = ", ".join(f"{{{name}}}" for name in values)
                raise ValueError(
                    f"{match[0]} in the server's command, but it can hold {legal};"
                    " correct [server] command in the system file"
                )
            return values[match[1]]

        # Braces around anything but a name are the server's own (JSON).
        return [re.sub(r"\{([a-z_]+)\}", value, word) for word in self.command]


class Server:
    """A server that runs, or is about to; ends with ``stop`` or with its owner."""

    def __init__(self, recipe: Recipe, log: Path) -> None:
        """Start the command; its output goes to ``log``, after what is there."""
        self.recipe = recipe
        self.log = log
        self.port = recipe.port or free_port()
        if not recipe.command:
            raise ValueError("the server's command is empty; name a program in it")
        command = recipe.filled(self.port)
        if recipe.port is not None and not is_free(recipe.port):
            raise ServerFailed(
                f"port {recipe.port} is taken by another process, but should be free"
                f" for {command[0]}; end that process, or name another port"
            )
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            self._from = out.tell()
            self._guard = subprocess.Popen(
                [sys.executable, "-I", GUARD, f"{recipe.grace_s:g}", *command],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **recipe.environment},
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def wait_ready(self, beat: Beat = lambda: None) -> None:
        """Return once the health path answers 200; ``ServerFailed`` otherwise."""
        begun = time.monotonic()
        wait = FIRST_WAIT_S
        while True:
            said = self.health()
            # A server that has ended may have left its port to another.
            self.check()
            if said == "200":
                return
            passed = time.monotonic() - begun
            if passed > self.recipe.ready_s:
                raise self.failure(
                    f"{self.url}{self.recipe.health} is not healthy after"
                    f" {passed:.1f} s ({said}), but should answer 200; give it longer"
                    " (ready_s), or correct the health path"
                )
            beat()
            time.sleep(min(wait, max(0.0, self.recipe.ready_s - passed) + 0.01))
            wait = min(wait * 1.5, LONGEST_WAIT_S)

    def health(self) -> str:
        """Return the status of the health path, or what was there instead."""
        try:
            with _connection(self.port, HEALTH_TIMEOUT_S) as connection:
                connection.request("GET", self.recipe.health)
                return str(connection.getresponse().status)
        except (OSError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__

    def check(self) -> None:
        """Raise ``ServerFailed`` when the server has ended."""
        status = self._guard.poll()
        if status is None:
            return
        how = f"status {status}"
        if status > 128:
            how = f"signal {status - 128}"
        raise self.failure(f"the server ended with {how}, but should serve {self.url}")

    def check_healthy(self) -> None:
        """Raise ``ServerFailed`` when the server ended or answers no more."""
        said = self.health()
        self.check()
        if said != "200":
            raise self.failure(
                f"{self.url}{self.recipe.health} does not answer 200 any more ({said})"
            )

    def stop(self) -> None:
        """End the server and all of its process group, by grace or by force."""
        if self._guard.stdin:
            with suppress(OSError):
                self._guard.stdin.close()
        try:
            self._guard.wait(self.recipe.grace_s + HEALTH_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            # The server dies with its guard.
            self._guard.kill()
            self._guard.wait()

    def failure(self, what: str) -> ServerFailed:
        """Return the error: what happened, and the last lines of the log."""
        words = last_words(self.log, self._from)
        end = f"; its last words [{self.log}]:\n{words}" if words else ""
        return ServerFailed(what + (end or f"; it said nothing [{self.log}]"))


@contextmanager
def launched(recipe: Recipe, log: Path, beat: Beat = lambda: None) -> Iterator[Server]:
    """Start a server, wait until it is healthy, and end it after the block."""
    with Server(recipe, log) as server:
        server.wait_ready(beat)
        yield server


def warm_up(
    server: Server,
    path: str,
    bodies: Iterable[bytes],
    *,
    timeout_s: float = 600.0,
    headers: Mapping[str, str] | None = None,
    beat: Beat = lambda: None,
) -> None:
    """Post each body and read its answer, untimed; ``ServerFailed`` for a refusal."""
    sent = {"Content-Type": "application/json", **(headers or {})}
    for number, body in enumerate(bodies):
        try:
            with _connection(server.port, timeout_s) as connection:
                connection.request("POST", path, body, sent)
                answer = connection.getresponse()
                said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            server.check()
            raise server.failure(
                f"warm-up request {number} to {server.url}{path} got no answer: {error}"
            ) from None
        if answer.status != 200:
            shown = said[:300].decode("utf-8", "replace")
            raise server.failure(
                f"warm-up request {number} to {server.url}{path} got HTTP"
                f" {answer.status}, but should get 200: {shown}"
            )
        beat()


@contextmanager
def _connection(port: int, timeout_s: float) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        yield connection
    finally:
        connection.close()


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def is_free(port: int) -> bool:
    """Return whether a server could listen on this port of loopback."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def last_words(log: Path, begin: int = 0) -> str:
    """Return the last lines of a log, from ``begin`` on."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(begin, end - SHOWN_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(f"  {line}" for line in text.splitlines()[-SHOWN_LINES:])
