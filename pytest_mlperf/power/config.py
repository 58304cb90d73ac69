"""The director's configuration: the file that ``server.py`` of power-dev reads too."""

from __future__ import annotations

import configparser
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.core.power.meters import INTERFACES
from pytest_mlperf.core.power.meters import find_channel_problem
from pytest_mlperf.core.power.meters import find_device_type

LISTEN = ("0.0.0.0", 4950)  # noqa: S104 - the protocol's own default
PTD_PORT = 8888


@dataclass(frozen=True, slots=True)
class Analyzer:
    """One meter and the PTDaemon that reads it."""

    device_type: int
    device_port: str
    """Where the meter is: ``/dev/usbtmc0``, an address, a serial number."""
    interface_flag: str = ""
    network_port: int = PTD_PORT
    """Where its PTDaemon listens, on the director."""
    channels: tuple[int, ...] = ()
    dc_flag: str = ""
    gpib_board: int | None = None

    def command(self, ptd: str, log: Path) -> list[str]:
        """Return PTDaemon's command line."""
        words = [ptd, "-l", str(log), "-p", str(self.network_port)]
        if self.gpib_board is not None:
            words += ["-b", str(self.gpib_board)]
        if self.channels:
            words += ["-c", ",".join(map(str, self.channels))]
        words += [flag for flag in (self.dc_flag, self.interface_flag) if flag]
        return [*words, str(self.device_type), self.device_port]


@dataclass(frozen=True, slots=True)
class DirectorConfig:
    """Where the director listens, and its meters."""

    ptd: str
    """PTDaemon's program."""
    ntp: str
    analyzers: tuple[Analyzer, ...]
    listen: tuple[str, int] = LISTEN

    def problems(self) -> list[str]:
        """Return what is wrong, in sentences; no port is opened."""
        found = [
            f"analyzer{number}: channel {_join(one.channels) or 'left out'}, but "
            f"should be {wanted}"
            for number, one in enumerate(self.analyzers, 1)
            if (wanted := find_channel_problem(one.device_type, one.channels))
        ]
        used: dict[int, str] = {self.listen[1]: "the director's own (listen)"}
        for number, one in enumerate(self.analyzers, 1):
            if owner := used.get(one.network_port):
                found.append(
                    f"analyzer{number}: networkPort {one.network_port} is {owner} too; "
                    "give each its own"
                )
            used.setdefault(one.network_port, f"analyzer{number}'s")
        places: dict[tuple[str, str, int | None], int] = {}
        for number, one in enumerate(self.analyzers, 1):
            place = (one.interface_flag, one.device_port, one.gpib_board)
            if place in places:
                found.append(
                    f"analyzer{number}: devicePort {one.device_port} is "
                    f"analyzer{places[place]}'s meter; one PTDaemon reads one meter"
                )
            places.setdefault(place, number)
        return found


def find_ports_in_use(config: DirectorConfig) -> list[str]:
    """Return the ports of a configuration at which something listens already."""
    ports = [("listen", config.listen[1])]
    ports += [
        (f"analyzer{n}'s networkPort", one.network_port)
        for n, one in enumerate(config.analyzers, 1)
    ]
    return [
        f"{name} {port} is taken: something listens there on this machine; end it, or "
        "choose another port"
        for name, port in ports
        if _is_taken(port)
    ]


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def read_config(path: Path) -> DirectorConfig:
    """Read a configuration; ``ValueError`` names file, section and option."""
    parser = configparser.ConfigParser()
    try:
        with path.open(encoding="utf-8") as file:
            parser.read_file(file)
    except OSError as error:
        raise ValueError(
            f"{path}: {error.strerror}; write one with pytest-mlperf power config"
        ) from error
    except configparser.Error as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
    try:
        ptd, server = parser["ptd"], parser["server"]
        count = int(ptd.get("analyzerCount", "1"))
        sections = [parser[f"analyzer{number}"] for number in range(1, count + 1)]
        config = DirectorConfig(
            ptd=ptd["ptd"],
            ntp=server["ntpServer"],
            analyzers=tuple(map(_read_analyzer, sections)),
            listen=_read_listen(server.get("listen", "")),
        )
    except KeyError as error:
        raise ValueError(
            f"{path}: {error} is missing; write the file with pytest-mlperf power "
            "config"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if problems := config.problems():
        raise ValueError(f"{path}: {'; '.join(problems)}")
    return config


def _read_analyzer(section: configparser.SectionProxy) -> Analyzer:
    flag = section["interfaceFlag"]
    if flag not in INTERFACES:
        legal = ", ".join(filter(None, INTERFACES))
        raise ValueError(
            f"[{section.name}] interfaceFlag {flag!r}, but should be empty or one of "
            f"{legal}"
        )
    try:
        channels = section.get("channel")
        board = section.get("gpibBoard")
        return Analyzer(
            device_type=find_device_type(section["deviceType"]),
            device_port=section["devicePort"],
            interface_flag=flag,
            network_port=int(section.get("networkPort", str(PTD_PORT))),
            channels=tuple(map(int, channels.split(","))) if channels else (),
            dc_flag=section.get("dcFlag", ""),
            gpib_board=int(board) if board else None,
        )
    except ValueError as error:
        raise ValueError(f"[{section.name}] {error}") from None


def _read_listen(text: str) -> tuple[str, int]:
    if not text:
        return LISTEN
    host, _, port = text.partition(" ")
    if not port.isdecimal():
        raise ValueError(f"[server] listen {text!r}, but should be ADDRESS PORT")
    return host, int(port)


def format_config(config: DirectorConfig) -> str:
    """Return the file's text; power-dev's server.py reads it as well."""
    lines = [
        "# A director's configuration, for pytest-mlperf power serve or for server.py",
        "# of mlcommons/power-dev.",
        "[server]",
        f"ntpServer: {config.ntp}",
        f"listen: {config.listen[0]} {config.listen[1]}",
        "",
        "[ptd]",
        f"ptd: {config.ptd}",
        f"analyzerCount: {len(config.analyzers)}",
    ]
    for number, one in enumerate(config.analyzers, 1):
        lines += ["", f"[analyzer{number}]", *_list_lines(one)]
    return "\n".join([*lines, ""])


def _list_lines(one: Analyzer) -> Iterable[str]:
    yield f"deviceType: {one.device_type}"
    yield f"interfaceFlag: {one.interface_flag}".rstrip()
    yield f"devicePort: {one.device_port}"
    yield f"networkPort: {one.network_port}"
    if one.channels:
        yield f"channel: {_join(one.channels)}"
    if one.dc_flag:
        yield f"dcFlag: {one.dc_flag}"
    if one.gpib_board is not None:
        yield f"gpibBoard: {one.gpib_board}"


def _join(channels: Iterable[int]) -> str:
    return ",".join(map(str, channels))
