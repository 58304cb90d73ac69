"""Redis: the tier that several machines share, by the package redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_mlperf.embedding.packages import import_package

TIMEOUT_S = 5.0


class RedisStore:
    """One Redis server, named by its URL; keys have a prefix."""

    def __init__(self, url: str, prefix: bytes = b"mlperf:") -> None:
        package = import_package("redis", "Redis")
        self._client: Any = package.Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )
        place = self._client.connection_pool.connection_kwargs
        # Never the URL itself: it may have a password.
        self.name = f"Redis {place.get('host', '')}:{place.get('port', '')}"
        self._prefix = prefix
        self._errors = (package.RedisError, OSError)

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        return self._errors

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        prefix = self._prefix
        found: list[bytes | None] = self._client.mget([prefix + key for key in keys])
        return found

    def put_many(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        prefix = self._prefix
        pairs = zip(keys, values, strict=True)
        self._client.mset({prefix + key: value for key, value in pairs})

    def close(self) -> None:
        self._client.close()
