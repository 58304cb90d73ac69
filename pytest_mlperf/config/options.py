"""What the user asked for: options and ini values as one frozen value.

``Options.from_config`` is the one place that asks pytest for configuration.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from pytest_mlperf.config.device_options import DEVICE
from pytest_mlperf.config.device_options import FOREIGN_SWITCHES
from pytest_mlperf.config.device_options import SWITCHES
from pytest_mlperf.config.endpoint_options import CHAT
from pytest_mlperf.config.endpoint_options import CHAT_HELP
from pytest_mlperf.config.endpoint_options import ENDPOINT
from pytest_mlperf.config.endpoint_options import FOREIGN
from pytest_mlperf.config.option_types import category
from pytest_mlperf.config.option_types import count
from pytest_mlperf.config.option_types import delay
from pytest_mlperf.config.option_types import folder
from pytest_mlperf.config.option_types import number
from pytest_mlperf.config.option_types import one_of
from pytest_mlperf.config.option_types import org
from pytest_mlperf.config.option_types import pairs
from pytest_mlperf.config.option_types import round_name
from pytest_mlperf.config.option_types import whole
from pytest_mlperf.config.option_types import word
from pytest_mlperf.core.types import KIND_LABELS

if TYPE_CHECKING:
    import pytest

FAST_S = 60.0
"""Minimum duration of a ``--fast`` run, seconds."""
ROUND_S = 600.0
"""Minimum duration of every round, seconds."""
DEFAULT_ENGINE = "onnxruntime"
ORACLE = "oracle"
"""The engine of a rehearsal, and of nothing else."""
NEWEST_ROUND = "v6.1"
"""What a submission is for unless it says other."""
FLAGS = ("fast", "rehearsal", "compliance")
_ENVIRONMENT = {"mlperf_scratch": "MLPERF_SCRATCH_PATH", "mlperf_system": "SYSTEM_NAME"}


@dataclass(frozen=True, slots=True)
class _Spec:
    flag: str
    parse: Callable[[str], Any]
    metavar: str
    help: str

    @property
    def dest(self) -> str:
        return self.flag.lstrip("-").replace("-", "_")


SPECS = (
    _Spec("--mlperf-duration", number, "SECONDS", "minimum duration of a run, for "
          "development: shortened rules are waived, never a submission result"),
    _Spec("--mlperf-round", round_name, "vX.Y", "rules to judge by (default: the "
          "newest round that has the benchmark and scenario)"),
    _Spec("--mlperf-scratch", folder, "DIR", "folder of official models and data "
          "(default: MLPERF_SCRATCH_PATH)"),
    _Spec("--mlperf-workload", one_of("auto", "embedded", "official",
          "generated"), "KIND", "auto, embedded, official or generated (performance "
          "only; default auto: official with a scratch folder, else embedded)"),
    _Spec("--mlperf-precision", word, "NAME", "precision of the engine, such as fp32 "
          "or int8 (default: the benchmark's for its accuracy target)"),
    _Spec("--mlperf-target-qps", number, "X", "queries a second LoadGen issues "
          "(Server), or samples a second it expects (Offline)"),
    _Spec("--mlperf-expected-latency-ms", number, "X", "latency LoadGen expects in "
          "SingleStream and MultiStream"),
    _Spec("--mlperf-streams", whole, "N", "engine sessions that work side by side"),
    _Spec("--mlperf-threads", whole, "N", "threads of one session"),
    _Spec("--mlperf-batch", whole, "N", "largest batch"),
    _Spec("--mlperf-max-delay-ms", delay, "X", "longest wait for a batch to fill "
          "(Server)"),
    _Spec("--mlperf-provider", word, "NAME", "execution provider of onnxruntime"),
    _Spec("--mlperf-engine-options", pairs, "K=V,...", "what only one engine "
          "understands, such as workspace-mib=4096 (tensorrt)"),
    _Spec("--mlperf-system", word, "NAME", "name of this machine (default: "
          "SYSTEM_NAME, else what is detected)"),
    _Spec("--mlperf-cache", folder, "DIR", "folder of built engines (default: "
          "pytest-mlperf in XDG_CACHE_HOME or ~/.cache)"),
    _Spec("--mlperf-reports", folder, "DIR", "folder of reports (default: reports in "
          "the root directory)"),
    _Spec("--mlperf-stall", number, "SECONDS", "give a run up after this long "
          "without progress (default 120)"),
    _Spec("--mlperf-build-timeout", number, "SECONDS", "give an engine build up "
          "after this long (default 3600)"),
    _Spec("--mlperf-devices-per-item", count, "N", "devices that one Offline or Server "
          "item runs over, a process each behind one LoadGen: a number or all "
          "(default 1); without a GPU, shares of the CPUs"),
    _Spec("--mlperf-lease-wait", delay, "SECONDS", "wait this long for a GPU that "
          "another session measures on (default 0: fail, and say who)"),
    _Spec("--mlperf-progress", one_of("auto", "on", "off"), "WHEN", "live progress: "
          "auto (on a terminal), on or off"),
    _Spec("--mlperf-submission", org, "ORG", "write a submission of this organisation "
          "from the session's runs, into the reports folder"),
    _Spec("--mlperf-tree", folder, "DIR", "submission to complete, or an earlier "
          "session's reports folder whose runs count too"),
    _Spec("--mlperf-division", one_of("closed", "open"), "NAME", "closed or open "
          "(default closed)"),
    _Spec("--mlperf-category", category, "NAME", "edge, datacenter or "
          "datacenter,edge (default: system_type of the system file)"),
    _Spec("--mlperf-checker", folder, "DIR", "clone of mlcommons/inference, whose "
          "submission checker judges the tree too"),
    *(_Spec(*row) for row in (*ENDPOINT, *DEVICE)),
)  # fmt: skip


def add_options(parser: pytest.Parser) -> None:
    """Register every option and its ini twin."""
    group = parser.getgroup("mlperf", "MLPerf Inference")
    group.addoption(
        "--mlperf-fast", action="store_true", dest="mlperf_fast",
        help="60 s minimum duration and a minimum query count of 1: shortened rules "
        "are waived, never a submission result (also --fast, --test-run)",
    )  # fmt: skip
    group.addoption(
        "--mlperf-engine", action="append", metavar="NAME", dest="mlperf_engine",
        help="engine to run on; repeat it or separate by commas; module:object for "
        f"one in development (default {DEFAULT_ENGINE})",
    )  # fmt: skip
    parser.addini("mlperf_engine", "twin of --mlperf-engine", default=None)
    group.addoption(
        "--mlperf-rehearsal", action="store_true", dest="mlperf_rehearsal",
        help="run everything but inference: the engine oracle answers from the ground "
        "truth of synthetic data of the official size; nothing is measured, so -n may "
        "exceed the devices",
    )  # fmt: skip
    group.addoption(
        "--mlperf-compliance", action="store_true", dest="mlperf_compliance",
        help="collect the compliance tests of each cell's round too (always with a "
        "closed --mlperf-submission and --mlperf-rehearsal); each is a run of its own",
    )  # fmt: skip
    group.addoption(CHAT, action="store_true", default=None, help=CHAT_HELP)
    parser.addini("mlperf_endpoint_chat", f"twin of {CHAT}", type="bool", default=False)
    for dest, (flag, said) in SWITCHES.items():
        group.addoption(flag, action="store_true", default=None, help=said)
        parser.addini(dest, f"twin of {flag}", type="bool", default=False)
    for spec in SPECS:
        group.addoption(spec.flag, metavar=spec.metavar, dest=spec.dest, help=spec.help)
        parser.addini(spec.dest, f"twin of {spec.flag}", default=None)


def add_short_options(parser: pytest.Parser) -> None:
    """Register ``--fast`` and other harnesses' names where no conftest has them."""
    group = parser.getgroup("mlperf")
    for flag in ("--fast", "--test-run"):
        if not _is_claimed(parser, flag):
            group.addoption(
                flag, action="store_true", dest="mlperf_fast", help="--mlperf-fast"
            )
    for dest, flag in FOREIGN_SWITCHES.items():
        if not _is_claimed(parser, flag):
            group.addoption(
                flag, action="store_true", default=None, dest=dest,
                help=SWITCHES[dest][0],
            )  # fmt: skip
    for dest, flags in FOREIGN.items():
        for flag in flags:
            if not _is_claimed(parser, flag):
                known = f"--{dest.replace('_', '-')}"
                group.addoption(flag, metavar="NAME", dest=dest, help=known)


