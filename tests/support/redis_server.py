"""A real redis-server on loopback that keeps what it acknowledged."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from pytest_mlperf.machine.ports import find_free_port

NODES, SLOTS = 3, 16_384
LIMIT_S = 60


class RedisServer:
    """Started in a folder of the test; ``kill`` is SIGKILL, ``start`` starts again."""

    def __init__(self, folder: Path, *further: str) -> None:
        """Start with ``further`` arguments."""
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("needs redis-server (Debian: apt-get install redis-server)")
        self._program, self._folder, self._further = program, folder, further
        self.port = find_free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                self._program, "--port", str(self.port), "--bind", "127.0.0.1",
                "--dir", str(self._folder), "--save", "", "--appendonly", "yes",
                "--appendfsync", "always", *self._further,
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        ends = time.monotonic() + LIMIT_S
        while time.monotonic() < ends:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    one.sendall(b"PING\r\n")
                    if one.recv(64).startswith(b"+PONG"):
                        return
            time.sleep(0.02)
        raise AssertionError(f"redis-server did not answer within {LIMIT_S} s")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class RedisCluster:
    """Three servers that share the slots; a server that is killed may come back."""

    def __init__(self, folder: Path) -> None:
        redis = pytest.importorskip("redis")
        self.nodes = []
        for number in range(NODES):
            place = folder / str(number)
            place.mkdir()
            # The servers talk to each other at a port of its own.
            self.nodes.append(
                RedisServer(
                    place, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000",
                    "--cluster-port", str(find_free_port()),
                )
            )  # fmt: skip
        self.url = self.nodes[0].url.replace("redis://", "redis-cluster://")
        clients = [redis.Redis(port=node.port) for node in self.nodes]
        ends = [SLOTS * n // NODES for n in range(NODES + 1)]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            first, last = ends[number], ends[number + 1] - 1
            client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
        for node in self.nodes[1:]:
            bus = node._further[-1]
            clients[0].execute_command("CLUSTER MEET", "127.0.0.1", node.port, bus)
        self.wait()
        for client in clients:
            client.close()

    def wait(self) -> None:
        """Return once every node says that all slots are served."""
        import redis

        ends = time.monotonic() + LIMIT_S
        waiting = list(self.nodes)
        while waiting and time.monotonic() < ends:
            with redis.Redis(port=waiting[0].port) as client:
                info = client.execute_command("CLUSTER INFO")
            # redis-py parses the lines into a mapping.
            is_whole = (info["cluster_state"], info["cluster_known_nodes"]) == (
                "ok", str(NODES),
            )  # fmt: skip
            if is_whole:
                waiting.pop(0)
            else:
                time.sleep(0.05)
        assert not waiting, f"the cluster was not whole within {LIMIT_S} s"

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()
