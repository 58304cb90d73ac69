"""One PTDaemon: started, asked in its text protocol, and left as it was found.

The commands and replies are those that power-dev's compliance/check.py compares
(ptd_messages_check) and that published results have (v5.1, WT210 and WT500).
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import BinaryIO

from pytest_mlperf.power.line_socket import LineSocket
from pytest_mlperf.power.line_socket import PowerFailed

HELLO = "Hello, PTDaemon here!"
READ_ALL = ("RL,*,*", "RL", "DC-RL")
"""All unread samples: of a meter of several channels, of one, of direct current."""
NOT_UNDERSTOOD = ("Invalid number of parameters", "Unknown command")
START_S = 30.0
"""A WT333E on USB takes 17 s until its PTDaemon answers."""
REPLY_S = 60.0
END_S = 10.0
AUTO = "Auto"


class Ptd:
    """A running PTDaemon; a context that starts it, and restores the meter's ranges.

    Raises ``PowerFailed`` from every method.
    """

    def __init__(self, command: list[str], port: int, output: Path, name: str) -> None:
        """``output`` gets what PTDaemon prints; ``name``: the meter's, in messages."""
        self._command, self._port, self._output = command, port, output
        self.name = name
        self.messages: list[dict[str, str]] = []
        self._initial = {"A": AUTO, "V": AUTO}
        self._line: LineSocket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._file: BinaryIO | None = None

    def start(self) -> None:
        """Start the daemon and connect; nothing where it runs already."""
        if self._line is not None:
            return
        try:
            self._file = self._output.open("wb")
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=self._file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TZ": "UTC"},
                # Ctrl-C ends the director, which ends its daemons in order.
                start_new_session=True,
            )
        except OSError as error:
            raise PowerFailed(
                f"{self.name}: PTDaemon {self._command[0]} cannot be started "
                f"({error.strerror}); name its program as ptd in the configuration"
            ) from error
        try:
            self._line = self._connect()
            self._greet()
            self.ask("Identify")
            self._initial = read_ranges(self.ask("RR"))
        except BaseException:
            self._end()
            raise

    def stop(self) -> None:
        """Restore the ranges as they were found, and end the daemon."""
        try:
            if self._line is not None:
                self.set_range("V", self._initial["V"])
                self.set_range("A", self._initial["A"])
        finally:
            self._end()

    def ask(self, command: str) -> str:
        assert self._line is not None, "started"
        reply = self._line.ask(command)
        self.messages.append({"cmd": command, "reply": reply})
        return reply

    def set_range(self, what: str, value: str) -> None:
        """Set the range of amperes (``A``) or volts (``V``)."""
        reply = self.ask(f"SR,{what},{value}")
        if reply != f"Range {what} changed":
            raise PowerFailed(
                f"{self.name}: range {what} {value} was answered {reply[:80]!r}; the "
                "meter has no such range, or is not in remote mode"
            )

    def begin(self, mark: str) -> None:
        """Measure from now on, a sample a second, without an end."""
        reply = self.ask(f"Go,1000,0,{mark}")
        if not reply.startswith("Starting untimed measurement"):
            raise PowerFailed(f"{self.name}: does not measure: {reply[:120]!r}")

    def end(self) -> None:
        """Measure no more."""
        self.ask("Stop")

    def read(self) -> list[str]:
        """Return the samples since ``begin``, a line each, without their mark."""
        assert self._line is not None, "started"
        for command in READ_ALL:
            head = self.ask(command)
            if not any(text in head for text in NOT_UNDERSTOOD):
                break
        words = head.split()
        if words[:1] != ["Last"] or len(words) < 2 or not words[1].isdecimal():
            raise PowerFailed(
                f"{self.name}: {command} was answered {head[:80]!r}, but should be "
                "'Last N samples'"
            )
        return [self._line.receive() for _ in range(int(words[1]))]

    def _greet(self) -> None:
        """Find that what listens at the port is the daemon that was started."""
        assert self._process is not None
        try:
            hello = self.ask("Hello")
        except PowerFailed as failed:
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                raise failed from None
            hello = ""
        if hello != HELLO:
            raise PowerFailed(
                f"{self.name}: port {self._port} said {hello[:60]!r}, but should say "
                f"{HELLO!r}: something else listens there; end it, or choose another "
                f"networkPort (PTDaemon's last line: {read_tail(self._output)})"
            )

    def _connect(self) -> LineSocket:
        assert self._process is not None
        give_up = time.monotonic() + START_S
        while True:
            try:
                return LineSocket.connect(
                    "127.0.0.1", self._port, f"PTDaemon of {self.name}", REPLY_S
                )
            except PowerFailed:
                status = self._process.poll()
                if status is None and time.monotonic() < give_up:
                    time.sleep(0.05)
                    continue
                ended = f"ended with status {status}" if status is not None else (
                    f"does not listen at port {self._port} after {START_S:g} s"
                )  # fmt: skip
                last = read_tail(self._output)
                raise PowerFailed(
                    f"{self.name}: PTDaemon {ended}: {last}; check deviceType, "
                    "interfaceFlag and devicePort, and that the meter is on"
                ) from None

    def _end(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._file is not None:
            self._file.close()
            self._file = None


def read_tail(path: Path) -> str:
    """Return the last line that a daemon printed; ``no output`` where there is none."""
    lines = (
        path.read_text("utf-8", errors="replace").split("\n") if path.exists() else []
    )
    return next((line for line in reversed(lines) if line.strip()), "no output")


def read_ranges(reply: str) -> dict[str, str]:
    """Return amperes' and volts' ranges of ``Ranges,<auto>,<A>,<auto>,<V>``.

    0 says that a range is fixed; anything else, or no range, is ``Auto``.
    """
    fields = reply.split(",")
    found = {}
    for what, place in (("A", 1), ("V", 3)):
        found[what] = AUTO
        try:
            if fields[place] == "0" and float(fields[place + 1]) > 0:
                found[what] = fields[place + 1]
        except (ValueError, IndexError):
            continue
    return found
