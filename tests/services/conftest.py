"""A runner, and real small endpoints for the tests of services."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import Runner
from tests.support import service_doubles
from tests.support.endpoint_double import EndpointDouble
from tests.support.endpoint_double import ServeEndpoint
from tests.support.endpoint_double import serve_endpoint
from tests.support.service_doubles import MakeTask


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """One child for the module; a failed run ends it, and the next one starts it."""
    runner = Runner(stall_s=60, build_s=120)
    yield runner
    runner.close()


@pytest.fixture
def serve() -> Iterator[ServeEndpoint]:
    """Starts endpoints, which end with the test; arguments as ``serve_endpoint``."""
    with ExitStack() as stack:

        def start(*args: Any, **options: Any) -> EndpointDouble:
            return stack.enter_context(serve_endpoint(*args, **options))

        yield start


@pytest.fixture
def make_task(tmp_path: Path) -> MakeTask:
    """Makes tasks with a folder of the test's; see ``service_doubles.make_task``."""

    def make(urls: Sequence[str], *args: Any, folder: str = "", **options: Any) -> Task:
        return service_doubles.make_task(tmp_path / folder, urls, *args, **options)

    return make


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for localhost, with its key in the same file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    key = path.with_name("key.pem")
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", key, "-out", path],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl cannot make a certificate; install openssl 1.1.1 or newer")
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path
