"""mlcommons' client driven from a session, by a stand-in with its command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_mlperf.power.line_socket import PowerFailed
from pytest_mlperf.power.official_client import SCRIPT
from pytest_mlperf.power.official_client import OfficialClient
from tests.support.power_sessions import write_run
from tests.support.power_stand import make_config
from tests.support.power_stand import serve_director
from tests.support.power_stand import serve_ntp

STANDIN = """
import argparse, subprocess, sys
from pathlib import Path
from pytest_mlperf.power.client import PowerClient
parser = argparse.ArgumentParser()
for flag in "apnwLol":
    parser.add_argument("-" + flag)
parser.add_argument("-T", action="store_true")
given = parser.parse_args()
with PowerClient(given.a, int(given.p), "{ntp}", Path(given.o), given.l) as client:
    for phase in ("ranging", "testing"):
        with client.phase(phase):
            subprocess.run(given.w, shell=True, check=True)
        client.keep_logs(phase, Path(given.L) / phase)
    client.finish()
"""
"""Has mlcommons' client's command line, and is our own client: theirs needs an NTP
server at port 123, and is run by scripts/pair_power_dev.py."""


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A clone with the stand-in, and a director's port."""
    with serve_ntp() as ntp:
        script = tmp_path / "clone" / SCRIPT
        script.parent.mkdir(parents=True)
        script.write_text(STANDIN.replace("{ntp}", ntp), "utf-8")
        with serve_director(make_config(tmp_path, ntp), []) as port:
            yield tmp_path / "clone", port


def open_client(stand: tuple[Path, int], folder: Path) -> OfficialClient:
    clone, port = stand
    return OfficialClient(clone, ("127.0.0.1", port), "127.0.0.1", folder, "label")


def test_its_phases_wait_for_the_runs_of_this_process(
    stand: tuple[Path, int], tmp_path: Path
) -> None:
    """Each run happens while the command that the client started waits."""
    with open_client(stand, tmp_path / "session") as client:
        for phase in ("ranging", "testing"):
            with client.phase(phase):
                client.keep_logs(phase, write_run(tmp_path / phase))
        folder = client.finish()

    for name in ("power/client.json", "power/server.json", "run_1/spl.txt"):
        assert (folder / name).stat().st_size
    for phase, name in (("ranging", "ranging"), ("testing", "run_1")):
        log = "mlperf_log_detail.txt"
        assert (folder / name / log).read_text() == (tmp_path / phase / log).read_text()


def test_a_run_that_failed_ends_the_client(
    stand: tuple[Path, int], tmp_path: Path
) -> None:
    """And nothing of the session is taken for a measurement."""
    with (
        open_client(stand, tmp_path / "session") as client,
        pytest.raises(RuntimeError, match="lost"),
        client.phase("ranging"),
    ):
        raise RuntimeError("lost")

    assert not (tmp_path / "session/power/client.json").exists()


def test_a_client_that_ends_early_says_why(
    stand: tuple[Path, int], tmp_path: Path
) -> None:
    """With what it printed last."""
    (stand[0] / SCRIPT).write_text("raise SystemExit('no room left')\n", "utf-8")
    with (
        open_client(stand, tmp_path / "session") as client,
        pytest.raises(PowerFailed, match="ended with status 1 before ranging: no room"),
        client.phase("ranging"),
    ):
        pytest.fail("nothing is measured")


def test_what_is_no_clone_and_what_it_cannot_ask_is_told(tmp_path: Path) -> None:
    """Before anything is started."""
    with pytest.raises(PowerFailed, match="give a clone of mlcommons/power-dev"):
        OfficialClient(tmp_path, ("h", 1), "ntp.local", tmp_path / "s")
    with pytest.raises(PowerFailed, match="NTP servers at port 123 alone"):
        OfficialClient(tmp_path, ("h", 1), "ntp.local:1123", tmp_path / "s")
