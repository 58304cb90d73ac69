"""Checks of an endpoint before a run: is it healthy, which models does it serve?

Blocking. Every mistake that a user can make has a message of its own here, before
LoadGen starts.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterable
from collections.abc import Mapping
from contextlib import closing
from contextlib import suppress
from dataclasses import dataclass

from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.config.option_types import suggest
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.redaction import cut
from pytest_mlperf.services.http.address import Address
from pytest_mlperf.services.http.http1 import BadResponse
from pytest_mlperf.services.http.http1 import ResponseReader

TIMEOUT_S = 10.0
CLOSES_S = 0.1
"""How soon a server closes that closes after every answer."""
SHOWN_CHARACTERS = 200
MOST_BYTES = 1 << 22
"""Bytes of a reply that are read, at most."""
HEALTH = "/health"
MODELS = "/v1/models"
NO_KEY = (401, 403)
NO_PATH = (404, 405, 501)


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An endpoint's reply to a GET."""

    status: int
    body: bytes
    location: str = ""
    """Where a redirect points."""

    @property
    def shown(self) -> str:
        """Status and the beginning of the body, for a message."""
        text = cut(self.body, SHOWN_CHARACTERS).strip()
        status = f"HTTP {self.status}"
        if self.location:
            where = cut(self.location, SHOWN_CHARACTERS)
            status += f" to {where} (redirects are not followed)"
        return f"{status}: {text}" if text else status


def send_get(address: Address, path: str, headers: Mapping[str, str]) -> HttpReply:
    """Return the reply to a GET; raises ``RunRefused`` where no HTTP server replies."""
    where = f"{address.url}{path}"
    try:
        # Connected as the client does it: with the address's own TLS context.
        plain = socket.create_connection(
            (address.host, address.port), timeout=TIMEOUT_S
        )
        with plain:
            wrapped = plain
            if address.context is not None:
                host = address.host
                wrapped = address.context.wrap_socket(plain, server_hostname=host)
            with closing(http.client.HTTPConnection(address.host)) as connection:
                connection.sock = wrapped
                fields = {**headers, "Host": address.authority}
                connection.request("GET", f"{address.base}{path}", headers=fields)
                reply = connection.getresponse()
                location = reply.getheader("Location") or ""
                return HttpReply(reply.status, reply.read(MOST_BYTES), location)
    except ssl.SSLCertVerificationError as error:
        raise RunRefused(
            f"{where}: the certificate is not trusted ({error.verify_message}); name "
            "the file of the authority that signed it with --mlperf-endpoint-ca FILE"
        ) from None
    except ssl.SSLError as error:
        raise RunRefused(
            f"{where}: no TLS there ({error.reason or error}); write http:// if the "
            "server speaks without it"
        ) from None
    except (http.client.HTTPException, ValueError) as error:
        if is_http2(str(error)):
            raise RunRefused(
                f"{where}: the server, or a proxy before it, speaks HTTP/2 alone, but "
                "should speak HTTP/1.1; switch that on there, or name another port"
            ) from None
        raise RunRefused(
            f"{where}: found no HTTP server ({type(error).__name__}: {error}), but "
            "should be an OpenAI-compatible one; correct the URL or its port"
        ) from None
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise RunRefused(
            f"{where}: nobody answers ({why}); start the server, or correct the URL "
            "(--mlperf-endpoint)"
        ) from None


def is_http2(line: str) -> bool:
    """Return whether what came in place of a status line is an HTTP/2 frame of
    settings, which opens a connection: 3 bytes of size, then type 4, no flag, stream 0.
    """
    return line[3:9] == "\x04" + "\0" * 5


