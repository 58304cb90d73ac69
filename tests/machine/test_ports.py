"""Ports for servers that another process starts a moment later."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from pytest_mlperf.machine import ports
from pytest_mlperf.machine.ports import HOST
from pytest_mlperf.machine.ports import find_free_port
from pytest_mlperf.machine.ports import is_port_free


def test_no_other_server_gets_the_port_meanwhile() -> None:
    """The kernel hands it neither to a server of any port nor to a client."""
    found = {find_free_port() for _ in range(200)}
    with ExitStack() as stack:
        given = {
            stack.enter_context(socket.create_server((HOST, 0))).getsockname()[1]
            for _ in range(200)
        }

    assert not found & given
    assert all(map(is_port_free, found))
    assert max(found) < ports._lowest_outgoing() <= min(given)


@pytest.mark.parametrize("text", ["", "1024\t65535\n", "no numbers"])
def test_without_ports_below_any_free_one_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    outgoing = tmp_path / "ip_local_port_range"
    outgoing.write_text(text, "ascii")
    monkeypatch.setattr(ports, "OUTGOING", outgoing)

    assert is_port_free(find_free_port())


def test_a_port_at_which_a_server_listens_is_not_free() -> None:
    with socket.create_server((HOST, 0)) as server:
        assert not is_port_free(server.getsockname()[1])
