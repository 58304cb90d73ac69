"""The system under test's side of a power session: ranging, then testing."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pytest_mlperf.power.line_socket import LineSocket
from pytest_mlperf.power.line_socket import PowerFailed
from pytest_mlperf.power.record import CLIENT_HELLO
from pytest_mlperf.power.record import DOWNLOADS
from pytest_mlperf.power.record import FOLDERS
from pytest_mlperf.power.record import SERVER_HELLO
from pytest_mlperf.power.record import EventLog
from pytest_mlperf.power.record import SessionRecord
from pytest_mlperf.power.record import digest_folder
from pytest_mlperf.power.time_sync import check_ntp
from pytest_mlperf.power.time_sync import check_remote

PORT = 4950
REPLY_S = 120.0
"""Seconds a director may take: its meter settles for 10 s, and starts for up to 30."""
LOGS = ("mlperf_log_detail.txt", "mlperf_log_summary.txt")


class PowerClient:
    """One session with a director; a context that is entered before the first phase.

    Raises ``PowerFailed`` from every method.
    """

    def __init__(
        self, host: str, port: int, ntp: str, folder: Path, label: str = ""
    ) -> None:
        """``folder`` gets ``power``, ``ranging`` and ``run_1``; it may be there."""
        self._host, self._port, self._ntp = host, port, ntp
        self._folder, self._label = folder, label
        self._record, self._log = SessionRecord(), EventLog("client")

    def __enter__(self) -> Self:
        self._server = LineSocket.connect(
            self._host, self._port, "the power director", REPLY_S
        )
        try:
            self._open()
        except BaseException:
            self._server.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # A director drops a session whose client is gone, and its meter with it.
        self._server.close()

    def _open(self) -> None:
        if (hello := self._ask(CLIENT_HELLO)) != SERVER_HELLO:
            raise PowerFailed(
                f"{self._server.peer} said {hello[:60]!r}, but should say "
                f"{SERVER_HELLO!r}: start a director of this version there"
            )
        self._check_clocks()
        self._record.client = uuid.uuid4()
        reply = self._ask(f"new,{self._label},{self._record.client}")
        name, _, server = reply.removeprefix("OK ").partition(",")
        try:
            self._record.server = uuid.UUID(server)
        except ValueError:
            raise PowerFailed(
                f"{self._server.peer} began no session: {reply[:200]!r}; its log says "
                "why"
            ) from None
        self._record.session = name
        (self._folder / "power").mkdir(parents=True)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure while the block runs LoadGen once: ``ranging``, then ``testing``.

        The meter runs on while a run is repeated within the block.
        """
        session = f"session,{self._record.session}"
        self._check_clocks()
        self._record.mark(name)
        self._order(f"{session},start,{name}")
        self._record.mark(name)
        self._check_clocks()
        yield
        self._check_clocks()
        self._record.mark(name)
        self._order(f"{session},stop,{name}")
        self._record.mark(name)
        self._check_clocks()

    def keep_logs(self, phase: str, logs: Path) -> None:
        """Copy the logs of a phase's run into the session."""
        folder = self._folder / FOLDERS[phase]
        folder.mkdir(parents=True, exist_ok=True)
        for name in LOGS:
            shutil.copyfile(logs / name, folder / name)

    def finish(self) -> Path:
        """End the session, fetch the director's files and return the folder."""
        power = self._folder / "power"
        self._log.add("Done runs")
        self._log.write(power / "client.log")
        self._record.write(power / "client.json", digest_folder(self._folder), {})
        self._order(f"session,{self._record.session},done")
        for name in DOWNLOADS:
            self._server.send(f"download,{self._record.session},{name}")
            self._server.receive_file(self._folder / name)
        self._order(f"cleanup,{self._record.session}")
        return self._folder

    def _check_clocks(self) -> None:
        self._log.add(check_ntp(self._ntp))
        self._log.add(check_remote(lambda: self._ask("time")))

    def _order(self, command: str) -> None:
        if (reply := self._ask(command)) != "OK":
            raise PowerFailed(
                f"{self._server.peer} refused {command!r}: {reply[:1000]!r}; its log "
                "says why"
            )

    def _ask(self, command: str) -> str:
        self._log.add(f"Sending command to the server: {command!r}")
        asked_at = time.time()
        reply = self._server.ask(command)
        self._record.add_message(command, asked_at, reply, time.time())
        self._log.add(f"Got response: {reply!r}")
        return reply
