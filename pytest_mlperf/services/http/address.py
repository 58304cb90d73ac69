"""Addresses of endpoints: parsed from URLs, connected by TCP or TLS."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

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
        text = url if "://" in url else f"http://{url}"
        # A key may stand in what is left out.
        named = re.split("[?#]", url.rpartition("@")[2])[0]
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{named!r}: {error}; write http://host:port") from None
        if parts.scheme not in ports or not parts.hostname:
            legal = " or ".join(f"{scheme}://" for scheme in ports)
            raise ValueError(f"{named!r} is no {legal} URL with a host")
        if parts.username or parts.password:
            raise ValueError(
                f"{parts.hostname!r}: a password in a URL ends in logs; give a token "
                "by an environment variable"
            )
        if parts.query or parts.fragment:
            raise ValueError(f"{named!r}: an endpoint's URL has no ? and no #")
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
        return cls(shown, parts.hostname, port or ports[parts.scheme], base, context)

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