def ask_endpoint(
    address: Address, target: ServiceTarget
) -> tuple[str, tuple[str, ...] | None]:
    """Return what an endpoint's health page says instead of 200, and its models.

    Not every server has such a page, and behind a gateway it may be another's: a list
    of models is enough, unless the user named the page. Raises ``RunRefused`` for an
    endpoint that is not healthy or refuses the key.
    """
    headers, key_name = target.headers, target.key_name
    path = target.health or HEALTH
    health = send_get(address, path, headers)
    check_key(address, path, health, headers, key_name)
    is_healthy = health.status == http.client.OK
    if target.health and not is_healthy:
        raise RunRefused(
            f"{address.url}{path}: found {health.shown}, but should be 200; wait until "
            "the server has loaded its model, look into its log, or correct "
            "--mlperf-endpoint-health"
        )
    served = list_models(address, headers, key_name)
    if served is None and health.status >= http.client.INTERNAL_SERVER_ERROR:
        raise RunRefused(
            f"{address.url}{path}: found {health.shown}, but should be 200, and there "
            f"is no {MODELS} either; wait until the server has loaded its model, look "
            "into its log, or name its health page with --mlperf-endpoint-health PATH"
        )
    return "" if is_healthy else f"{path}: {health.shown}", served


def keeps_connection(address: Address, request: bytes, limit_s: float) -> bool:
    """Return whether an endpoint leaves a connection open after an answer.

    One that closes it without ``Connection: close`` races with the next request, and
    loses it. True where that cannot be found out: then the runs tell.
    """
    with suppress(OSError, BadResponse), address.connect(TIMEOUT_S) as connected:
        connected.settimeout(limit_s)
        connected.sendall(request)
        response = ResponseReader()
        while not response.ended:
            if not (data := connected.recv(MOST_BYTES)):
                return True  # half an answer: no question of keeping
            response.feed(data)
        if not response.keep:
            return True  # it says so
        connected.settimeout(CLOSES_S)
        try:
            return bool(connected.recv(1))
        except ConnectionResetError:
            return False
    return True


def check_key(
    address: Address,
    path: str,
    reply: HttpReply,
    headers: Mapping[str, str],
    key_name: str,
) -> None:
    """Raise ``RunRefused`` for a reply that demands another key."""
    if reply.status not in NO_KEY:
        return
    what = f"the endpoint wants a key, and the environment variable {key_name} has none"
    if "Authorization" in headers:
        what = f"the endpoint refuses the key in the environment variable {key_name}"
    raise RunRefused(
        f"{address.url}{path}: HTTP {reply.status}: {what}; put the right one there, "
        "or name another variable with --mlperf-endpoint-token-env NAME"
    )


def list_models(
    address: Address, headers: Mapping[str, str], key_name: str
) -> tuple[str, ...] | None:
    """Return the models that an endpoint lists; None where it has no such page.

    Raises ``RunRefused`` for a malformed list.
    """
    reply = send_get(address, MODELS, headers)
    check_key(address, MODELS, reply, headers, key_name)
    if reply.status in NO_PATH:
        return None
    try:
        listed = json.loads(reply.body)["data"]
        names = tuple(str(one["id"]) for one in listed)
    except (ValueError, TypeError, KeyError, RecursionError):
        names = ()
    if reply.status != http.client.OK or not names:
        remedy = "correct the URL (without /v1), or look into the server's log"
        if reply.status == http.client.SERVICE_UNAVAILABLE:
            remedy = (
                "wait until the server has loaded its model before the session, let a "
                "[server] table of the system file start it, which waits, or look into "
                "its log"
            )
        raise RunRefused(
            f"{address.url}{MODELS}: found {reply.shown}, but should be a list of the "
            f"models that an OpenAI-compatible server has; {remedy}"
        )
    return names


def choose_model(
    wanted: str, address: Address, served: Iterable[str] | None, others: str
) -> str:
    """Return the model to ask for: the wanted one, or the only one served.

    ``others``: the model of the endpoints before this one. Raises ``RunRefused``.
    """
    if served is None:
        if wanted or others:
            return wanted or others
        raise RunRefused(
            f"{address.url}{MODELS}: not there (404), but should list the models; "
            "correct the URL, or name the model with --mlperf-endpoint-model NAME"
        )
    names = tuple(served)
    asked = wanted or others
    if asked and asked not in names:
        whose = "" if wanted else " (what the other endpoints serve)"
        raise RunRefused(
            f"{address.url} does not serve the model {asked!r}{whose}; it serves "
            f"{', '.join(map(repr, names))}.{suggest(asked, names)} Name one with "
            "--mlperf-endpoint-model NAME"
        )
    if not asked and len(names) > 1:
        raise RunRefused(
            f"{address.url} serves {', '.join(map(repr, names))}; say which is meant "
            "with --mlperf-endpoint-model NAME"
        )
    return asked or names[0]