def _is_claimed(parser: pytest.Parser, flag: str) -> bool:
    """Ask the parser itself: releases of pytest differ in how a clash shows."""
    import pytest

    try:
        _, unknown = parser.parse_known_and_unknown_args([flag])
    except pytest.UsageError:  # somebody's option that wants a value
        return True
    return flag not in unknown


@dataclass(frozen=True, slots=True)
class Options:
    """The user's choices, validated; None is a choice left to what knows better."""

    fast: bool = False
    rehearsal: bool = False
    compliance: bool = False
    """Compliance items are collected; see ``has_compliance``."""
    duration: float | None = None
    """Seconds."""
    engine: tuple[str, ...] = (DEFAULT_ENGINE,)
    """Installed names or ``module:object``."""
    round: str | None = None
    scratch: Path | None = None
    workload: str = "embedded"
    """``official``, ``embedded``, ``generated`` or, in a rehearsal, ``synthetic``;
    ``auto`` is already decided."""
    precision: str | None = None
    target_qps: float | None = None
    expected_latency_ms: float | None = None
    streams: int | None = None
    threads: int | None = None
    batch: int | None = None
    max_delay_ms: float | None = None
    provider: str | None = None
    engine_options: tuple[tuple[str, str], ...] = ()
    """(name, value) of what only one engine understands."""
    system: str | None = None
    cache: Path = Path()
    reports: Path = Path("reports")
    stall: float = 120.0
    devices_per_item: int | str | None = None
    """A number or ``all``."""
    lease_wait: float = 0.0
    build_timeout: float = 3600.0
    """Seconds, as ``stall`` is."""
    progress: str = "auto"
    submission: str | None = None
    """Organisation that submits; None where nothing is to be written."""
    tree: Path | None = None
    division: str = "closed"
    category: str | None = None
    """``edge``, ``datacenter`` or ``datacenter,edge``."""
    checker: Path | None = None
    endpoint: tuple[str, ...] = ()
    """URLs of servers that run already."""
    endpoint_model: str | None = None
    endpoint_chat: bool = False
    endpoint_balance: str | None = None
    endpoint_concurrency: int | None = None
    endpoint_timeout: float | None = None
    """Seconds."""
    endpoint_token_env: str | None = None
    endpoint_ca: Path | None = None
    start_from_device: bool = False
    end_on_device: bool = False
    lock_clocks: str | None = None
    """MHz or ``max``; None leaves them alone."""
    core_type: str | None = None

    @property
    def min_duration_s(self) -> float | None:
        """Minimum duration that was asked for; None keeps the round's."""
        return FAST_S if self.fast else self.duration

    @property
    def is_shortened(self) -> bool:
        """True when runs are shorter than a round's; a longer wish changes nothing."""
        return self.min_duration_s is not None and self.min_duration_s < ROUND_S

    @property
    def has_compliance(self) -> bool:
        """True when compliance tests are items of this session.

        An open submission has none of them.
        """
        if self.submission is not None:
            return self.compliance or self.division != "open"
        return self.compliance or self.rehearsal

    @property
    def labels(self) -> tuple[str, ...]:
        """What keeps every result of this session from being a submission's."""
        short = "fast" if self.fast else "shortened" if self.is_shortened else ""
        kind = KIND_LABELS.get(self.workload, "")
        found = ("rehearsal" if self.rehearsal else kind, short)
        return tuple(label for label in found if label)

    def engine_spec(self, name: str) -> str:
        """Return what the user typed for an engine that ids call ``name``."""
        typed = {spec.rpartition(":")[2].lower(): spec for spec in self.engine}
        return typed.get(name, name)

    def as_dict(self) -> dict[str, Any]:
        """Return the options as JSON values, folders as text."""
        data = asdict(self)
        return {k: str(v) if isinstance(v, Path) else v for k, v in data.items()}

    @classmethod
    def from_config(
        cls, config: pytest.Config, environ: Mapping[str, str] = os.environ
    ) -> Options:
        """Read options, ini twins and environment; ``UsageError`` for a bad one."""
        here = config.invocation_params.dir
        values: dict[str, Any] = {
            name: bool(config.getoption(f"mlperf_{name}")) for name in FLAGS
        }
        for dest in ("mlperf_endpoint_chat", *SWITCHES):
            chosen = config.getoption(dest) or config.getini(dest)
            values[dest.removeprefix("mlperf_")] = bool(chosen)
        for spec in SPECS:
            value = _read(config, spec, environ)
            if value is not None:
                value = here / value if isinstance(value, Path) else value
                values[spec.dest.removeprefix("mlperf_")] = value
        given = config.getoption("mlperf_engine") or [config.getini("mlperf_engine")]
        values["engine"] = _engines([text for text in given if text is not None])
        if values["rehearsal"]:
            _refuse_other_than_rehearsed(config)
            values |= {"engine": (ORACLE,), "workload": "synthetic"}
            if config.getoption("mlperf_devices_per_item") is None:
                values.pop("devices_per_item", None)  # a default yields
        kind = values.get("workload", "auto")
        scratch = values.get("scratch")
        if kind == "auto":
            values["workload"] = "official" if scratch else "embedded"
        home = folder(environ.get("XDG_CACHE_HOME", "").strip() or "~/.cache")
        home = home if home.is_absolute() else config.rootpath / ".cache"
        values.setdefault("cache", home / "pytest-mlperf")
        values.setdefault("reports", config.rootpath / "reports")
        if values.get("submission"):
            values.setdefault("round", NEWEST_ROUND)
        _refuse_contradictions(values)
        _refuse_keyless(values, environ)
        return cls(**values)


