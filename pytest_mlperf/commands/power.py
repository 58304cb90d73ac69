"""``pytest-mlperf power``: the director's configuration, the director, its sessions."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from pathlib import Path

from pytest_mlperf.core import rounds
from pytest_mlperf.core.power.meters import DC_TYPES
from pytest_mlperf.core.power.meters import INTERFACES
from pytest_mlperf.core.power.meters import METERS
from pytest_mlperf.core.power.meters import find_channel_problem
from pytest_mlperf.core.power.meters import find_device_type
from pytest_mlperf.core.submission.check.listing import Listing
from pytest_mlperf.core.submission.check.power_time import session_problems
from pytest_mlperf.power.config import LISTEN
from pytest_mlperf.power.config import PTD_PORT
from pytest_mlperf.power.config import Analyzer
from pytest_mlperf.power.config import DirectorConfig
from pytest_mlperf.power.config import find_ports_in_use
from pytest_mlperf.power.config import format_config
from pytest_mlperf.power.config import read_config
from pytest_mlperf.power.director import Director
from pytest_mlperf.power.line_socket import PowerFailed
from pytest_mlperf.power.time_sync import check_ntp

HELP = "measure power: configure and run the director, check a session's files"
GOOD, BAD, REFUSED = 0, 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "write the director's configuration, server-HOSTNAME.cfg"
    config = actions.add_parser("config", help=text, description=text)
    add_config_arguments(config)
    text = "be the director: drive the meters for systems under test that connect"
    serve = actions.add_parser("serve", help=text, description=text)
    serve.add_argument(
        "config",
        type=Path,
        metavar="FILE",
        help="the director's configuration, as `power config` writes it",
    )
    text = "check a session's files: a folder with power, ranging and run_1"
    check = actions.add_parser("check", help=text, description=text)
    text = "a result's performance folder, which holds power, ranging and run_1"
    check.add_argument("session", type=Path, metavar="DIR", help=text)
    check.add_argument(
        "--round", default=rounds.ROUNDS[-1], metavar="NAME", choices=rounds.ROUNDS,
        help=f"whose rules hold (default: {rounds.ROUNDS[-1]})",
    )  # fmt: skip


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ptd", required=True, metavar="FILE", help="SPEC's PTDaemon program"
    )
    parser.add_argument(
        "--ntp", required=True, metavar="HOST", help="NTP server, the clients' one too"
    )
    parser.add_argument(
        "--meter", required=True, action="append", metavar="MODEL@PLACE[:CHANNELS]",
        help="such as WT310E@/dev/usbtmc0 or WT330_multichannel@192.168.1.9:1,2; "
        f"repeat it for a system's other meters. Models: {', '.join(list_models())}",
    )  # fmt: skip
    kinds = "; ".join(f"{flag or 'none'}: {what}" for flag, what in INTERFACES.items())
    parser.add_argument(
        "--interface", default="", metavar="FLAG",
        choices=[flag.lstrip("-") for flag in INTERFACES],
        help=f"what the meters' places are, without its dash ({kinds})",
    )  # fmt: skip
    parser.add_argument(
        "--ptd-port", type=int, default=PTD_PORT, metavar="PORT",
        help=f"of the first meter's PTDaemon; the next follow (default: {PTD_PORT})",
    )  # fmt: skip
    parser.add_argument(
        "--port", type=int, default=LISTEN[1], metavar="PORT",
        help=f"where the director listens (default: {LISTEN[1]})",
    )  # fmt: skip
    parser.add_argument(
        "--to", type=Path, metavar="FILE",
        help="the file (default: server-HOSTNAME.cfg); - prints it",
    )  # fmt: skip


def list_models() -> list[str]:
    """Return the models as ``--meter`` takes them."""
    return [name.removeprefix("Yokogawa") for name in METERS]


def run(arguments: argparse.Namespace) -> int:
    """Do the action; return the exit code."""
    actions = {"config": write_config, "serve": serve, "check": check_session}
    try:
        return actions[arguments.action](arguments)
    except (PowerFailed, ValueError, OSError) as error:
        sys.stderr.write(f"pytest-mlperf power {arguments.action}: {error}\n")
        return REFUSED


def write_config(arguments: argparse.Namespace) -> int:
    """Write the configuration and tell its file; ``ValueError`` for a bad one."""
    flag = f"-{arguments.interface}" if arguments.interface else ""
    analyzers = tuple(
        parse_meter(text, flag, arguments.ptd_port + number)
        for number, text in enumerate(arguments.meter)
    )
    listen = (LISTEN[0], arguments.port)
    config = DirectorConfig(arguments.ptd, arguments.ntp, analyzers, listen)
    if problems := config.problems():
        raise ValueError("; ".join(problems))
    text = format_config(config)
    if str(arguments.to) == "-":
        sys.stdout.write(text)
        return GOOD
    path = arguments.to or Path(f"server-{socket.gethostname()}.cfg")
    path.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{path}\n")
    for line in find_ports_in_use(config):
        sys.stderr.write(f"{path}: {line}\n")
    return GOOD


def parse_meter(text: str, flag: str, port: int) -> Analyzer:
    """Return the analyzer of MODEL@PLACE[:CHANNELS]; ``ValueError`` for others."""
    model, at, place = text.partition("@")
    if not at or not place:
        raise ValueError(f"--meter {text!r}, but should be MODEL@PLACE[:CHANNELS]")
    try:
        device_type = find_device_type(model)
    except ValueError as error:
        raise ValueError(f"--meter {error}") from None
    where, colon, numbers = place.rpartition(":")
    words = numbers.split(",")
    has_channels = bool(colon) and all(word.isdecimal() for word in words)
    channels = tuple(map(int, words)) if has_channels else ()
    if wanted := find_channel_problem(device_type, channels):
        raise ValueError(f"--meter {text!r}: CHANNELS should be {wanted}")
    return Analyzer(
        device_type,
        where if has_channels else place,
        flag,
        port,
        channels,
        "-D" if device_type in DC_TYPES else "",
    )


def serve(arguments: argparse.Namespace) -> int:
    """Serve until a client asks to stop, or Ctrl-C; meters are restored in any case."""
    config = read_config(arguments.config)
    print_line(check_ntp(config.ntp))
    if taken := find_ports_in_use(config):
        raise PowerFailed("; ".join(taken))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with Director(config, report=print_line) as director:
        for line in director.try_meters():
            print_line(line)
        print_line(f"listening at {config.listen[0]}:{director.port}")
        director.serve()
    return GOOD


def print_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def check_session(arguments: argparse.Namespace) -> int:
    """Print what is wrong with a session's files; 1 where something is."""
    folder = arguments.session.resolve()
    if not (folder / "power").is_dir():
        raise ValueError(
            f"{folder} has no folder power; name the one that holds power, ranging and "
            "run_1, such as a result's performance"
        )
    listing = Listing.of(folder.parent)
    found = list(session_problems(listing, folder.name, arguments.round))
    for problem in found:
        print_line(str(problem))
    print_line(f"{folder}: {len(found) or 'no'} problem{'s' * (len(found) != 1)}")
    return BAD if found else GOOD
