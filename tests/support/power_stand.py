"""A power measurement's surroundings on loopback: clock server, director, meters."""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from pytest_mlperf.machine.ports import find_free_port
from pytest_mlperf.power.config import Analyzer
from pytest_mlperf.power.config import DirectorConfig
from pytest_mlperf.power.director import Director
from tests.support import simulated_ptd

EPOCH = 2_208_988_800
"""Seconds from NTP's 1900 to 1970."""


@contextmanager
def serve_ntp(
    offset_s: float = 0.0, port: int = 0, late_s: Sequence[float] = ()
) -> Iterator[str]:
    """Yield the HOST:PORT of an NTP server whose clock is ``offset_s`` ahead.

    ``late_s``: for how long the first requests seem to have been on their way.
    """
    late = iter(late_s)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", port))

        def answer() -> None:
            while True:
                try:
                    asked, peer = server.recvfrom(512)
                except OSError:  # closed
                    return
                if len(asked) < 48:
                    return
                at = time.time() + offset_s + EPOCH
                came = at + next(late, 0.0)
                sent, received = (
                    struct.pack("!II", int(t), int(t % 1 * (1 << 32)))
                    for t in (at, came)
                )
                head = struct.pack("!BBBbII4s", 0x24, 1, 6, -20, 0, 0, b"TEST")
                server.sendto(head + sent + asked[40:48] + received + sent, peer)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        host, number = server.getsockname()
        yield f"{host}:{number}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", (host, number))
        thread.join(5)


def write_ptd(folder: Path, *settings: str) -> Path:
    """Write a program that is a simulated PTDaemon; ``settings``: ``SIM_WATTS=10``."""
    path = folder / "ptd"
    words = " ".join(settings)
    script = Path(simulated_ptd.__file__)
    path.write_text(
        f'#!/bin/sh\nexec env {words} {sys.executable} -S {script} "$@"\n', "utf-8"
    )
    path.chmod(0o755)
    return path


def make_config(
    folder: Path,
    ntp: str,
    *settings: str,
    device_type: int = 49,
    channels: tuple[int, ...] = (),
    meters: int = 1,
) -> DirectorConfig:
    """Return a director's configuration with simulated meters."""
    ptd = write_ptd(folder, *(settings or ("SIM_PERIOD_S=0.05",)))
    analyzers = tuple(
        Analyzer(device_type, f"/dev/simulated{n}", network_port=find_free_port(),
                 channels=channels)
        for n in range(meters)
    )  # fmt: skip
    return DirectorConfig(str(ptd), ntp, analyzers, ("127.0.0.1", 0))


@contextmanager
def serve_director(config: DirectorConfig, told: list[str]) -> Iterator[int]:
    """Yield the port of our director, which settles in no time."""
    with Director(config, settle_s=0.05, report=told.append) as director:
        thread = threading.Thread(target=director.serve, daemon=True)
        thread.start()
        yield director.port
        director.is_asked_to_end = True
        with socket.create_connection(("127.0.0.1", director.port), timeout=5):
            pass
        thread.join(10)
        assert not thread.is_alive(), "the director ends"
