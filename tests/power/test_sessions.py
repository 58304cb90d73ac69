"""Both sides of a power session on loopback, with simulated meters."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.core.power.readings import read_readings
from pytest_mlperf.core.submission.check.listing import Listing
from pytest_mlperf.core.submission.check.power_time import session_problems
from pytest_mlperf.machine.ports import find_free_port
from pytest_mlperf.power.client import PowerClient
from pytest_mlperf.power.line_socket import LineSocket
from pytest_mlperf.power.line_socket import PowerFailed
from pytest_mlperf.power.record import CLIENT_HELLO
from pytest_mlperf.power.record import SERVER_HELLO
from tests.support.power_sessions import RUN_S
from tests.support.power_sessions import write_run
from tests.support.power_stand import make_config
from tests.support.power_stand import serve_director
from tests.support.power_stand import serve_ntp

HOST = "127.0.0.1"


@pytest.fixture
def ntp() -> Iterator[str]:
    with serve_ntp() as address:
        yield address


def measure_both(client: PowerClient, folder: Path) -> Path:
    for phase in ("ranging", "testing"):
        with client.phase(phase):
            time.sleep(RUN_S)
            client.keep_logs(phase, write_run(folder / f"loadgen-{phase}"))
    return client.finish()


def read_server(folder: Path) -> dict[str, Any]:
    text = (folder / "power/server.json").read_text("utf-8")
    record: dict[str, Any] = json.loads(text)
    return record


@pytest.mark.parametrize(
    ("device_type", "channels", "meters", "watts"),
    [(49, (), 1, 230), (48, (3,), 1, 230), (77, (1, 2), 1, 230), (549, (), 1, 230),
     (49, (), 2, 460)],
)  # fmt: skip
def test_a_whole_session_is_what_the_rules_ask_for(
    tmp_path: Path, ntp: str, device_type: int, channels: tuple[int, ...], meters: int,
    watts: float,
) -> None:  # fmt: skip
    """But for the code that measured, which is ours and says so. Watts of several
    meters are added; of the channels of one the meter gives the sum.
    """
    config = make_config(
        tmp_path, ntp, device_type=device_type, channels=channels, meters=meters
    )
    told: list[str] = []
    with (
        serve_director(config, told) as port,
        PowerClient(HOST, port, ntp, tmp_path / "session", "a-label") as client,
    ):
        folder = measure_both(client, tmp_path)
    found = list(session_problems(Listing.of(tmp_path), "session", "v6.1"))
    readings = list(read_readings(folder / "run_1/spl.txt"))
    commands = [m["cmd"] for m in read_server(folder)["ptd_messages"]]

    # The checker counts Stops over all meters, and takes the second meter's for wrong.
    extra = ["power_meter"] * 2 if meters == 2 else []
    assert [p.rule for p in found] == [*["power_sources"] * 2, *extra]
    assert {reading.watts for reading in readings} == {watts}
    assert commands.count("SR,V,300.000000") == meters  # the range before
    assert folder.joinpath("run_1/ptd_out.txt").read_text().count("Power:") == meters
    assert not any("broken off" in line for line in told)


def test_the_tested_run_has_the_ranges_that_ranging_found(
    tmp_path: Path, ntp: str
) -> None:
    """The most volts, and a tenth more than the most amperes (power-dev's server)."""
    config = make_config(tmp_path, ntp)
    with (
        serve_director(config, []) as port,
        PowerClient(HOST, port, ntp, tmp_path / "session") as client,
    ):
        folder = measure_both(client, tmp_path)
    commands = [m["cmd"] for m in read_server(folder)["ptd_messages"]]
    after = commands[[c.startswith("Go,") for c in commands].index(True) + 1 :]
    volts, amps, *_ = [c for c in after if c.startswith("SR,")]

    assert volts == "SR,V,230.000000"
    assert float(amps.removeprefix("SR,A,")) == pytest.approx(1.1 * 1.020408)


def test_a_client_that_is_gone_leaves_the_meter_as_it_was(
    tmp_path: Path, ntp: str
) -> None:
    """The director restores the ranges, and serves the next client."""
    config = make_config(tmp_path, ntp)
    told: list[str] = []
    with serve_director(config, told) as port:
        client = PowerClient(HOST, port, ntp, tmp_path / "first")
        with pytest.raises(RuntimeError), client, client.phase("ranging"):
            raise RuntimeError("the run failed")
        with PowerClient(HOST, port, ntp, tmp_path / "second") as client:
            measure_both(client, tmp_path)

    assert any("was broken off" in line for line in told)
    assert (tmp_path / "second/power/server.json").is_file()


@pytest.mark.parametrize(
    ("setting", "words"),
    [("SIM_FAULT=start", "PTDaemon ended with status 1: .*no analyzer found"),
     ("SIM_FAULT=range", "range V Auto was answered 'Error: range is not available'"),
     ("SIM_FAULT=silent", "does not measure: 'Error: meter does not answer'")],
)  # fmt: skip
def test_what_the_meter_cannot_do_is_told_to_the_client(
    tmp_path: Path, ntp: str, setting: str, words: str
) -> None:
    """With the meter's own words."""
    config = make_config(tmp_path, ntp, setting)
    with (
        serve_director(config, []) as port,
        PowerClient(HOST, port, ntp, tmp_path / "session") as client,
        pytest.raises(PowerFailed, match=words),
        client.phase("ranging"),
    ):
        pytest.fail("nothing is measured")


@pytest.mark.parametrize("offset_s", [0.6, -0.6])
def test_a_clock_that_is_off_is_no_measurement(tmp_path: Path, offset_s: float) -> None:
    """Beyond 400 ms of the NTP server's: two such clocks would pass the 800 ms."""
    with serve_ntp() as right, serve_ntp(offset_s) as wrong:
        config = make_config(tmp_path, right)
        with serve_director(config, []) as port, pytest.raises(PowerFailed) as failed:
            PowerClient(HOST, port, wrong, tmp_path / "session").__enter__()

    words = re.search(r"clock is ([+-]\d+) ms from", str(failed.value))
    assert words
    assert int(words[1]) == pytest.approx(offset_s * 1000, abs=150)
    assert "should be within 400 ms" in str(failed.value)


def test_clocks_are_compared_before_and_after_each_run(
    tmp_path: Path, ntp: str
) -> None:
    """With the NTP server and with the director: a step during a run is found."""
    config = make_config(tmp_path, ntp)
    with (
        serve_director(config, []) as port,
        PowerClient(HOST, port, ntp, tmp_path / "session") as client,
    ):
        folder = measure_both(client, tmp_path)
    lines = (folder / "power/client.log").read_text("utf-8").splitlines()
    order = [
        "clock" if "NTP: offset" in line else line.rpartition(",")[2].rstrip("'")
        for line in lines
        if "NTP: offset" in line or "'session," in line
    ]

    assert order == [
        "clock", "clock", "ranging", "clock", "clock", "ranging", "clock",
        "clock", "testing", "clock", "clock", "testing", "clock",
    ]  # fmt: skip
    assert sum("director's clock" in line for line in lines) == order.count("clock")


def test_orders_out_of_their_order_are_refused(tmp_path: Path, ntp: str) -> None:
    """Each is answered, and the conversation goes on."""
    config = make_config(tmp_path, ntp)
    uuid = "56a4d881-4d7c-4a84-a7b8-c40515ad068d"
    with (
        serve_director(config, []) as port,
        LineSocket.connect(HOST, port, "the director", 10) as line,
    ):
        assert line.ask(CLIENT_HELLO) == SERVER_HELLO
        early = line.ask("session,x,start,ranging")
        label = line.ask(f"new,a b,{uuid}")
        who = line.ask("new,,nobody")
        name = line.ask(f"new,,{uuid}").removeprefix("OK ").partition(",")[0]
        answers = [
            line.ask(f"session,{name},{order}")
            for order in ("start,testing", "stop,ranging", "done", "dance")
        ]
        other = line.ask("download,other,power/server.json")
        file = line.ask(f"download,{name},../../etc/passwd")

    assert (early, label) == ("Error: unknown session", "Error: invalid label")
    assert who.startswith("Error: ")
    assert [a.startswith("Error: ") for a in answers] == [True] * 4
    assert other == file == "Error: unknown command"


@contextmanager
def serve_lines(answer: Callable[[str], str]) -> Iterator[int]:
    """Serve one connection that answers each line as it is told; yield its port."""

    def serve() -> None:
        connection, _ = server.accept()
        with LineSocket(connection, "the client", 60) as line, suppress(PowerFailed):
            while True:
                line.send(answer(line.receive()))

    with socket.create_server((HOST, 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_somebody_else_at_the_port_is_told_apart(tmp_path: Path, ntp: str) -> None:
    """A director that is not there, and a server that is none."""
    port = find_free_port()
    with pytest.raises(PowerFailed, match="does not answer at 127"):
        PowerClient(HOST, port, ntp, tmp_path / "session").__enter__()
    words = "said 'HTTP/1.1 400', but should say 'mlcommons/power server v3'"
    with (
        serve_lines(lambda _: "HTTP/1.1 400") as port,
        pytest.raises(PowerFailed, match=words),
    ):
        PowerClient(HOST, port, ntp, tmp_path / "session").__enter__()


def test_a_director_that_begins_no_session_is_asked_why(
    tmp_path: Path, ntp: str
) -> None:
    """Its reply is shown, and nothing is left of the session."""

    def answer(line: str) -> str:
        known = {CLIENT_HELLO: SERVER_HELLO, "time": str(time.time())}
        return known.get(line, "Error: the disk is full")

    words = "began no session: 'Error: the disk is full'; its log says why"
    with serve_lines(answer) as port, pytest.raises(PowerFailed, match=words):
        PowerClient(HOST, port, ntp, tmp_path / "session").__enter__()

    assert not (tmp_path / "session" / "power").exists()


def test_a_server_at_a_meter_s_port_is_no_ptdaemon(tmp_path: Path, ntp: str) -> None:
    """PTDaemon cannot listen there, ends, and what it said is told."""
    config = make_config(tmp_path, ntp)
    port = config.analyzers[0].network_port

    def hang_up() -> None:
        while True:
            try:
                server.accept()[0].close()
            except OSError:  # closed
                return

    words = f"port {port} said '', but should say .*Address already in use"
    with socket.create_server((HOST, port)) as server:
        thread = threading.Thread(target=hang_up)
        thread.start()
        try:
            with (
                serve_director(config, []) as director,
                PowerClient(HOST, director, ntp, tmp_path / "session") as client,
                pytest.raises(PowerFailed, match=words),
                client.phase("ranging"),
            ):
                pytest.fail("nothing is measured")
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
