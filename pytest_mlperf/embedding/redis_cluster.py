"""A Redis cluster: rows in partitions, each on one of its nodes.

A cluster refuses a command whose keys are on several nodes. So a key has the number of
its partition in braces, which alone decides about the node, and a lookup is one MGET
for each partition, all of them sent before the first answer is awaited.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.embedding.packages import import_package
from pytest_mlperf.embedding.redis_server import TIMEOUT_S

PARTITIONS = 256
"""More than a cluster has nodes, so that these have like numbers of rows; few enough
that an MGET has many keys."""
SCHEME = "redis-cluster://"


class ClusterStore:
    """All nodes of a cluster, found by the URL of one."""

    def __init__(self, url: str, prefix: bytes = b"mlperf") -> None:
        cluster = import_package("redis.cluster", "Redis")
        backoff = import_package("redis.backoff", "Redis")
        retry = import_package("redis.retry", "Redis")
        # A failover takes a second or more; a node that stays away is named.
        self._client: Any = cluster.RedisCluster.from_url(
            "redis://" + url.removeprefix(SCHEME),
            retry=retry.Retry(backoff.ConstantBackoff(0.5), 3),
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
        )
        nodes = sorted(node.name for node in self._client.get_primaries())
        # Never the URL itself: it may have a password.
        self.name = f"Redis cluster of {len(nodes)} nodes ({nodes[0]} …)"
        self._prefix = prefix
        self._errors = find_errors()

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        return self._errors

    def _name_keys(self, keys: Sequence[bytes]) -> dict[int, tuple[list[int], Any]]:
        """Return for each partition the places of its keys, and their names."""
        parts: dict[int, tuple[list[int], Any]] = {}
        for place, key in enumerate(keys):
            # The last bytes of a row's number: neighbors are on different nodes.
            number = int.from_bytes(key[-4:], "big") % PARTITIONS
            places, names = parts.setdefault(number, ([], []))
            places.append(place)
            names.append(b"{%b%d}%b" % (self._prefix, number, key))
        return parts

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        parts = self._name_keys(keys).values()
        with self._client.pipeline() as calls:
            for _, names in parts:
                calls.execute_command("MGET", *names)
            answers = calls.execute()
        found: list[bytes | None] = [None] * len(keys)
        for (places, _), values in zip(parts, answers, strict=True):
            for place, value in zip(places, values, strict=True):
                found[place] = value
        return found

    def put_many(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        with self._client.pipeline() as calls:
            for places, names in self._name_keys(keys).values():
                rows = (values[place] for place in places)
                calls.execute_command("MSET", *chain(*zip(names, rows, strict=True)))
            calls.execute()

    def close(self) -> None:
        self._client.close()


def find_errors() -> tuple[type[Exception], ...]:
    """Return what the client raises: one of its errors is no RedisError."""
    package = import_package("redis.exceptions", "Redis")
    return package.RedisError, package.RedisClusterException, OSError


def open_cluster(url: str) -> ClusterStore:
    """Open a cluster; ``BuildFailed`` where none of its nodes answers."""
    try:
        return ClusterStore(url)
    except find_errors() as error:
        host = url.removeprefix(SCHEME).rpartition("@")[2]
        raise BuildFailed(
            f"the Redis cluster at {host} cannot be opened: {error}; see that it runs, "
            "that all slots are served (redis-cli cluster info), and that it was "
            "started with cluster-enabled; a single server is redis://HOST:PORT"
        ) from error
