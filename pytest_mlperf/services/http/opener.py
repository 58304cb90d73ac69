"""Opens connections on threads of its own: a handshake must not delay answers."""

from __future__ import annotations

import os
import queue
import socket
import threading

from pytest_mlperf.services.http.connection import Endpoint

THREADS = 8
"""Connections that are opened at the same time."""


class ConnectionOpener:
    """Opens connections in the background; ``opened`` holds sockets and errors."""

    def __init__(self, wake_fd: int, connect_s: float) -> None:
        """``wake_fd``: the eventfd that is written after every attempt."""
        self.opened: queue.SimpleQueue[tuple[Endpoint, socket.socket | OSError]]
        self.opened = queue.SimpleQueue()
        self._asked: queue.SimpleQueue[Endpoint | None] = queue.SimpleQueue()
        self._wake_fd = wake_fd
        self._connect_s = connect_s
        self._threads = [
            threading.Thread(target=self._run, name=f"connect-{i}", daemon=True)
            for i in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def ask(self, endpoint: Endpoint) -> None:
        """Have one more connection opened; returns at once."""
        endpoint.opening += 1
        self._asked.put(endpoint)

    def close(self) -> None:
        """End the threads and close the sockets that nobody has taken."""
        for _ in self._threads:
            self._asked.put(None)
        for thread in self._threads:
            thread.join()
        while not self.opened.empty():
            _, result = self.opened.get()
            if isinstance(result, socket.socket):
                result.close()

    def _run(self) -> None:
        while (endpoint := self._asked.get()) is not None:
            result: socket.socket | OSError
            try:
                result = endpoint.address.connect(self._connect_s)
            except OSError as error:
                result = error
            self.opened.put((endpoint, result))
            os.eventfd_write(self._wake_fd, 1)
