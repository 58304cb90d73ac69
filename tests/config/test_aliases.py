"""Other harnesses' spellings: each does what it says or is refused with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.config import aliases
from pytest_mlperf.config.option_specs import SPECS
from pytest_mlperf.config.options import Given
from pytest_mlperf.config.options import Options

MEANINGS: dict[str, tuple[str, str, Any]] = {
    "fast": ("true", "fast", True),
    "test_run": ("true", "fast", True),
    "benchmarks": ("llama2-70b,llama3_1-405b", "benchmark",
                   ("llama2-70b", "llama3.1-405b")),
    "scenarios": ("Offline,Server", "scenario", ("offline", "server")),
    "config_ver": ("high_accuracy", "accuracy_target", ("high",)),
    "accuracy_target": ("0.99", "accuracy_target", ("default",)),
    "test_mode": ("AccuracyOnly", "mode", ("accuracy",)),
    "min_duration": ("60000", "duration", 60.0),
    "min_query_count": ("100", "min_query_count", 100),
    "offline_expected_qps": ("1000", "target_qps", (("offline", 1000.0),)),
    "server_target_qps": ("12.5", "target_qps",
                          (("interactive", 12.5), ("server", 12.5))),
    "single_stream_expected_latency_ns": (
        "1500000", "expected_latency_ms", (("singlestream", 1.5),)),
    "multi_stream_expected_latency_ns": (
        "80", "expected_latency_ms", (("multistream", 8e-05),)),
    "gpu_batch_size": ("64", "batch", 64),
    "gpu_inference_streams": ("2", "streams", 2),
    "numa_config": ("1:0-3&0:4-7", "numa_config", "1:0-3&0:4-7"),
    "start_from_device": ("true", "start_from_device", True),
    "end_on_device": ("true", "end_on_device", True),
    "core_type": ("trtllm_endpoint", "core_type", "trtllm_endpoint"),
    "trtllm_server_urls": ("a:30000,b:30000", "endpoint", ("a:30000", "b:30000")),
}  # fmt: skip
"""Spelling -> a value as a guide prints it, the option, and what it means there."""
REASONS = {
    "gpu_copy_streams": "each stream copies its own samples; use --mlperf-streams",
    "dla_batch_size": "no engine runs on a DLA; use --mlperf-batch",
    "multi_stream_samples_per_query": "the round's rules fix the samples of a query; "
    "use --mlperf-round",
    "harness_type": "the engine decides what answers the queries; use --mlperf-engine",
}


@pytest.mark.parametrize("dash", ["-", "_"])
@pytest.mark.parametrize("name", aliases.ALIASES)
def test_every_spelling_does_what_it_says_or_says_why_not(name: str, dash: str) -> None:
    """With ``-`` or ``_`` between the words."""
    flag = f"--{name.replace('_', dash)}"
    if name in REASONS:
        with pytest.raises(ValueError, match=f"^{flag} is not needed here because "
                           f"{REASONS[name]}"):  # fmt: skip
            aliases.translate(flag, "1")
        return
    text, option, expected = MEANINGS[name]
    translated = aliases.translate(flag, text)
    options = read_given(translated, flag)

    assert list(translated) == [option]
    assert getattr(options, option) == expected
    assert f"--{name}" in aliases.list_spellings(option)


def read_given(translated: dict[str, str], flag: str) -> Options:
    """Return the options that a spelling's translation makes."""
    given = {name: Given(text, flag) for name, text in translated.items()}
    return Options.from_given(given, here=Path(), root=Path(), environ={})


@pytest.mark.parametrize(
    ("flag", "text", "expected"),
    [
        ("--config_ver", "triton", {"accuracy_target": ("default",),
                                    "engine": ("triton",)}),
        ("--config_ver", "high_accuracy_triton", {"accuracy_target": ("high",),
                                                  "engine": ("triton",)}),
        ("--config-ver", "triton,high_accuracy_triton",
         {"accuracy_target": ("default", "high"), "engine": ("triton",)}),
        ("--config_ver", "default,high_accuracy",
         {"accuracy_target": ("default", "high"), "engine": ("onnxruntime",)}),
        ("--test_mode", "FindPeakPerformance", {"mode": ("performance",),
                                                "find_peak": True}),
        ("--test_mode", "AccuracyOnly", {"mode": ("accuracy",), "find_peak": False}),
    ],
)  # fmt: skip
def test_a_value_may_stand_for_two_options(
    flag: str, text: str, expected: dict[str, Any]
) -> None:
    """VirtualClient's four configurations are two accuracy targets on two engines."""
    options = read_given(aliases.translate(flag, text), flag)

    assert {name: getattr(options, name) for name in expected} == expected


def test_no_spelling_is_an_options_own() -> None:
    """Options begin with --mlperf; only whole flags are looked up."""
    assert not {spec.flag for spec in SPECS.values()} & {
        f"--{name}" for name in aliases.ALIASES
    }
    assert aliases.find_alias("fast") is None
    assert aliases.find_alias("--fas") is None


@pytest.mark.parametrize(
    ("flag", "text", "message"),
    [
        ("--gpu_batch_size", "many", "at least 1 (the option is --mlperf-batch)"),
        ("--min-duration", "-1", "but should be a number above 0"),
        ("--config_ver", "hetero", "but should be one of default, high_accuracy, tri"),
        ("--config_ver", "default,triton", "but should be versions with triton or ver"),
        ("--test_mode", "Performance", "one of PerformanceOnly, AccuracyOnly"),
        ("--scenarios", "offine", "Did you mean 'offline'?"),
        ("--core_type", "triton_grpc", "asks Triton for text by gRPC"),
        ("--core_type", "dummy", "is --mlperf-engine null"),
        ("--start_from_device", "suites", "but should be true or false"),
        ("--server_target_qps", "0", "above 0 (the option is --mlperf-target-qps)"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_the_new_spelling(
    flag: str, text: str, message: str
) -> None:
    """The sentence begins with what was typed."""
    with pytest.raises(ValueError, match=f"^{flag}: ") as caught:
        aliases.translate(flag, text)

    assert message in str(caught.value)
