"""Addresses of endpoints: parsed from URLs, connected by TCP or TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pytest_mlperf.config.option_types import find_url_problem

PORTS = {"http": 80, "https": 443}
SECURE = ("https", "grpcs")


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint is."""

    url: str
    host: str
    port: int
    base: str
    """The path before ``/v1``."""
    context: ssl.SSLContext | None = None

    @classmethod
    def parse(
        cls, url: str, ca_file: str | None = None, ports: Mapping[str, int] = PORTS
    ) -> Address:
        """Return the address of a URL; raises ``ValueError``.

        ``ports``: scheme -> its usual port; other schemes are refused.
        """
        if problem := find_url_problem(url, ports):
            raise ValueError(problem)
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host = parts.hostname or ""
        base = parts.path.rstrip("/").removesuffix("/v1")
        context = None
        if parts.scheme in SECURE:
            try:
                context = ssl.create_default_context(cafile=ca_file)
            except (OSError, ssl.SSLError) as error:
                raise ValueError(
                    f"CA file {ca_file!r} cannot be read: {error}"
                ) from None
        shown = f"{parts.scheme}://{parts.netloc}{base}"
        port = parts.port or ports[parts.scheme]
        return cls(shown, host, port, base, context)

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "https" if self.context else "http"
        return host if self.port == PORTS[scheme] else f"{host}:{self.port}"

    def connect(self, timeout_s: float) -> socket.socket:
        """Return a connected socket that does not block; raises ``OSError``."""
        plain = socket.create_connection((self.host, self.port), timeout=timeout_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.context is None:
            plain.setblocking(False)
            return plain
        try:
            wrapped = self.context.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
        wrapped.setblocking(False)
        return wrapped
