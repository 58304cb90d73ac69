"""A machine's TOML file: how it is matched, described and tuned.

Every key is checked when the file is read. An unknown key would be a setting that is
silently ignored, so it is an error with the file, the key and the legal ones.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from pytest_mlperf.core.residency.rules import DirectPath
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.machine.gpus import Gpu
from pytest_mlperf.machine.host import Host
from pytest_mlperf.machine.system_schema import DESCRIPTION
from pytest_mlperf.machine.system_schema import MATCH
from pytest_mlperf.machine.system_schema import NUMA
from pytest_mlperf.machine.system_schema import ON_DEVICE
from pytest_mlperf.machine.system_schema import OPTION
from pytest_mlperf.machine.system_schema import SERVER
from pytest_mlperf.machine.system_schema import SETTINGS
from pytest_mlperf.machine.system_schema import TUNING
from pytest_mlperf.machine.system_schema import ValueCheck
from pytest_mlperf.machine.system_schema import check_option
from pytest_mlperf.machine.system_schema import describe_unknown
from pytest_mlperf.machine.system_schema import format_option

Value = int | float | str | list[int] | list[str]

GIB = 1 << 30
TARGETS = ("99", "99.9")
PARTS = (
    "match", "description", "numa", "on_device", "server", "settings", "tuning"
)  # fmt: skip


class SystemFileError(ValueError):
    """A system file cannot be used; the text names the file, the key and the remedy."""

    def __init__(self, path: Path, where: str, problem: str) -> None:
        self.path = path
        self.where = where
        super().__init__(
            f"{path}: {where}: {problem}" if where else f"{path}: {problem}"
        )


@dataclass(frozen=True, slots=True)
class TuningTables:
    """Settings of one machine, by benchmark, scenario and engine."""

    tables: Mapping[tuple[str, str, str], Mapping[str, Value]] = field(
        default_factory=dict
    )
    """(benchmark or model, scenario slug, engine), empty for any -> settings."""
    path: Path | None = None

    def lookup(
        self, benchmark: str, target: str, scenario: Scenario, engine: str
    ) -> dict[str, Value]:
        """Return the settings of a cell; the more specific table wins.

        From weak to strong: general, benchmark, benchmark-target, and after all of
        these the same with a scenario. An engine's table wins over the one it is in.
        """
        names = ["", benchmark, *([f"{benchmark}-{target}"] if target else [])]
        settings: dict[str, Value] = {}
        for slug in ("", scenario.slug):
            for name in names:
                for one in ("", engine):
                    settings |= self.tables.get((name, slug, one), {})
        return settings

    def options(
        self, benchmark: str, target: str, scenario: Scenario, engine: str
    ) -> dict[str, str]:
        """Return the engine's own options of a cell, as a command line has them."""
        found = self.lookup(benchmark, target, scenario, engine).items()
        return {
            name.removeprefix(OPTION): str(value)
            for name, value in found
            if name.startswith(OPTION)
        }

    def check(self, benchmarks: Collection[str], engines: Collection[str]) -> None:
        """Raise ``SystemFileError`` for a table that no registered name reads."""
        models = [f"{name}-{target}" for name in benchmarks for target in TARGETS]
        path = self.path or Path("tuning")
        for name, slug, engine in self.tables:
            where = _format_heading(
                "tuning", name, slug, *(["engine", engine] * bool(engine))
            )
            if name and name not in benchmarks and name not in models:
                legal = [*benchmarks, *models]
                raise SystemFileError(
                    path, where, describe_unknown("benchmark", name, legal)
                )
            if engine and engine not in engines:
                raise SystemFileError(
                    path, where, describe_unknown("engine", engine, engines)
                )


