"""The director's configuration: read, written, and what is wrong with one."""

from __future__ import annotations

import configparser
import socket
from pathlib import Path

import pytest

from pytest_mlperf.commands.main import main
from pytest_mlperf.config.options import Given
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.power.meters import METERS
from pytest_mlperf.core.power.meters import find_device_type
from pytest_mlperf.machine.ports import find_free_port
from pytest_mlperf.power.config import Analyzer
from pytest_mlperf.power.config import DirectorConfig
from pytest_mlperf.power.config import find_ports_in_use
from pytest_mlperf.power.config import format_config
from pytest_mlperf.power.config import read_config

PTD = ["--ptd", "/usr/bin/ptd", "--ntp", "ntp.local"]
TWO = DirectorConfig(
    "/usr/bin/ptd",
    "ntp.local",
    (
        Analyzer(77, "192.168.1.9", "-n", 8888, (1, 2)),
        Analyzer(549, "2", "-g", 8889, (), "-D", 0),
    ),
    ("127.0.0.1", 4951),
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """And power-dev's own parser finds its options in it."""
    path = tmp_path / "server.cfg"
    path.write_text(format_config(TWO), "utf-8")
    theirs = configparser.ConfigParser()
    theirs.read(path)

    assert read_config(path) == TWO
    assert theirs["server"]["listen"] == "127.0.0.1 4951"
    assert theirs["ptd"]["analyzerCount"] == "2"
    assert theirs["analyzer1"]["channel"] == "1,2"
    assert theirs["analyzer2"]["dcFlag"] == "-D"


def test_a_daemons_command_line_is_its_own(tmp_path: Path) -> None:
    """As server.py makes it."""
    words = [one.command("ptd", tmp_path / "log") for one in TWO.analyzers]

    assert words[0][3:] == ["-p", "8888", "-c", "1,2", "-n", "77", "192.168.1.9"]
    assert words[1][3:] == ["-p", "8889", "-b", "0", "-D", "-g", "549", "2"]


@pytest.mark.parametrize("name", [*METERS, "wt310e", "WT330_MULTICHANNEL", "49"])
def test_a_meter_is_found_by_any_spelling(name: str) -> None:
    assert find_device_type(name) in METERS.values()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["WT310@/dev/a", "WT310@/dev/b", "--ptd-port", "4949"],
         "analyzer2: networkPort 4950 is the director's own (listen) too"),
        (["WT310@/dev/a", "WT310@/dev/a"], "/dev/a is analyzer1's meter"),
        (["WT330_multichannel@/dev/a"], "should be two: the first and how many"),
        (["WT500_multichannel@/dev/a:1,2"], "should be one number: how many"),
        (["WT310@/dev/a:1,2"], "should be one number, or left out"),
        (["WT1800@/dev/a"], "'WT1800', but should be one of WT210"),
        (["WT310"], "but should be MODEL@PLACE[:CHANNELS]"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_work_is_not_written(
    words: list[str],
    error: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Clashing ports and meters, wrong channels, unknown models."""
    monkeypatch.chdir(tmp_path)
    meters = [w for w in words if "WT" in w]
    given = [part for meter in meters for part in ("--meter", meter)]
    rest = [word for word in words if word not in meters]

    assert main(["power", "config", *PTD, *given, *rest]) == 2
    assert error in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_file_has_the_hosts_name_and_a_taken_port_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is written all the same: the port may be free when the director starts."""
    monkeypatch.chdir(tmp_path)
    port = find_free_port()
    with socket.create_server(("127.0.0.1", port)):
        words = ["--meter", "WT310E@/dev/usbtmc0", "--ptd-port", str(port)]
        status = main(["power", "config", *PTD, *words])
    told = capsys.readouterr()
    path = tmp_path / f"server-{socket.gethostname()}.cfg"

    assert status == 0
    assert told.out == f"{path.name}\n"
    assert f"analyzer1's networkPort {port} is taken" in told.err
    assert read_config(path).analyzers[0].device_type == 49
    assert find_ports_in_use(read_config(path)) == []


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("ntpServer: ntp.local", "", "'ntpServer' is missing"),
        ("[analyzer2]", "[analyser2]", "'analyzer2' is missing"),
        ("deviceType: 77", "deviceType: 78", "[analyzer1] '78', but should be one of"),
        ("interfaceFlag: -n", "interfaceFlag: -x", "interfaceFlag '-x', but should be"),
        ("networkPort: 8889", "networkPort: 8888", "networkPort 8888 is analyzer1's"),
        ("listen: 127.0.0.1 4951", "listen: 4951", "listen '4951', but should be"),
        ("[server]", "server", "no section headers"),
    ],
)
def test_a_bad_file_says_where(tmp_path: Path, old: str, new: str, error: str) -> None:
    path = tmp_path / "server.cfg"
    path.write_text(format_config(TWO).replace(old, new), "utf-8")
    with pytest.raises(ValueError) as failed:
        read_config(path)

    assert str(path) in str(failed.value)
    assert error in str(failed.value)


def test_a_session_is_checked_by_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a folder that is none the command says what it looks for."""
    missing = main(["power", "check", str(tmp_path)])
    told = capsys.readouterr().err
    (tmp_path / "power").mkdir()
    empty = main(["power", "check", str(tmp_path)])

    assert (missing, empty) == (2, 1)
    assert "has no folder power" in told
    assert "client.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "words"),
    [({"power": "a"}, "add --mlperf-power-ntp"),
     ({"power_ntp": "n"}, "--mlperf-power-ntp is about a power measurement"),
     ({"power_client": "d"}, "--mlperf-power-client is about a power measurement"),
     ({"power": "a", "power_ntp": "n", "submission": "ACME"}, "own client"),
     ({"power": "a:b", "power_ntp": "n"}, "should be HOST or HOST:PORT")],
)  # fmt: skip
def test_half_a_measurement_is_refused(
    given: dict[str, str], words: str, tmp_path: Path
) -> None:
    """Before anything runs, with what to add."""
    texts = {
        name: Given(text, f"--mlperf-{name}", True) for name, text in given.items()
    }
    with pytest.raises(ValueError, match=words):
        Options.from_given(texts, here=tmp_path, root=tmp_path, environ={})
