"""Other harnesses' spellings of the options, as NVIDIA's guides print them.

Each does what it says or is refused with a reason; none is ignored. ``-`` and ``_``
between words are alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_mlperf.config.option_specs import SPECS
from pytest_mlperf.config.option_types import list_of
from pytest_mlperf.config.option_types import one_of
from pytest_mlperf.config.option_types import parse_number
from pytest_mlperf.core.types import BOUNDED
from pytest_mlperf.core.types import Scenario

OFFLINE = (Scenario.OFFLINE,)
SINGLE_STREAM = (Scenario.SINGLE_STREAM,)
MULTI_STREAM = (Scenario.MULTI_STREAM,)
PEAK = "FindPeakPerformance"
"""LoadGen's mode that looks for a server's load."""


@dataclass(frozen=True, slots=True)
class Alias:
    """What a spelling means here: an option, or why there is none."""

    option: str = ""
    """Name in ``SPECS``."""
    convert: Callable[[str], str] = str
    """From the value as it is typed to the option's own text."""
    beside: Callable[[str], dict[str, str]] | None = None
    """From the value as it is typed to further options' own texts."""
    reason: str = ""
    """Completes "not needed here because …", and says what to use."""


def _convert_ms_to_s(text: str) -> str:
    return f"{parse_number(text) / 1e3:.12g}"


def _limit_to(
    scenarios: tuple[Scenario, ...], divisor: float = 1.0
) -> Callable[[str], str]:
    def convert(text: str) -> str:
        number = parse_number(text) / divisor
        return ",".join(f"{scenario.slug}={number:.12g}" for scenario in scenarios)

    return convert


def _translate_words(words: dict[str, str]) -> Callable[[str], str]:
    def convert(text: str) -> str:
        parts = list_of(one_of(*words), f"one of {', '.join(words)}")(text)
        return ",".join(dict.fromkeys(words[part] for part in parts))

    return convert


def _choose_triton(text: str) -> dict[str, str]:
    served = {name.strip().endswith("triton") for name in text.split(",")}
    if len(served) > 1:
        raise ValueError(
            "versions with triton or versions without it: another engine is another "
            "session"
        )
    return {"engine": "triton"} if served == {True} else {}


def _choose_peak(text: str) -> dict[str, str]:
    return {"find_peak": "true"} if PEAK in text.split(",") else {}


_CONFIG_VERSIONS = {
    "default": "default", "high_accuracy": "high",
    "triton": "default", "high_accuracy_triton": "high",
}  # fmt: skip
_ACCURACY_TARGETS = {
    "0.99": "default", "99": "default", "k_99": "default",
    "0.999": "high", "99.9": "high", "k_99_9": "high",
}  # fmt: skip
_TEST_MODES = {
    "PerformanceOnly": "performance",
    "AccuracyOnly": "accuracy",
    "SubmissionRun": "performance,accuracy",
    PEAK: "performance",
}

ALIASES: dict[str, Alias] = {
    "fast": Alias("fast"),
    "test_run": Alias("fast"),
    "benchmarks": Alias("benchmark"),
    "scenarios": Alias("scenario"),
    "config_ver": Alias(
        "accuracy_target", _translate_words(_CONFIG_VERSIONS), _choose_triton
    ),
    "accuracy_target": Alias("accuracy_target", _translate_words(_ACCURACY_TARGETS)),
    "test_mode": Alias("mode", _translate_words(_TEST_MODES), _choose_peak),
    "min_duration": Alias("duration", _convert_ms_to_s),
    "min_query_count": Alias("min_query_count"),
    "offline_expected_qps": Alias("target_qps", _limit_to(OFFLINE)),
    "server_target_qps": Alias("target_qps", _limit_to(BOUNDED)),
    "single_stream_expected_latency_ns": Alias(
        "expected_latency_ms", _limit_to(SINGLE_STREAM, 1e6)
    ),
    "multi_stream_expected_latency_ns": Alias(
        "expected_latency_ms", _limit_to(MULTI_STREAM, 1e6)
    ),
    "gpu_batch_size": Alias("batch"),
    "gpu_inference_streams": Alias("streams"),
    "numa_config": Alias("numa_config"),
    "start_from_device": Alias("start_from_device"),
    "end_on_device": Alias("end_on_device"),
    "core_type": Alias("core_type"),
    "trtllm_server_urls": Alias("endpoint"),
    "gpu_copy_streams": Alias(
        reason="each stream copies its own samples; use --mlperf-streams"
    ),
    "dla_batch_size": Alias(
        reason="no engine runs on a DLA; use --mlperf-batch for the GPU's batch"
    ),
    "multi_stream_samples_per_query": Alias(
        reason="the round's rules fix the samples of a query; use --mlperf-round to "
        "choose the round"
    ),
    "harness_type": Alias(
        reason="the engine decides what answers the queries; use --mlperf-engine"
    ),
}
"""Spelling without dashes -> its meaning."""


def find_alias(flag: str) -> Alias | None:
    """Return what ``--gpu-batch-size`` or ``--gpu_batch_size`` means; else None."""
    if not flag.startswith("--"):
        return None
    return ALIASES.get(flag[2:].replace("-", "_"))


def list_spellings(option: str) -> list[str]:
    """Return the other harnesses' spellings of an option, with their dashes."""
    return [f"--{name}" for name, alias in ALIASES.items() if alias.option == option]


def translate(flag: str, text: str) -> dict[str, str]:
    """Return the options that a spelling stands for -> each one's own text.

    The first is the one that the spelling is listed with. ``flag`` is one that
    ``find_alias`` knows. Raises ``ValueError`` with a whole sentence for a spelling
    without a meaning here, and for a wrong value.
    """
    alias = find_alias(flag)
    assert alias is not None, flag
    if alias.reason:
        raise ValueError(f"{flag} is not needed here because {alias.reason}")
    spec = SPECS[alias.option]
    try:
        translated = alias.convert(text)
        spec.parse(translated)
        beside = alias.beside(text) if alias.beside else {}
    except ValueError as error:
        raise ValueError(
            f"{flag}: {text!r}, but should be {str(error).removesuffix('.')} (the "
            f"option is {spec.flag})"
        ) from None
    return {alias.option: translated, **beside}
