"""What the user asked for: options, ini values and environment as one frozen value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

from pytest_mlperf.config.contradictions import ORACLE
from pytest_mlperf.config.contradictions import refuse_contradictions
from pytest_mlperf.config.contradictions import refuse_missing_credentials
from pytest_mlperf.config.contradictions import refuse_unused
from pytest_mlperf.config.option_specs import DEFAULT_ENGINE
from pytest_mlperf.config.option_specs import SPECS
from pytest_mlperf.config.option_specs import OptionValues
from pytest_mlperf.config.option_types import number_for
from pytest_mlperf.config.option_types import parse_path
from pytest_mlperf.config.option_types import resolve_benchmark
from pytest_mlperf.core.types import KIND_LABELS
from pytest_mlperf.core.types import REHEARSAL
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario

if TYPE_CHECKING:
    from pytest_mlperf.core.plan import Shortening

__all__ = ["DEFAULT_ENGINE", "FAST_S", "ROUND_S", "Given", "Options"]

FAST_S = 60.0
"""Minimum duration of a ``--fast`` run, seconds."""
LONGEST_X, FAST_LIMIT_S = 3, 180.0
"""A shortened run may be expected to take so many times its minimum duration, or so
many seconds."""
ROUND_S = 600.0
"""Minimum duration of every round, seconds."""
TRITON = "triton"
"""The service that ``--mlperf-triton`` is about."""
SELECTIONS = ("benchmark", "accuracy_target", "scenario", "mode")
"""Options that select items, and say nothing of how a run behaves."""


class Given(NamedTuple):
    """An option's text, before it is parsed."""

    text: str
    source: str
    """What a message calls it: ``--mlperf-batch``, ``mlperf_batch in pytest.ini``."""
    is_typed: bool = False
    """True on the command line; an ini value is a default that yields."""


