"""What an endpoint says of itself before a run: is it up, and what does it serve?

Blocking and without haste; each mistake of a person has words here, so that it is
found before LoadGen starts.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterable
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from pytest_mlperf.config.option_types import suggest
from pytest_mlperf.core.errors import Refused
from pytest_mlperf.services.http.connection import Address

LIMIT_S = 10.0
SHOWN = 200
MOST = 1 << 22
"""Bytes of an answer that are read."""
HEALTH = "/health"
MODELS = "/v1/models"
NO_KEY = (401, 403)
NO_PATH = (404, 405, 501)


@dataclass(frozen=True, slots=True)
class Said:
    """An endpoint's answer to a GET."""

    status: int
    body: bytes

    @property
    def shown(self) -> str:
        """Status and the beginning of the body, for a message."""
        text = self.body[:SHOWN].decode("utf-8", "replace").strip()
        return f"HTTP {self.status}: {text}" if text else f"HTTP {self.status}"


def get(address: Address, path: str, headers: Mapping[str, str]) -> Said:
    """Return what a GET brings; ``Refused`` where there is no HTTP server."""
    where = f"{address.url}{path}"
    try:
        # Connected here: http.client would not know the CA file's own errors apart.
        plain = socket.create_connection((address.host, address.port), timeout=LIMIT_S)
        with plain:
            wrapped = plain
            if address.context is not None:
                host = address.host
                wrapped = address.context.wrap_socket(plain, server_hostname=host)
            with closing(http.client.HTTPConnection(address.host)) as connection:
                connection.sock = wrapped
                fields = {**headers, "Host": address.authority}
                connection.request("GET", f"{address.base}{path}", headers=fields)
                answer = connection.getresponse()
                return Said(answer.status, answer.read(MOST))
    except ssl.SSLCertVerificationError as error:
        raise Refused(
            f"{where}: the certificate is not trusted ({error.verify_message}); name "
            "the file of the authority that signed it with --mlperf-endpoint-ca FILE"
        ) from None
    except ssl.SSLError as error:
        raise Refused(
            f"{where}: no TLS there ({error.reason or error}); write http:// if the "
            "server speaks without it"
        ) from None
    except (http.client.HTTPException, ValueError) as error:
        raise Refused(
            f"{where}: found no HTTP server ({type(error).__name__}: {error}), but "
            "should be an OpenAI-compatible one; correct the URL or its port"
        ) from None
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise Refused(
            f"{where}: nobody answers ({why}); start the server, or correct the URL "
            "(--mlperf-endpoint)"
        ) from None


def is_ready(address: Address, path: str, headers: Mapping[str, str]) -> bool:
    """Return whether an endpoint calls itself ready; not to be is no mistake yet."""
    try:
        return get(address, path, headers).status == http.client.OK
    except Refused:
        return False


def look(address: Address, headers: Mapping[str, str], key_name: str) -> None:
    """Raise ``Refused`` for an endpoint that is not well or wants another key."""
    health = get(address, HEALTH, headers)
    admit(address, HEALTH, health, headers, key_name)
    if health.status >= http.client.INTERNAL_SERVER_ERROR and (
        health.status not in NO_PATH
    ):
        raise Refused(
            f"{address.url}{HEALTH}: found {health.shown}, but should be 200; wait "
            "until the server has loaded its model, or look into its log"
        )


def admit(
    address: Address, path: str, said: Said, headers: Mapping[str, str], key_name: str
) -> None:
    """Raise ``Refused`` for an endpoint that does not let us in."""
    if said.status not in NO_KEY:
        return
    what = f"the endpoint wants a key, and the environment variable {key_name} has none"
    if "Authorization" in headers:
        what = f"the endpoint refuses the key in the environment variable {key_name}"
    raise Refused(
        f"{address.url}{path}: HTTP {said.status}: {what}; put the right one there, or "
        "name another variable with --mlperf-endpoint-token-env NAME"
    )


def models(
    address: Address, headers: Mapping[str, str], key_name: str
) -> tuple[str, ...] | None:
    """Return the models that an endpoint lists; None where it has no list.

    Raises ``Refused`` for anything but a list.
    """
    said = get(address, MODELS, headers)
    admit(address, MODELS, said, headers, key_name)
    if said.status in NO_PATH:
        return None
    try:
        listed = json.loads(said.body)["data"]
        names = tuple(str(one["id"]) for one in listed)
    except (ValueError, TypeError, KeyError, RecursionError):
        names = ()
    if said.status != http.client.OK or not names:
        raise Refused(
            f"{address.url}{MODELS}: found {said.shown}, but should be a list of the "
            "models that an OpenAI-compatible server has; correct the URL (without "
            "/v1), or look into the server's log"
        )
    return names


def chosen(
    wanted: str, address: Address, served: Iterable[str] | None, taken: str
) -> str:
    """Return the model to ask for: the one that is wanted, or the only one served.

    ``taken``: what the endpoints before this one serve. Raises ``Refused``.
    """
    if served is None:
        if wanted or taken:
            return wanted or taken
        raise Refused(
            f"{address.url}{MODELS}: not there (404), but should list the models; "
            "correct the URL, or name the model with --mlperf-endpoint-model NAME"
        )
    names = tuple(served)
    asked = wanted or taken
    if asked and asked not in names:
        whose = "" if wanted else " (what the other endpoints serve)"
        raise Refused(
            f"{address.url} does not serve the model {asked!r}{whose}; it serves "
            f"{', '.join(map(repr, names))}.{suggest(asked, names)} Name one with "
            "--mlperf-endpoint-model NAME"
        )
    if not asked and len(names) > 1:
        raise Refused(
            f"{address.url} serves {', '.join(map(repr, names))}; say which is meant "
            "with --mlperf-endpoint-model NAME"
        )
    return asked or names[0]