def _read(config: pytest.Config, spec: _Spec, environ: Mapping[str, str]) -> Any:
    """Return the parsed value of the option, else ini, else environment, else None."""
    text, source = config.getoption(spec.dest), spec.flag
    if text is None:
        text, source = config.getini(spec.dest), f"{spec.dest} in {config.inipath}"
    if text is None and spec.dest in _ENVIRONMENT:
        source = _ENVIRONMENT[spec.dest]
        text = environ.get(source, "").strip() or None
    if text is None:
        return None
    try:
        return spec.parse(str(text))
    except ValueError as error:
        raise _usage_error(f"{source}: {text!r}, but should be {error}") from None


def is_configured(config: pytest.Config) -> bool:
    """Return whether the user gave any mlperf option or ini value."""
    dests = ["mlperf_engine", *(spec.dest for spec in SPECS)]
    given = [config.getoption(d) or config.getini(d) for d in dests]
    given += [config.getoption(f"mlperf_{name}") for name in FLAGS]
    given += [config.getoption(d) for d in ("mlperf_endpoint_chat", *SWITCHES)]
    return any(given)


def _engines(given: list[str]) -> tuple[str, ...]:
    """Return the engines in the order given, each once."""
    names = [part.strip() for text in given for part in text.split(",")]
    if any(not name for name in names):
        raise _usage_error(
            "--mlperf-engine: an empty name, but should be an installed engine or "
            "module:object; name one, or leave the option out"
        )
    return tuple(dict.fromkeys(names)) or (DEFAULT_ENGINE,)