@dataclass(frozen=True)
class Options(OptionValues):
    """The options with what follows from them."""

    @property
    def min_duration_s(self) -> float | None:
        """Minimum duration that was asked for; None keeps the round's."""
        return FAST_S if self.fast else self.duration

    @property
    def run_limit_s(self) -> float | None:
        """The longest that a run may be expected to take; None sets no limit."""
        seconds = self.min_duration_s
        if self.time_limit or seconds is None or seconds >= ROUND_S:
            return self.time_limit
        return max(FAST_LIMIT_S, LONGEST_X * seconds)

    @property
    def is_shortened(self) -> bool:
        """True when runs are shorter than a round's; a longer duration shortens none.

        A query count of the user's own counts as shorter: rounds differ in theirs.
        """
        seconds = self.min_duration_s
        return self.min_query_count is not None or (
            seconds is not None and seconds < ROUND_S
        )

    @property
    def shortening(self) -> Shortening | None:
        """What shortens every run of this session, if anything does."""
        from pytest_mlperf.core.plan import Shortening

        seconds, count = self.min_duration_s, self.min_query_count
        if seconds is None and count is None:
            return None
        reasons = []
        if seconds is not None:
            reasons += ["--fast" if self.fast else f"--mlperf-duration {seconds:g}"]
        if count is not None:
            reasons += [f"--mlperf-min-query-count {count}"]
        duration_ms = None if seconds is None else int(seconds * 1000)
        return Shortening(duration_ms, " ".join(reasons), count)

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
        labels = (REHEARSAL if self.rehearsal else kind, short)
        return tuple(label for label in labels if label)

    @property
    def selections(self) -> tuple[str, ...]:
        """The options that select items, as they are typed; empty: all items run."""
        return tuple(self.format(name) for name in SELECTIONS if getattr(self, name))

    def without_selections(self) -> Options:
        """Return the same options for all items."""
        return replace(self, benchmark=(), accuracy_target=(), scenario=(), mode=())

    def selects(self, benchmark: str, target: str, scenario: Scenario) -> bool:
        """Return whether a cell is among those that the options select.

        ``target``: 99 or 99.9; empty where the benchmark has one accuracy target.
        """
        from pytest_mlperf.core import catalog

        model = f"{benchmark}-{target}" if target else benchmark
        if self.benchmark and {benchmark, model}.isdisjoint(self.benchmark):
            return False
        if self.scenario and scenario.slug not in self.scenario:
            return False
        if not self.accuracy_target:
            return True
        high = (catalog.get(benchmark).targets or ("99.9",))[-1]
        return ("high" if target == high else "default") in self.accuracy_target

    def selects_mode(self, mode: Mode) -> bool:
        """Return whether items of a mode are among those that the options select."""
        return not self.mode or mode.value in self.mode

    def tuning_for(self, scenario: Scenario) -> dict[str, Any]:
        """Return the fields of ``Tuning`` that the user fixed for a scenario."""
        values = {
            "batch": self.batch,
            "streams": self.streams,
            "threads": self.threads,
            "max_delay_ms": self.max_delay_ms,
            "target_qps": number_for(self.target_qps, scenario),
            "expected_latency_ms": number_for(self.expected_latency_ms, scenario),
            "precision": self.precision,
        }
        return {name: value for name, value in values.items() if value is not None}

    def service_urls(self, service: str) -> tuple[str, ...]:
        """Return the URLs of a service's servers that run already."""
        return (service == TRITON and self.triton) or self.endpoint

    @property
    def all_engine_options(self) -> dict[str, str]:
        """Name -> value of what only one engine understands; --mlperf-provider too."""
        provider = {"provider": self.provider} if self.provider else {}
        return {**dict(self.engine_options), **provider}

    def engine_spec(self, name: str) -> str:
        """Return what the user typed for an engine that ids call ``name``."""
        typed = {spec.rpartition(":")[2].lower(): spec for spec in self.engine}
        return typed.get(name, name)

    def format(self, name: str) -> str:
        """Return the option as it is typed, such as ``--mlperf-batch=8``."""
        value = getattr(self, name)
        if value is True:
            return SPECS[name].flag
        parts = value if isinstance(value, tuple) else (value,)
        return f"{SPECS[name].flag}={','.join(map(_format_value, parts))}"

    def as_dict(self) -> dict[str, Any]:
        """Return the options as JSON values, folders as text."""
        data = asdict(self)
        return {k: str(v) if isinstance(v, Path) else v for k, v in data.items()}

    @classmethod
    def from_given(
        cls,
        given: Mapping[str, Given],
        *,
        here: Path,
        root: Path,
        environ: Mapping[str, str] = os.environ,
        installed: Mapping[str, str] | None = None,
    ) -> Options:
        """Parse and check what was given; ``ValueError`` says what to change.

        ``given``: an option's name -> its text. ``here`` is where relative paths begin,
        ``root`` the project's folder. ``installed``: name or alias -> benchmark of the
        installed packages.
        """
        values: dict[str, Any] = {}
        for name, spec in SPECS.items():
            found = given.get(name)
            variable = environ.get(spec.environment, "").strip()
            if found is None and variable:
                found = Given(variable, spec.environment)
            if found is not None:
                value = _parse(name, found, installed or {})
                values[name] = here / value if isinstance(value, Path) else value
        if values.get("rehearsal"):
            # Where servers are named, the oracle is behind them.
            answers = TRITON if values.get("triton") else ORACLE
            _refuse_other_than_rehearsed(given, answers)
            values |= {"engine": (answers,), "workload": "synthetic"}
            if "devices_per_item" in given and not given["devices_per_item"].is_typed:
                values.pop("devices_per_item")  # a default yields
        if values.get("triton"):
            values.setdefault("engine", (TRITON,))
        if values.get("workload", "auto") == "auto":
            values["workload"] = "official" if values.get("scratch") else "embedded"
        values.setdefault("cache", find_cache(environ, root))
        values.setdefault("reports", root / "reports")
        if values.get("submission"):
            from pytest_mlperf.core.rounds import ROUNDS

            values.setdefault("round", ROUNDS[-1])
        options = cls(**values)
        refuse_contradictions(options)
        refuse_unused(options, {name for name in given if given[name].is_typed})
        refuse_missing_credentials(options, environ)
        return options


def _parse(name: str, given: Given, installed: Mapping[str, str]) -> Any:
    try:
        value = SPECS[name].parse(given.text)
        if name == "benchmark":
            names = (resolve_benchmark(one, installed) for one in value)
            value = tuple(dict.fromkeys(names))
    except ValueError as error:
        raise ValueError(
            f"{given.source}: {given.text!r}, but should be {error}"
        ) from None
    return value


def _format_value(value: object) -> str:
    if isinstance(value, tuple):  # (name, value), the name empty for what all share
        return "=".join(_format_value(part) for part in value if part != "")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _refuse_other_than_rehearsed(given: Mapping[str, Given], answers: str) -> None:
    """Raise ``ValueError`` for a typed option that a rehearsal excludes."""
    for name, only in {"engine": answers, "workload": "auto"}.items():
        found = given.get(name)
        if found and found.is_typed and {*found.text.split(",")} != {only}:
            flag = SPECS[name].flag
            raise ValueError(
                f"--mlperf-rehearsal runs the engine {answers} on synthetic data, but "
                f"{flag} asks for {found.text}; leave out {flag} to rehearse, or "
                "--mlperf-rehearsal to measure"
            )


def find_cache(environ: Mapping[str, str], root: Path) -> Path:
    """Return the folder of built engines where nobody names one."""
    home = parse_path(environ.get("XDG_CACHE_HOME", "").strip() or "~/.cache")
    return (home if home.is_absolute() else root / ".cache") / "pytest-mlperf"