@dataclass(frozen=True, slots=True)
class ServerTables:
    """How servers are started on one machine, by benchmark."""

    tables: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """Benchmark or model, empty for any -> settings."""
    path: Path | None = None

    def lookup(self, benchmark: str, target: str) -> dict[str, Value]:
        """Return the settings of a benchmark; the more specific table wins."""
        names = ["", benchmark, *([f"{benchmark}-{target}"] if target else [])]
        settings: dict[str, Value] = {}
        for name in names:
            settings |= self.tables.get(name, {})
        return settings

    def check(self, benchmarks: Collection[str]) -> None:
        """Raise ``SystemFileError`` for a table that no registered name reads."""
        models = [f"{name}-{target}" for name in benchmarks for target in TARGETS]
        for name in self.tables:
            if name and name not in benchmarks and name not in models:
                problem = describe_unknown("benchmark", name, [*benchmarks, *models])
                path = self.path or Path("server")
                raise SystemFileError(path, _format_heading("server", name), problem)


@dataclass(frozen=True, slots=True)
class Match:
    """Conditions that identify a machine; all that are given must hold."""

    arch: str | None = None
    board: str | None = None
    """Regular expression, found in the board's name (device tree: Jetson)."""
    cpu: str | None = None
    """Regular expression, found anywhere in the CPU's model name."""
    gpu: str | None = None
    """Regular expression, found in the name of every GPU (there is at least one)."""
    gpu_count: int | None = None
    min_memory_gib: float | None = None

    def fits(self, host: Host, gpus: Sequence[Gpu]) -> bool:
        """Return whether this is the machine; a file without conditions fits none."""
        tests = []
        if self.arch is not None:
            tests.append(self.arch == host.arch)
        if self.board is not None:
            tests.append(bool(re.search(self.board, host.board)))
        if self.cpu is not None:
            tests.append(bool(re.search(self.cpu, host.cpu_model)))
        if self.gpu is not None:
            tests.append(bool(gpus))
            tests += [bool(re.search(self.gpu, gpu.name)) for gpu in gpus]
        if self.gpu_count is not None:
            tests.append(self.gpu_count == len(gpus))
        if self.min_memory_gib is not None:
            tests.append(host.memory_bytes >= self.min_memory_gib * GIB)
        return bool(tests) and all(tests)


@dataclass(frozen=True, slots=True)
class SystemFile:
    """One checked file; the system's name is the file's."""

    path: Path
    match: Match
    description: Mapping[str, str]
    tuning: TuningTables
    server: ServerTables = field(default_factory=ServerTables)
    numa: str = ""
    """Which CPUs serve which GPUs, or ``off``; empty: as detected."""
    on_device: DirectPath = field(default_factory=DirectPath)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the device during a run; they are reset afterwards."""

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def names(self) -> tuple[str, ...]:
        """The name, and the description's spelling, which need not be a folder name."""
        return (self.name, self.description.get("system_name", self.name))


def load_system_file(path: Path) -> SystemFile:
    """Read and check one file; raises ``SystemFileError`` for any mistake."""
    try:
        # Some editors put a byte-order mark in front, which TOML does not allow.
        text = path.read_bytes().decode("utf-8").removeprefix("\ufeff")
        table = tomllib.loads(text)
    except OSError as error:
        problem = f"cannot be read ({error.strerror}); give the path of a TOML file"
        raise SystemFileError(path, "", problem) from None
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8; save the file as UTF-8"
        raise SystemFileError(path, "", problem) from None
    except tomllib.TOMLDecodeError as error:
        raise SystemFileError(path, "", f"not TOML: {error}") from None
    reader = _Reader(path)
    parts = reader.tables(table, "", PARTS)
    match = reader.values(parts.get("match", {}), "match", MATCH)
    description = reader.values(
        parts.get("description", {}), "description", DESCRIPTION
    )
    numa = reader.values(parts.get("numa", {}), "numa", NUMA)
    on_device = reader.values(parts.get("on_device", {}), "on_device", ON_DEVICE)
    settings = reader.values(parts.get("settings", {}), "settings", SETTINGS)
    tuning = dict(reader.tuning(parts.get("tuning", {})))
    servers = dict(reader.servers(parts.get("server", {})))
    return SystemFile(
        path=path,
        match=Match(**match),
        description={key: str(value) for key, value in description.items()},
        tuning=TuningTables(tuning, path),
        server=ServerTables(servers, path),
        numa=str(numa.get("config", "")),
        on_device=DirectPath(**on_device),
        settings=settings,
    )


