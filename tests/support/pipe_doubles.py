"""Engines that harm the process they run in: its pipe, its tree, LoadGen's answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.samples import Batch
from tests.support import calls
from tests.support import doubles

LEFT = "DOUBLE_LEFT"
"""Variable with the file for the process id of what an engine leaves behind."""


def spec(name: str) -> str:
    """Return the dotted spec of an object of this module."""
    return f"tests.support.pipe_doubles:{name}"


def the_pipe() -> int:
    """Return the descriptor of this process's pipe: its first argument."""
    return int(sys.argv[1])


def writing_astray(batch: Batch, size: int, ids: list[int], text: bytes) -> Any:
    """Write to the pipe's descriptor, as a library does that kept a stale one."""
    if ids:
        os.write(the_pipe(), text)
    return calls.sleeping(batch, size, ids)


def stopping_midway(batch: Batch, size: int, ids: list[int]) -> Any:
    """Stop the process when half of a message is out."""
    if ids:
        os.write(the_pipe(), b"\xffMLP\0\xff\xff\xff")
        os.kill(os.getpid(), signal.SIGSTOP)
    return calls.echo(batch, size, ids)


def closing_the_pipe(batch: Batch, size: int, ids: list[int]) -> Any:
    """Shut the pipe down, and work on."""
    if ids:
        import socket

        socket.socket(fileno=os.dup(the_pipe())).shutdown(socket.SHUT_RDWR)
    return calls.sleeping(batch, size, ids)


LEAVE = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open(sys.argv[1] + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(sys.argv[1] + ".new", sys.argv[1])
        time.sleep(3600)
    os._exit(0)
"""


def leaving_a_daemon(batch: Batch, size: int, ids: list[int], then: Any) -> Any:
    """Start a process in a session of its own, which nobody waits for."""
    if ids:
        left = Path(os.environ[LEFT])
        subprocess.run(
            [sys.executable, "-c", LEAVE, str(left)], env={}, check=True, timeout=300
        )
        doubles.await_true(left.exists, "the daemon's start")
    return then(batch, size, ids)


def _lose(responses: Any) -> None:
    """Stand in for LoadGen's completion, and keep the answers."""


@dataclass(frozen=True, slots=True)
class LosesAnswers(doubles.Double):
    """LoadGen hears of no answer, though the suite has handed over each."""

    def build(self, request: BuildRequest) -> Build:
        from pytest_mlperf.sut import loadgen

        loadgen.complete = _lose
        return doubles.Double.build(self, request)


def stop(request: BuildRequest) -> None:  # noqa: ARG001 - one shape
    """Stop the process, as a debugger or a batch system does."""
    os.kill(os.getpid(), signal.SIGSTOP)


def wait_for_ever(request: BuildRequest) -> None:  # noqa: ARG001 - one shape
    """Wait for what never comes."""
    threading.Event().wait()


WORK = "import time\nuntil = time.monotonic() + 5\nwhile time.monotonic() < until: pass"


def work(request: BuildRequest) -> None:  # noqa: ARG001 - one shape
    """Have a compiler work for five seconds, and say nothing."""
    subprocess.run([sys.executable, "-c", WORK], check=True, timeout=300)


@dataclass(frozen=True, slots=True)
class Builds(doubles.Double):
    """What it does first to build."""

    first: Any = work

    def build(self, request: BuildRequest) -> Build:
        self.first(request)
        return doubles.Double.build(self, request)


BUILD_STOPS = Builds(calls.echo, first=stop)
BUILD_WAITS = Builds(calls.echo, first=wait_for_ever)
BUILD_WORKS = Builds(calls.echo, first=work)
WRITES_TEXT = doubles.Double(partial(writing_astray, text=b"loss: 0.25\n" * 9))
WRITES_HUGE_SIZE = doubles.Double(partial(writing_astray, text=b"\x7f\xff\xff\xff"))
WRITES_OUR_MARK = doubles.Double(partial(writing_astray, text=b"\xffMLP" + b"~" * 99))
STOPS_MIDWAY = doubles.Double(stopping_midway)
CLOSES_PIPE = doubles.Double(closing_the_pipe)
LOSES_ANSWERS = LosesAnswers(calls.echo)
LEAVES_A_DAEMON = doubles.Double(partial(leaving_a_daemon, then=calls.echo))
LEAVES_AND_CRASHES = doubles.Double(partial(leaving_a_daemon, then=calls.crashing))
LEAVES_AND_HANGS = doubles.Double(partial(leaving_a_daemon, then=calls.sleeping))


def on_one(call: Any) -> doubles.Double:
    """Return a double that misbehaves on one of several devices."""
    return doubles.Double(partial(calls.somewhere, call=call))


ONE_WRITES_TEXT = on_one(partial(writing_astray, text=b"loss: 0.25\n" * 9))
ONE_STOPS_MIDWAY = on_one(stopping_midway)
ONE_CLOSES_PIPE = on_one(closing_the_pipe)
