"""Run our power client and director with mlcommons', both ways, and check each session.

    python -m scripts.pair_power_dev CLONE

CLONE: of mlcommons/power-dev. A simulated PTDaemon stands for the meter, everything is
on loopback, and their half needs an NTP server at port 123: run it as root where none
is. Takes four minutes, because their director lets the meter settle for ten seconds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.machine.ports import find_free_port
from pytest_mlperf.power.config import format_config
from tests.support.power_stand import make_config
from tests.support.power_stand import serve_director
from tests.support.power_stand import serve_ntp

NTP = "127.0.0.1"
PERIOD = "SIM_PERIOD_S=0.02"
ITEM = ("-k", "resnet50 and offline and performance", "--mlperf-rehearsal")


@contextmanager
def serve(whose: str, clone: Path, folder: Path) -> Iterator[int]:
    """Yield the port of our director, or of their server."""
    config = make_config(folder, NTP, PERIOD)
    if whose == "ours":
        with serve_director(config, []) as port:
            yield port
        return
    config = replace(config, listen=("127.0.0.1", find_free_port()))
    file = folder / "server.cfg"
    file.write_text(format_config(config), "utf-8")
    script = clone / "ptd_client_server/server.py"
    with (folder / "server.out").open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, str(script), "-c", str(file)],
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        time.sleep(5)  # it tries its meter before it listens
        yield config.listen[1]
    finally:
        server.terminate()
        server.wait(20)


def run(server: str, client: str, clone: Path, folder: Path) -> list[str]:
    """Run one rehearsed item and return what their check has against its session."""
    with serve(server, clone, folder) as port:
        words = [f"--mlperf-power=127.0.0.1:{port}", f"--mlperf-power-ntp={NTP}"]
        words += [f"--mlperf-power-client={clone}"] * (client == "theirs")
        words += ["--mlperf-duration=3", f"--mlperf-reports={folder / 'reports'}"]
        with (folder / "pytest.out").open("wb") as output:
            subprocess.run(
                [sys.executable, "-m", "pytest", *ITEM, *words],
                stdout=output, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
    sessions = list((folder / "reports").glob("2*/power/*"))
    if not sessions:
        return [f"no session: see {folder / 'pytest.out'}"]
    done = subprocess.run(
        [sys.executable, str(clone / "compliance/check.py"), str(sessions[0])],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = (done.stdout + done.stderr).splitlines()
    return [line.partition("[ ] ")[2] for line in lines if "[ ] " in line]


def main() -> int:
    """Print a line a pair; 0 where only our own sources are refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clone", type=Path, metavar="CLONE")
    parser.add_argument(
        "--ntp-runs", action="store_true", help="port 123 of 127.0.0.1 answers already"
    )
    given = parser.parse_args()
    clone, good = given.clone.resolve(), True
    ntp = nullcontext() if given.ntp_runs else serve_ntp(port=123)
    with tempfile.TemporaryDirectory() as home, ntp:
        for server in ("ours", "theirs"):
            for client in ("ours", "theirs"):
                folder = Path(home) / f"{server}-{client}"
                folder.mkdir()
                found = run(server, client, clone, folder)
                known = [
                    f"Check {end} sources checksum"
                    for end, whose in (("client", client), ("server", server))
                    if whose == "ours"
                ]
                good &= found == known
                text = ", ".join(found) or "nothing"
                print(f"client {client}, server {server}: refused: {text}", flush=True)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