def load_folders(folders: Iterable[Path]) -> list[SystemFile]:
    """Read every ``*.toml`` in order of names; an earlier folder's file hides a later
    one of the same name.
    """
    paths: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.toml")):
            paths.setdefault(path.stem, path)
    return [load_system_file(path) for path in paths.values()]


class _Reader:
    """Checks the tables of one file; every message names its path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def tables(
        self, table: Mapping[str, Any], where: str, legal: Collection[str]
    ) -> dict[str, Mapping[str, Any]]:
        """Return the sub-tables; each must have a legal name."""
        for key, value in table.items():
            if key not in legal:
                problem = describe_unknown("table", key, legal)
                if key.isdecimal():
                    problem += '; quote a name with a dot: [tuning."bert-99.9"]'
                if not where and key in TUNING:
                    problem = f"{key!r} is a setting: write it under [tuning]"
                raise SystemFileError(self.path, _format_heading(where, key), problem)
            if not isinstance(value, dict):
                problem = f"found {value!r}, but it should be a table"
                raise SystemFileError(self.path, _format_heading(where, key), problem)
        return dict(table)

    def values(
        self, table: Mapping[str, Any], where: str, legal: Mapping[str, ValueCheck]
    ) -> dict[str, Any]:
        """Return the settings, each with a legal name and value."""
        for key, value in table.items():
            if key not in legal:
                problem = describe_unknown("key", key, legal)
                raise SystemFileError(self.path, _format_heading(where), problem)
            required = legal[key](value)
            if required:
                problem = f"found {key} = {value!r}, but it should be {required}"
                raise SystemFileError(self.path, _format_heading(where), problem)
        return dict(table)

    def tuning(
        self, table: Mapping[str, Any]
    ) -> Iterator[tuple[tuple[str, str, str], dict[str, Any]]]:
        slugs = [scenario.slug for scenario in Scenario]
        names = [key for key, value in table.items() if isinstance(value, dict)]
        names = [key for key in names if key != "engine"]
        for name in names:
            if name in slugs:
                problem = f"a scenario belongs to a benchmark: [tuning.bert.{name}]"
                raise SystemFileError(
                    self.path, _format_heading("tuning", name), problem
                )
        yield from self._level(table, ("", ""), names)
        for name in names:
            yield from self._level(table[name], (name, ""), slugs)
            for slug in slugs:
                if slug in table[name]:
                    yield from self._level(table[name][slug], (name, slug), ())

    def servers(self, table: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield a benchmark's name, empty for any, and the settings of its server."""
        names = [key for key, value in table.items() if isinstance(value, dict)]
        own = {key: value for key, value in table.items() if key not in names}
        yield "", self.values(own, "server", SERVER)
        for name in names:
            yield name, self.values(table[name], f"server.{name}", SERVER)

    def _level(
        self, table: Mapping[str, Any], key: tuple[str, str], below: Collection[str]
    ) -> Iterator[tuple[tuple[str, str, str], dict[str, Any]]]:
        """Yield a table's own settings and those of its engines."""
        where = _format_heading("tuning", *key)[1:-1]
        parts = {
            name: value for name, value in table.items() if isinstance(value, dict)
        }
        self.tables(parts, where, [*below, "engine"])
        engines = parts.get("engine", {})
        self.tables(engines, f"{where}.engine", list(engines))
        own = {name: value for name, value in table.items() if name not in parts}
        yield (*key, ""), self.values(own, where, TUNING)
        for engine, settings in engines.items():
            heading = f"{where}.engine.{engine}"
            options = settings.get("options", {})
            self.tables({"options": options}, heading, ["options"])
            given = dict.fromkeys(options, check_option)
            texts = {
                f"{OPTION}{name}": format_option(value)
                for name, value in self.values(
                    options, f"{heading}.options", given
                ).items()
            }
            own = {name: value for name, value in settings.items() if name != "options"}
            yield (*key, engine), {**self.values(own, heading, TUNING), **texts}


def _format_heading(*parts: str) -> str:
    """Return a TOML heading; parts that contain a dot are quoted."""
    first, *rest = [part for part in parts if part] or [""]
    quoted = [f'"{part}"' if "." in part else part for part in rest]
    return f"[{'.'.join([first, *quoted])}]"
