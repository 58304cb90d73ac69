"""SIGTERM and SIGHUP end a session as Ctrl-C does: Slurm and CI send them."""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass
from dataclasses import field
from types import FrameType

NUMBERS = (signal.SIGTERM, signal.SIGHUP)


class SessionTerminated(KeyboardInterrupt):
    """Somebody else's Ctrl-C; the text names the signal."""


@dataclass(slots=True)
class TerminationSignals:
    """Makes an exception of signals that would end the process without a word."""

    _caught: set[signal.Signals] = field(default_factory=set)

    def catch(self) -> None:
        """Catch what is at its default: what somebody handles or ignores is theirs."""
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                if signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, self._interrupt)
                    self._caught.add(number)

    def end_with_parent(self) -> None:
        """Let SIGTERM come where the parent ends without a word (``kill -9``).

        execnet ends an xdist worker whose controller is gone by SIGINT, after 5 s; that
        is ignored where a shell started the session in the background, and the worker
        would measure for 10 s more.
        """
        from pytest_mlperf.machine.process import die_with_parent

        if signal.SIGTERM in self._caught:
            die_with_parent(signal.SIGTERM)

    def release(self) -> None:
        """Put the defaults back."""
        while self._caught:
            signal.signal(self._caught.pop(), signal.SIG_DFL)

    def ignore(self) -> None:
        """Let nothing cut short what ends the session, until ``release``."""
        for caught in self._caught:
            signal.signal(caught, signal.SIG_IGN)

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        self.ignore()
        raise SessionTerminated(signal.Signals(number).name)
