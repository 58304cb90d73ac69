"""RocksDB and Redis behind the cache: whole rows, named failures, nothing lost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.benchmarks.recommender.embedded import open_embedded
from pytest_mlperf.embedding.bare import sum_rows
from pytest_mlperf.embedding.protocol import StoreFailed
from pytest_mlperf.embedding.shared_store import close_store
from pytest_mlperf.embedding.shared_store import open_store
from pytest_mlperf.engines.onnxruntime import ONNXRUNTIME
from pytest_mlperf.machine.ports import find_free_port
from tests.support.recommenders import make_tables
from tests.support.recommenders import open_database
from tests.support.redis_server import RedisCluster
from tests.support.redis_server import RedisServer

KEYS = st.lists(st.integers(0, 102), min_size=1, max_size=40)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("lookup"), KEYS),
        st.tuples(st.just("update"), KEYS.map(lambda keys: sorted(set(keys)))),
    ),
    max_size=8,
)

WRITER = """
import sys
from pathlib import Path
import numpy as np
from tests.support.recommenders import make_tables
from tests.support.recommenders import open_database
tables, rows = make_tables(Path(sys.argv[1]))
source = open_database(tables, sys.argv[2])
keys = np.arange(103)
for version in range(1, 100000):
    source.update(keys, rows + 1000 * version)
    print(version, flush=True)
"""
"""Rewrites all rows again and again, and prints each version that is durable."""


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    pytest.importorskip("redis")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    pytest.importorskip("redis")
    servers = RedisCluster(tmp_path_factory.mktemp("cluster"))
    yield servers
    servers.kill()


@pytest.fixture(params=["rocksdb", "redis", "cluster"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database as the option names it."""
    if request.param == "rocksdb":
        pytest.importorskip("rocksdict")
        return f"rocksdb:{tmp_path / 'rows'}"
    server: RedisServer | RedisCluster = request.getfixturevalue(request.param)
    return server.url


def test_a_lookup_returns_what_was_written_last_through_three_tiers(
    place: str, tmp_path: Path
) -> None:
    """Cache, host memory and database agree after any steps."""
    tables, rows = make_tables(tmp_path)
    written = rows.copy()
    options = {"database": place, "host_share": "0.3", "gpucacheper": "0.1"}
    store = open_store(tables, options)

    @settings(max_examples=10)
    @given(STEPS)
    def run(steps: list[tuple[str, list[int]]]) -> None:
        for number, (step, listed) in enumerate(steps):
            keys = np.array(listed)
            if step == "update":
                written[keys] = keys[:, None] + 1000 * (number + 1)
                store.update(keys, written[keys])
            else:
                assert store.lookup(keys).tolist() == written[keys].tolist()

    run()
    store.update(np.arange(103), rows)
    store.lookup(np.arange(103))
    facts = store.facts
    close_store(store)

    assert [*facts] == [
        "embedding cache",
        "embedding host memory",
        next(name for name in facts if "R" in name),
    ]


def test_a_database_is_filled_once_and_never_with_other_tables(
    place: str, tmp_path: Path
) -> None:
    """What was updated is there after opening again; other tables are refused."""
    tables, rows = make_tables(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    others, _ = make_tables(other, sizes=(5,))
    first = open_database(tables, place)
    first.update(np.array([7]), rows[:1] - 1)
    first.close()

    again = open_database(tables, place)
    found = again.fetch(np.array([7, 8]))
    again.update(np.array([7]), rows[7:8])
    again.close()

    assert found[:, 0].tolist() == [-1, 8]
    with pytest.raises(BuildFailed, match="holds other tables"):
        open_database(others, place)


def test_a_killed_writer_loses_nothing_that_was_acknowledged(
    place: str, tmp_path: Path
) -> None:
    """SIGKILL in the middle of writes: the database opens, no row is torn or old."""
    tables, rows = make_tables(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), place],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(20)]
        writer.kill()
        lines += writer.stdout.readlines()
    acknowledged = int([line for line in lines if line.strip()][-1])

    source = open_database(tables, place)
    found = source.fetch(np.arange(103))
    source.update(np.arange(103), rows)
    source.close()

    assert (found == found[:, :1]).all()
    versions = (found - rows) / 1000
    assert versions.min() >= acknowledged


