"""Lines over a TCP connection, and files in pieces: how all three parties talk."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Self

from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.whole_file import replace_whole

END = b"\r\n"
PIECE = 1 << 20
"""Bytes of a file that go out at once."""
LONGEST_LINE = 1 << 20
KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 2),
    (socket.TCP_KEEPINTVL, 2),
    (socket.TCP_KEEPCNT, 10),
)
"""Seconds of silence, seconds between questions, and how many may stay unanswered."""


class PowerFailed(RunRefused):
    """Power could not be measured; the text says why and what to change."""


class Disconnected(PowerFailed):
    """The other side is gone."""


class LineSocket:
    """One connection; lines end in CR LF, or in LF where the other side writes so.

    Every method raises ``PowerFailed`` when the other side is gone or silent.
    """

    def __init__(self, connection: socket.socket, peer: str, timeout_s: float) -> None:
        self._socket, self.peer = connection, peer
        self._buffer = b""
        connection.settimeout(timeout_s)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE:
            connection.setsockopt(socket.IPPROTO_TCP, name, value)

    @classmethod
    def connect(cls, host: str, port: int, peer: str, timeout_s: float) -> LineSocket:
        """Return a connection; ``peer``: what messages call the other side."""
        try:
            connection = socket.create_connection((host, port), timeout=timeout_s)
        except OSError as error:
            reason = error.strerror or str(error)
            raise PowerFailed(
                f"{peer} does not answer at {host}:{port} ({reason}); start it there, "
                "or name the right host and port"
            ) from error
        return cls(connection, f"{peer} ({host}:{port})", timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def wait_s(self, timeout_s: float | None) -> None:
        """Set how long the other side may be silent; None: for ever."""
        self._socket.settimeout(timeout_s)

    def send(self, line: str) -> None:
        self._write(line.encode() + END)

    def receive(self) -> str:
        """Return the next line without its end."""
        while b"\n" not in self._buffer:
            if len(self._buffer) > LONGEST_LINE:
                raise PowerFailed(f"{self.peer} sent a line without end; is it one?")
            self._read()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r").decode(errors="replace")

    def ask(self, line: str) -> str:
        """Send a command and return its reply."""
        self.send(line)
        return self.receive()

    def send_file(self, path: Path) -> None:
        """Send a file: each piece behind a line with its size, and a 0 at the end."""
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                self.send(str(len(piece)))
                self._write(piece)
        self.send("0")

    def receive_file(self, path: Path) -> None:
        """Write what the other side sends as a file; whole, or not at all."""
        with replace_whole(path) as partial, partial.open("wb") as file:
            while size := self._read_size(path.name):
                while size:
                    if not self._buffer:
                        self._read()
                    piece, self._buffer = self._buffer[:size], self._buffer[size:]
                    file.write(piece)
                    size -= len(piece)

    def _read_size(self, name: str) -> int:
        line = self.receive()
        if not line.isdecimal():
            raise PowerFailed(
                f"{self.peer} was asked for {name} and answered {line[:60]!r}, but it "
                "should send the file; its own log says why"
            )
        return int(line)

    def _read(self) -> None:
        try:
            received = self._socket.recv(1 << 16)
        except OSError as error:
            raise self._lost(error) from error
        if not received:
            raise self._lost(None)
        self._buffer += received

    def _write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._lost(error) from error

    def _lost(self, error: OSError | None) -> PowerFailed:
        remedy = "look at its log, and start it again"
        if isinstance(error, TimeoutError):
            silence = f"was silent for {self._socket.gettimeout():g} s"
            return PowerFailed(f"{self.peer} {silence}; {remedy}")
        return Disconnected(f"{self.peer} closed the connection; {remedy}")
