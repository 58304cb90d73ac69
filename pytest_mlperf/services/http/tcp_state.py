"""What the kernel knows of a TCP connection: TCP_INFO of Linux (tcp(7))."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

MOST_BYTES = 256
_RTT = struct.Struct("=68xI")
"""tcpi_rtt, microseconds: in every Linux."""
_COUNTS = struct.Struct("=120xQ20xI48xQQ")
"""tcpi_bytes_acked, tcpi_min_rtt, tcpi_bytes_sent, tcpi_bytes_retrans: Linux 4.19."""


@dataclass(frozen=True, slots=True)
class TcpState:
    """A connection's figures since it was opened."""

    round_trip_s: float = 0.0
    """The quickest one that was seen; 0 where the kernel does not say."""
    acknowledged: int | None = None
    """Bytes of ours that the other end's kernel has taken; None: not known."""
    sent: int = 0
    """Bytes that have left, each counted once."""

    @classmethod
    def read(cls, connected: socket.socket) -> TcpState:
        """Return the state now; also of a connection that the other end has reset."""
        try:
            info = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, MOST_BYTES)
        except OSError:
            return cls()
        if len(info) < _RTT.size:
            return cls()
        if len(info) < _COUNTS.size:
            return cls(_RTT.unpack_from(info)[0] / 1e6)
        acknowledged, least_us, sent, again = _COUNTS.unpack_from(info)
        # The kernel counts the SYN as a byte that was acknowledged.
        return cls(least_us / 1e6, max(acknowledged - 1, 0), sent - again)
