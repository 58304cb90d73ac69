"""The director's side: drives the meters for one system under test at a time."""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Self

from pytest_mlperf.power.config import DirectorConfig
from pytest_mlperf.power.line_socket import Disconnected
from pytest_mlperf.power.line_socket import LineSocket
from pytest_mlperf.power.line_socket import PowerFailed
from pytest_mlperf.power.meter_session import MeterSession
from pytest_mlperf.power.record import CLIENT_HELLO
from pytest_mlperf.power.record import DOWNLOADS
from pytest_mlperf.power.record import PHASES
from pytest_mlperf.power.record import SERVER_HELLO
from pytest_mlperf.power.record import EventLog
from pytest_mlperf.power.record import SessionRecord
from pytest_mlperf.power.time_sync import check_ntp

SETTLE_S = 10.0
"""After a range was set, and before measuring ends (ANALYZER_SLEEP_SECONDS)."""
LABEL = re.compile(r"[\w-]*", re.ASCII)
HELLO_S = 30.0


def print_nothing(line: str) -> None:
    """Show nothing."""


class Director:
    """Listens for clients; a context, so that meters are left as they were found."""

    def __init__(
        self,
        config: DirectorConfig,
        *,
        settle_s: float = SETTLE_S,
        report: Callable[[str], None] = print_nothing,
    ) -> None:
        self.config, self.settle_s, self.report = config, settle_s, report
        self.is_asked_to_end = False

    def __enter__(self) -> Self:
        host, port = self.config.listen
        try:
            self._socket = socket.create_server((host, port))
        except OSError as error:
            raise PowerFailed(
                f"cannot listen at {host}:{port} ({error.strerror}); end what does, or "
                "change listen in the configuration"
            ) from error
        self._scratch = tempfile.TemporaryDirectory(prefix="mlperf-power-")
        self.port: int = self._socket.getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._scratch.cleanup()

    def try_meters(self) -> list[str]:
        """Start and end every meter's daemon; return what it says it is."""
        folder = self.scratch / "try"
        folder.mkdir()
        found = []
        with MeterSession(self.config, folder, "try", 0) as meters:
            meters.start()
            for meter in meters.ptds:
                told = {m["cmd"]: m["reply"] for m in meter.messages}
                found.append(f"{meter.name}: {told['Identify'].partition(',')[0]}")
        shutil.rmtree(folder)
        return found

    def serve(self) -> None:
        """Serve clients, one after the other, until one of them says ``stop``."""
        while not self.is_asked_to_end:
            connection, (host, *_) = self._socket.accept()
            with LineSocket(connection, f"the client {host}", HELLO_S) as line:
                self.report(f"{host} connected")
                try:
                    Conversation(self, line).run()
                except Disconnected:
                    self.report(f"{host} is done")
                except PowerFailed as failed:
                    self.report(str(failed))

    @property
    def scratch(self) -> Path:
        """For the folders of sessions."""
        return Path(self._scratch.name)


class Conversation:
    """One client's commands, and the session that they make."""

    def __init__(self, director: Director, line: LineSocket) -> None:
        self._director, self._line = director, line
        self._record, self._log = SessionRecord(), EventLog("ptd-server")
        self._meters: MeterSession | None = None
        self._folder: Path | None = None
        """The session's; also after it, until the client has its files."""

    def run(self) -> None:
        """Obey until the client has gone; raises ``PowerFailed`` when it breaks off."""
        line = self._line
        hello = line.receive()
        now = time.time()
        self._record.add_message(hello, now, SERVER_HELLO, now)
        line.send(SERVER_HELLO)
        if hello != CLIENT_HELLO:
            raise PowerFailed(
                f"{line.peer} said {hello[:60]!r}, but should say {CLIENT_HELLO!r}"
            )
        # A run may take hours, and the client is silent meanwhile; keep-alive tells
        # when it is gone.
        line.wait_s(None)
        try:
            while True:
                self._obey(line.receive())
        finally:
            if self._meters is not None:
                self._director.report(f"session {self._record.session} was broken off")
                self._meters.close()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _obey(self, command: str) -> None:
        asked_at = time.time()
        self._log.add(f"Got command from the client {command!r}")
        try:
            reply = self._answer(command.split(","))
        except (PowerFailed, ValueError, OSError) as error:
            reply = "Error: " + " ".join(str(error).split())
            self._director.report(reply)
        if reply is None:
            return
        self._log.add(f"Sending reply to client {reply!r}")
        self._record.add_message(command, asked_at, reply, time.time())
        self._line.send(reply)

    def _answer(self, words: list[str]) -> str | None:
        match words:
            case ["time"]:
                return str(time.time())
            case ["set_ntp"]:
                # Setting a clock is its owner's business; the client asks for the time
                # again and sees what came of it.
                return f"OK, {check_ntp(self._director.config.ntp)}"
            case ["stop"]:
                self._director.is_asked_to_end = True
                return "OK"
            case ["new", label, client]:
                return self._begin(label, client)
            case ["session", name, *order] if self._meters is not None:
                if name not in ("*", self._record.session):
                    return "Error: unknown session"
                return self._order(self._meters, order)
            case ["session", *_]:
                return "Error: unknown session"
            case ["download", name, file] if file in DOWNLOADS and self._owns(name):
                assert self._folder is not None
                self._line.send_file(self._folder / file)
                return None
            case ["cleanup", name] if self._owns(name):
                assert self._folder is not None
                shutil.rmtree(self._folder)
                self._folder = None
                return "OK"
        return "Error: unknown command"

    def _owns(self, name: str) -> bool:
        return self._folder is not None and name == self._record.session

    def _begin(self, label: str, client: str) -> str:
        if self._meters is not None:
            return "Error: a session is open"
        if not LABEL.fullmatch(label):
            return "Error: invalid label"
        self._record.client, self._record.server = uuid.UUID(client), uuid.uuid4()
        name = "_".join(filter(None, [f"{datetime.now():%Y-%m-%d_%H-%M-%S}", label]))
        self._folder = self._director.scratch / name
        (self._folder / "power").mkdir(parents=True)
        self._record.session = name
        self._meters = MeterSession(
            self._director.config, self._folder, name, self._director.settle_s
        )
        return f"OK {name},{self._record.server}"

    def _order(self, meters: MeterSession, order: list[str]) -> str:
        record = self._record
        match order:
            case ["start", phase] if meters.may_start(phase):
                record.mark(phase)
                meters.start_phase(phase)
                record.mark(phase)
                return "OK"
            case ["stop", phase] if phase == meters.running:
                record.mark(phase)
                meters.stop_phase()
                record.mark(phase)
                return "OK"
            case ["done"] if meters.finished == PHASES:
                self._finish(meters)
                return "OK"
        return (
            f"Error: {','.join(order)} after {', '.join(meters.finished) or 'nothing'}"
        )

    def _finish(self, meters: MeterSession) -> None:
        assert self._folder is not None
        self._meters = None
        meters.close()
        power = self._folder / "power"
        self._log.write(power / "server.log")
        meters.write_record(self._record, power / "server.json")