def _refuse_other_than_rehearsed(config: pytest.Config) -> None:
    """Raise ``UsageError`` for a wish on the command line that a rehearsal excludes."""
    for dest, only in {"mlperf_engine": ORACLE, "mlperf_workload": "auto"}.items():
        given = config.getoption(dest)
        asked = given if isinstance(given, list) else [given or only]
        if others := [text for text in asked if text != only]:
            flag = f"--{dest.replace('_', '-')}"
            raise _usage_error(
                f"--mlperf-rehearsal runs the engine {ORACLE} on synthetic data, but "
                f"{flag} asks for {', '.join(others)}; leave out {flag} to rehearse, "
                "or --mlperf-rehearsal to measure"
            )


def _refuse_contradictions(values: Mapping[str, Any]) -> None:
    if ORACLE in values["engine"] and not values["rehearsal"]:
        raise _usage_error(
            f"--mlperf-engine {ORACLE} answers from the ground truth and measures "
            "nothing; ask for it with --mlperf-rehearsal, which labels its results"
        )
    asked = [f for d, (f, _) in SWITCHES.items() if values[d.removeprefix("mlperf_")]]
    asked += ["--mlperf-devices-per-item"] * ("devices_per_item" in values)
    if values["rehearsal"] and asked:
        raise _usage_error(
            f"{asked[0]} is about a device, and --mlperf-rehearsal uses none; keep one "
            "of the two"
        )
    if values["fast"] and "duration" in values:
        raise _usage_error(
            "--fast sets the minimum duration to 60 s and --mlperf-duration to "
            f"{values['duration']:g} s; keep one of the two"
        )
    if values.get("workload") == "official" and not values.get("scratch"):
        raise _usage_error(
            "--mlperf-workload official needs the folder of official models and data; "
            "add --mlperf-scratch DIR, or set MLPERF_SCRATCH_PATH"
        )


def _refuse_keyless(values: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Raise ``UsageError`` for what an endpoint needs and is not there."""
    name = values.get("endpoint_token_env")
    if name and not environ.get(name, "").strip():
        raise _usage_error(
            f"--mlperf-endpoint-token-env {name}: that environment variable is not "
            "set, but should hold the endpoints' bearer token; set it, or leave the "
            "option out where no token is asked for"
        )
    ca_file = values.get("endpoint_ca")
    if ca_file and not ca_file.is_file():
        raise _usage_error(
            f"--mlperf-endpoint-ca {ca_file}: no such file; name the PEM file of the "
            "authority that signed the endpoints' certificates"
        )


def _usage_error(text: str) -> pytest.UsageError:
    import pytest

    return pytest.UsageError(text)
