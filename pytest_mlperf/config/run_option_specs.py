# ruff: noqa: RUF009 - option() and switch() return fields
"""The options of what runs, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.config.option_spec import option
from pytest_mlperf.config.option_spec import switch
from pytest_mlperf.config.option_types import PerScenario
from pytest_mlperf.config.option_types import list_of
from pytest_mlperf.config.option_types import one_of
from pytest_mlperf.config.option_types import parse_delay
from pytest_mlperf.config.option_types import parse_device_count
from pytest_mlperf.config.option_types import parse_pairs
from pytest_mlperf.config.option_types import parse_path
from pytest_mlperf.config.option_types import parse_round
from pytest_mlperf.config.option_types import parse_scenario
from pytest_mlperf.config.option_types import parse_seconds
from pytest_mlperf.config.option_types import parse_whole
from pytest_mlperf.config.option_types import parse_word
from pytest_mlperf.config.option_types import per_scenario
from pytest_mlperf.core.types import BOUNDED
from pytest_mlperf.core.types import STREAMS
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario

DEFAULT_ENGINE = "onnxruntime"
PROBED = "the system file's [tuning], else found by the probe"
ROUNDS_OWN = "the round's"


@dataclass(frozen=True)
class RunOptionValues:
    """The choices of what runs, and how."""

    fast: bool = switch(
        "60 s minimum duration, and the queries that early stopping needs: shortened "
        "rules are waived, never a submission result"
    )
    rehearsal: bool = switch(
        "run everything but inference: the engine oracle answers from the ground truth "
        "of synthetic data of the official size; nothing is measured, so -n may exceed "
        "the devices"
    )
    compliance: bool = switch(
        "collect the compliance tests of each cell's round too (always with a closed "
        "--mlperf-submission and --mlperf-rehearsal); each is a run of its own"
    )
    benchmark: tuple[str, ...] = option(
        list_of(parse_word, "benchmarks"), "NAME",
        "run the cells of these benchmarks only; repeat it or separate by commas",
        default=(), repeats=True,
    )  # fmt: skip
    accuracy_target: tuple[str, ...] = option(
        list_of(one_of("default", "high"), "accuracy targets"), "KIND",
        "run the cells of the benchmarks' default or high (99.9) accuracy targets only",
        default=(), repeats=True,
    )  # fmt: skip
    scenario: tuple[str, ...] = option(
        list_of(parse_scenario, "scenarios"), "NAME",
        "run the cells of these scenarios only; repeat it or separate by commas",
        default=(), repeats=True,
    )  # fmt: skip
    mode: tuple[str, ...] = option(
        list_of(one_of(*(mode.value for mode in Mode)), "modes"), "MODE",
        "run the items of these modes only: performance, accuracy, compliance",
        default=(), repeats=True,
    )  # fmt: skip
    require: bool = switch(
        "end with exit status 7 unless every selected item was measured: a skipped one "
        "was not"
    )
    duration: float | None = option(
        parse_seconds, "SECONDS",
        "minimum duration of a run, for development: shortened rules are waived, never "
        "a submission result",
        unset=ROUNDS_OWN,
    )  # fmt: skip
    time_limit: float | None = option(
        parse_seconds, "SECONDS",
        "refuse a run, before it begins, that is expected to take longer",
        unset="180 or three times a shortened duration, else none",
    )  # fmt: skip
    min_query_count: int | None = option(
        parse_whole, "N",
        "minimum query count of a run (Offline: samples), for development: as "
        "--mlperf-duration, never a submission result",
        unset=ROUNDS_OWN,
    )  # fmt: skip
    engine: tuple[str, ...] = option(
        list_of(parse_word, "installed engines, or module:object,"), "NAME",
        "engine to run on; repeat it or separate by commas; module:object for one in "
        "development",
        default=(DEFAULT_ENGINE,), unset=DEFAULT_ENGINE, repeats=True,
    )  # fmt: skip
    round: str | None = option(
        parse_round, "vX.Y", "rules to judge by",
        unset="the newest round that has the benchmark and scenario",
    )  # fmt: skip
    scratch: Path | None = option(
        parse_path, "DIR", "folder of official models and data",
        unset="MLPERF_SCRATCH_PATH", environment="MLPERF_SCRATCH_PATH",
    )  # fmt: skip
    workload: str = option(
        one_of("auto", "embedded", "official", "generated"), "KIND",
        "auto, embedded, official or generated (performance only)",
        default="embedded", unset="auto: official with a scratch folder, else embedded",
    )  # fmt: skip
    """``auto`` is already decided; ``synthetic`` in a rehearsal."""
    precision: str | None = option(
        parse_word, "NAME", "precision of the engine, such as fp32 or int8",
        unset="the benchmark's for its accuracy target",
    )  # fmt: skip
    target_qps: PerScenario | None = option(
        per_scenario(Scenario.OFFLINE, *BOUNDED),
        "X",
        "queries a second LoadGen issues (Server), or samples a second it expects "
        "(Offline); server=X,offline=Y for each its own",
        unset=PROBED,
        repeats=True,
    )
    expected_latency_ms: PerScenario | None = option(
        per_scenario(*STREAMS), "X",
        "latency LoadGen expects in SingleStream and MultiStream; "
        "singlestream=X,multistream=Y for each its own",
        unset=PROBED, repeats=True,
    )  # fmt: skip
    streams: int | None = option(
        parse_whole, "N", "engine sessions that work side by side", unset=PROBED
    )
    threads: int | None = option(
        parse_whole, "N", "threads of one session", unset=PROBED
    )
    batch: int | None = option(parse_whole, "N", "largest batch", unset=PROBED)
    max_delay_ms: float | None = option(
        parse_delay,
        "X",
        "longest wait for a batch to fill (Server)",
        unset="the system file's [tuning], else 0",
    )
    provider: str | None = option(
        parse_word, "NAME", "execution provider of onnxruntime",
        unset="CPUExecutionProvider",
    )  # fmt: skip
    engine_options: tuple[tuple[str, str], ...] = option(
        parse_pairs, "K=V,...",
        "what only one engine understands, such as workspace-mib=4096 (tensorrt)",
        default=(), unset="none",
    )  # fmt: skip
    find_peak: bool = switch(
        "run Server and Interactive items at the largest load that keeps the bound, "
        "which is searched by short runs before and kept for the system, the build and "
        "the cell"
    )
    retarget: bool = switch(
        "run an INVALID performance item once more by its remedy, where that is a "
        "value (a load, an expected rate or latency, a number of queries); both runs "
        "are reported"
    )
    system: str | None = option(
        parse_word, "NAME", "name of this machine",
        unset="SYSTEM_NAME, else what is detected", environment="SYSTEM_NAME",
    )  # fmt: skip
    numa_config: str | None = option(
        parse_word, "GPUS:CPUS",
        "which CPUs serve which GPUs, such as 1:0-15&0:16-31, or off",
        unset="the system file's [numa], else what is detected",
    )  # fmt: skip
    cache: Path = option(
        parse_path, "DIR", "folder of built engines", default=Path(),
        unset="pytest-mlperf in XDG_CACHE_HOME or ~/.cache",
    )  # fmt: skip
    stall: float = option(
        parse_seconds, "SECONDS", "give a run up after this long without progress",
        default=120.0,
    )  # fmt: skip
    devices_per_item: int | str | None = option(
        parse_device_count, "N",
        "devices that one Offline or Server item runs over, a process each behind one "
        "LoadGen: a number or all; without a GPU, shares of the CPUs",
        unset="1",
    )  # fmt: skip
    lease_wait: float = option(
        parse_delay, "SECONDS",
        "wait this long for a GPU that another session measures on",
        default=0.0, unset="0: fail, and say who",
    )  # fmt: skip
    build_timeout: float = option(
        parse_seconds, "SECONDS", "give a build up after this long", default=3600.0,
    )  # fmt: skip
