"""Ports of loopback for servers that another process starts."""

from __future__ import annotations

import random
import socket
from pathlib import Path

HOST = "127.0.0.1"
LOWEST = 10_000
OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
TRIES = 100


def find_free_port() -> int:
    """Return a port of loopback that no process listens on.

    It lies below those that the kernel hands to outgoing connections and to servers
    that ask for port 0, where there are such: one of these could take it before the
    server that it is for has started.
    """
    below = range(LOWEST, _lowest_outgoing())
    for port in random.sample(below, min(TRIES, len(below))):
        if is_port_free(port):
            return port
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def is_port_free(port: int) -> bool:
    """Return whether a server can listen on this port of loopback."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def _lowest_outgoing() -> int:
    """Return 0 where the system does not tell."""
    try:
        return int(OUTGOING.read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 0