def test_a_killed_redis_is_named_and_has_everything_when_it_is_back(
    redis: RedisServer, tmp_path: Path
) -> None:
    """The lookup fails with the server's address; then it answers again."""
    tables, rows = make_tables(tmp_path)
    source = open_database(tables, redis.url)
    source.update(np.array([3]), rows[:1] - 5)
    redis.kill()

    with pytest.raises(StoreFailed, match=rf"Redis 127.0.0.1:{redis.port} failed: "):
        source.fetch(np.array([3]))
    redis.start()
    found = source.fetch(np.array([3, 4]))
    source.update(np.array([3]), rows[3:4])
    source.close()

    assert found[:, 0].tolist() == [-5, 4]


def test_a_redis_that_is_killed_in_a_run_ends_the_session_with_its_name(
    redis: RedisServer, tmp_path: Path
) -> None:
    """The item fails in words, without a traceback; no row is lost."""
    tables = open_embedded("dlrm").model.embedding
    assert tables is not None
    clear_redis(redis)
    reports = tmp_path / "reports"
    command = [
        sys.executable, "-m", "pytest", "suites", "-n", "0", "-p", "no:cacheprovider",
        "-k", "dlrm-99 and not 99.9 and offline and performance",
        "--mlperf-duration", "30", "--mlperf-time-limit", "1000",
        "--mlperf-target-qps", "1000", "--mlperf-batch", "8", "--mlperf-streams", "1",
        "--mlperf-engine-options", f"database={redis.url},gpucacheper=0.05",
        "--mlperf-reports", str(reports), "--mlperf-cache", str(tmp_path / "cache"),
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as session:
        wait_for_run(session, reports)
        redis.kill()
        shown, _ = session.communicate(timeout=300)
    redis.start()
    source = open_database(tables, redis.url)
    found = source.fetch(np.arange(tables.rows))
    source.close()
    clear_redis(redis)

    assert session.returncode == 1
    assert f"phase run: Redis 127.0.0.1:{redis.port} failed: " in shown
    assert "rows that were written are not lost" in shown
    assert "Traceback" not in shown
    assert found.tolist() == np.load(tables.path).tolist()


def clear_redis(redis: RedisServer) -> None:
    """Other tests have other tables."""
    from redis import Redis

    with Redis(port=redis.port) as client:
        client.flushall()


def wait_for_run(session: subprocess.Popen[str], reports: Path) -> None:
    """Return when LoadGen has issued the query: it is written to the log at once."""
    ends = time.monotonic() + 300
    while time.monotonic() < ends and session.poll() is None:
        for log in reports.glob("*/logs/*/performance/mlperf_log_detail.txt"):
            if b"generated_query_count" in log.read_bytes():
                return
        time.sleep(0.05)


def test_no_row_of_a_database_is_torn_by_an_update(place: str, tmp_path: Path) -> None:
    """While one thread rewrites rows, another sees each of them whole."""
    tables, rows = make_tables(tmp_path, dimension=4)
    source = open_database(tables, place)
    keys, stop = np.arange(103), threading.Event()

    def rewrite() -> None:
        version = 0
        while not stop.is_set():
            version += 1
            source.update(keys, np.full_like(rows, version))

    writer = threading.Thread(target=rewrite)
    writer.start()
    found, versions = list[Array](), set[float]()
    ends = time.monotonic() + 60
    # However slowly the writer comes to its turns: some of them are seen.
    while len(found) < 40 or (len(versions) < 3 and time.monotonic() < ends):
        found.append(source.fetch(keys))
        versions.add(float(found[-1][0, 0]))
    stop.set()
    writer.join()
    source.update(keys, rows)
    source.close()

    assert all((one == one[:, :1]).all() for one in found)
    assert len(versions) > 1


@pytest.mark.parametrize("is_cluster", [False, True], ids=["server", "cluster"])
def test_a_server_killed_in_the_middle_of_lookups_ends_them_with_its_name(
    request: pytest.FixtureRequest, tmp_path: Path, *, is_cluster: bool
) -> None:
    """Rows that were read before the kill are right; none is a default vector."""
    servers = request.getfixturevalue("cluster" if is_cluster else "redis")
    tables, rows = make_tables(tmp_path)
    store = open_store(tables, {"database": servers.url, "gpucacheper": "0.1"})
    node = servers.nodes[2] if is_cluster else servers
    killer = threading.Thread(target=node.kill)
    random = np.random.default_rng(1)
    wrong: list[int] = []

    def look_up() -> None:
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            keys = random.integers(0, 103, 60)
            wrong.append(int((store.lookup(keys) != rows[keys]).sum()))
            if len(wrong) == 20:
                killer.start()

    with pytest.raises(StoreFailed, match=r"Redis .* failed: "):
        look_up()
    killer.join()
    node.start()
    if is_cluster:
        servers.wait()
    found = store.lookup(np.arange(103))
    close_store(store)

    assert sum(wrong) == 0
    assert len(wrong) > 1
    assert found.tolist() == rows.tolist()


def test_a_killed_node_is_named_and_the_cluster_has_everything_when_it_is_back(
    cluster: RedisCluster, tmp_path: Path
) -> None:
    """No row of the nodes that are left stands for one that is away."""
    tables, rows = make_tables(tmp_path)
    keys = np.arange(103)
    source = open_database(tables, cluster.url)
    source.update(keys, rows - 5)
    cluster.nodes[1].kill()

    with pytest.raises(StoreFailed, match=r"Redis cluster of 3 nodes .* failed: "):
        source.fetch(keys)
    cluster.nodes[1].start()
    cluster.wait()
    found = source.fetch(keys)
    source.update(keys, rows)
    source.close()

    assert found.tolist() == (rows - 5).tolist()


def test_a_cluster_that_nobody_serves_is_named(tmp_path: Path) -> None:
    """Without the password that the URL may have."""
    pytest.importorskip("redis")
    url = f"redis-cluster://:secret@127.0.0.1:{find_free_port()}"

    with pytest.raises(BuildFailed, match=r"cluster at 127\.0\.0\.1:.* cannot") as info:
        open_database(make_tables(tmp_path)[0], url)
    assert "secret" not in str(info.value)


def test_streams_share_a_store_and_the_engine_answers_from_the_database(
    place: str, tmp_path: Path
) -> None:
    """Two streams of one build, each pair's vectors those of the file."""
    if place.startswith("redis"):
        pytest.skip("the server has the rows of the other tests")
    workload = open_embedded("dlrm")
    options = {"database": place, "host_share": "0.5"}
    build = ONNXRUNTIME.build(BuildRequest(workload, "fp32", tmp_path, options))
    streams = [ONNXRUNTIME.open(build, 1) for _ in range(2)]
    tables, batch = workload.model.embedding, workload.dataset.gather([0, 1])
    assert tables is not None
    store = open_store(tables, options)

    vectors = store.lookup_batch(batch["keys"])
    scores = [stream.infer(batch, 2)[0] for stream in streams]
    close_store(store)
    for stream in streams:
        stream.close()

    expected = sum_rows(np.load(tables.path).astype(np.float32), tables, batch["keys"])
    assert vectors.tolist() == expected.tolist()
    assert scores[0].tolist() == scores[1].tolist()


def test_a_row_that_somebody_deleted_is_named(tmp_path: Path) -> None:
    """A hole is no default vector."""
    rocksdict = pytest.importorskip("rocksdict")
    tables, _ = make_tables(tmp_path)
    folder = tmp_path / "rows"
    open_database(tables, f"rocksdb:{folder}").close()
    database = rocksdict.Rdict(str(folder), rocksdict.Options(raw_mode=True))
    database.delete((5).to_bytes(8, "big"))
    database.close()
    source = open_database(tables, f"rocksdb:{folder}")

    with pytest.raises(StoreFailed, match=r"no row for 1 of 2 keys \(first: 5\)"):
        source.fetch(np.array([4, 5]))
    source.close()
