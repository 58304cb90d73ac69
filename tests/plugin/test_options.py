"""Options inside pytest: twins, other harnesses' spellings, what they select."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_mlperf.config.option_specs import SPECS
from pytest_mlperf.config.options import Options
from pytest_mlperf.plugin.options import GROUPS
from pytest_mlperf.plugin.options import is_configured
from pytest_mlperf.plugin.options import read_options
from pytest_mlperf.reporting import results

VALUES = {
    "benchmark": "bert,resnet50",
    "accuracy_target": "high",
    "scenario": "offline, server",
    "mode": "performance",
    "duration": "2.5",
    "min_query_count": "10",
    "engine": "null, onnxruntime",
    "round": "v5.1",
    "scratch": "models",
    "workload": "embedded",
    "precision": "fp32",
    "target_qps": "100,server=8",
    "expected_latency_ms": "3",
    "streams": "2",
    "threads": "1",
    "batch": "8",
    "max_delay_ms": "0",
    "provider": "CPUExecutionProvider",
    "engine_options": "level=3,cuda-graphs=off",
    "system": "box",
    "numa_config": "0:0-3",
    "cache": "built",
    "reports": "out",
    "stall": "9",
    "build_timeout": "90",
    "devices_per_item": "all",
    "lease_wait": "7",
    "progress": "off",
    "submission": "ACME",
    "tree": "before",
    "division": "open",
    "category": "edge",
    "checker": "inference",
    "endpoint": "http://a:1,b:2",
    "endpoint_model": "llama",
    "endpoint_balance": "round",
    "endpoint_concurrency": "64",
    "endpoint_timeout": "30",
    "endpoint_token_env": "TOKEN",
    "endpoint_health": "/ready",
    "endpoint_ca": "ca.pem",
    "triton": "http://a:8001,b:8000",
    "core_type": "trtllm_endpoint",
    "lock_clocks": "1590",
    "time_limit": "300",
    "export": "csv,openmetrics",
    "compare": "latest",
    "fail_below": "0.95",
    "save": "main",
    "repeat_rule": "all",
    "label": "branch=main,cooling=water",
    "power": "director:4950",
    "power_ntp": "ntp.local",
    "power_client": "power-dev",
    "query_record": "off",
}
SWITCHES = [
    "compliance",
    "require",
    "endpoint_chat",
    "start_from_device",
    "end_on_device",
    "retarget",
]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the machine's own settings out of the tests."""
    for name in ("MLPERF_SCRATCH_PATH", "SYSTEM_NAME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def options(pytester: pytest.Pytester, *args: str) -> Options:
    """Return the options of a session with these arguments."""
    return read_options(pytester.parseconfig(*args))


def test_every_option_has_an_ini_twin_of_the_same_meaning(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same text on the command line and in the ini file gives equal options."""
    monkeypatch.setenv("TOKEN", "secret")
    pytester.path.joinpath("ca.pem").touch()
    flags = [f"{SPECS[name].flag}={text}" for name, text in VALUES.items()]
    typed = options(pytester, *flags, *(SPECS[name].flag for name in SWITCHES))
    lines = [f"{SPECS[name].dest} = {text}" for name, text in VALUES.items()]
    lines += [f"{SPECS[name].dest} = true" for name in SWITCHES]
    pytester.makeini("\n".join(["[pytest]", *lines]))
    written = options(pytester)

    # These contradict others; they have tests of their own.
    assert {*VALUES, *SWITCHES} == {*SPECS} - {
        "fast",
        "find_peak",
        "rehearsal",
        "repeat",
        "stop_early",
    }
    assert typed == written
    assert all(getattr(written, name) is True for name in SWITCHES)
    assert written.engine == ("null", "onnxruntime")
    assert written.max_delay_ms == 0.0
    assert written.reports == pytester.path / "out"


def test_options_win_over_ini_and_ini_over_environment(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearer a setting is to the user's fingers, the more it counts."""
    monkeypatch.setenv("SYSTEM_NAME", "from_environment")
    assert options(pytester).system == "from_environment"

    pytester.makeini("[pytest]\nmlperf_system = from_ini")
    assert options(pytester).system == "from_ini"
    assert options(pytester, "--mlperf-system=typed").system == "typed"


def test_a_switch_in_the_ini_file_is_true_or_false(pytester: pytest.Pytester) -> None:
    """Anything else is an error that names the key."""
    pytester.makeini("[pytest]\nmlperf_fast = perhaps")
    with pytest.raises(pytest.UsageError, match=r"mlperf_fast in .*'perhaps'"):
        options(pytester)
    pytester.makeini("[pytest]\nmlperf_fast = false")
    config = pytester.parseconfig()

    assert not read_options(config).fast
    assert not is_configured(config)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--fast"], {"fast": True}),
        (["--test-run"], {"fast": True}),
        (["--test_run"], {"fast": True}),
        (["--mlperf-fast"], {"fast": True}),
        (["--benchmarks", "bert", "--scenarios=Server"],
         {"benchmark": ("bert",), "scenario": ("server",)}),
        (["--benchmarks=bert", "--mlperf-benchmark=resnet"],
         {"benchmark": ("bert", "resnet50")}),
        (["--start_from_device"], {"start_from_device": True}),
        (["--start-from-device=true"], {"start_from_device": True}),
        (["--start_from_device=false"], {"start_from_device": False}),
        (["--server_target_qps=8", "--mlperf-target-qps=9"],
         {"target_qps": (("", 9.0), ("interactive", 8.0), ("server", 8.0))}),
        (["--single_stream_expected_latency_ns=1000000",
          "--multi-stream-expected-latency-ns=8000000"],
         {"expected_latency_ms": (("multistream", 8.0), ("singlestream", 1.0))}),
        (["--mlperf-batch=2", "--gpu_batch_size=4"], {"batch": 4}),
        (["--gpu_batch_size=4", "--mlperf-batch=2"], {"batch": 2}),
    ],
)  # fmt: skip
def test_other_harnesses_spellings_are_understood(
    pytester: pytest.Pytester, arguments: list[str], expected: dict[str, object]
) -> None:
    """The last word counts, and lists and scenarios are put together."""
    found = options(pytester, *arguments)

    assert {name: getattr(found, name) for name in expected} == expected


def test_a_project_keeps_its_own_options(pytester: pytest.Pytester) -> None:
    """Where a conftest has ``--fast`` or ``--benchmarks``, ours are ``--mlperf-…``."""
    pytester.makeconftest(
        """
        def pytest_addoption(parser):
            parser.addoption('--fast', default='theirs')
            parser.addoption('--benchmarks', action='store_true')
        """
    )
    config = pytester.parseconfig("--mlperf-fast", "--fast=own", "--benchmarks")

    assert config.getoption("fast") == "own"
    assert config.getoption("benchmarks") is True
    assert read_options(config).fast
    assert read_options(config).benchmark == ()


@pytest.mark.parametrize("workers", [[], ["-n1"]])
def test_spellings_are_unknown_in_other_sessions(
    pytester: pytest.Pytester, workers: list[str]
) -> None:
    """As they are to pytest without the plugin."""
    pytester.makepyfile("def test_theirs(): ...")
    arguments = ["--benchmarks=bert", "--fast", *workers]
    result = pytester.runpytest_subprocess(*arguments)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: unrecognized arguments: --benchmarks --fast: *no MLPerf item was *"]
    )


def test_items_that_are_deselected_know_the_spellings(suite: pytest.Pytester) -> None:
    """What runs may be somebody else's test, also on workers."""
    suite.makepyfile(test_theirs="def test_theirs(): ...")
    result = suite.runpytest_subprocess("--fast", "-n1", "-k", "theirs")

    result.assert_outcomes(passed=1)


def test_an_error_while_collecting_is_told_before_an_unused_spelling(
    suite: pytest.Pytester,
) -> None:
    """The items would have been there."""
    suite.makepyfile(test_suite="import nowhere_to_be_found")
    result = suite.runpytest("--fast")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*No module named 'nowhere_to_be_found'"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--benchmarks=bert", "--scenarios=Offline,Server"], 8),
        (["--mlperf-benchmark=bert-99", "--mlperf-scenario=server"], 2),
        (["--benchmarks=resnet50", "--test_mode=AccuracyOnly"], 4),
        (["--benchmarks=bert", "--config_ver=high_accuracy"], 6),
        (["--benchmarks=bert,resnet50", "--config_ver=default"], 14),
        (["--benchmarks=DSR1,DCNv2", "--scenarios=offline"], 6),
        (["--test_mode=SubmissionRun", "--benchmarks=bert"], 12),
        (["--benchmarks=bert", "-k", "server and accuracy"], 2),
    ],
)
def test_options_select_items(
    suite: pytest.Pytester, arguments: list[str], expected: int
) -> None:
    """Cells by benchmark, scenario and accuracy target; items by mode."""
    result = suite.runpytest("--collect-only", "-q", *arguments)

    assert len([line for line in result.outlines if "::" in line]) == expected


@pytest.mark.parametrize(
    ("arguments", "by", "why"),
    [
        (["--benchmarks=bert", "--scenarios=MultiStream"],
         "--mlperf-benchmark=bert --mlperf-scenario=multistream",
         "no round has: bert multistream"),
        (["--benchmarks=resnet50", "--config_ver=high_accuracy"],
         "--mlperf-benchmark=resnet50 --mlperf-accuracy-target=high",
         "what was typed together leaves no item. *"),
        (["--test_mode=AccuracyOnly", "-k", "performance"],
         "--mlperf-mode=accuracy",
         "what was typed together leaves no item. *"),
    ],
)  # fmt: skip
def test_a_selection_without_items_says_what_selected(
    suite: pytest.Pytester, arguments: list[str], by: str, why: str
) -> None:
    """No item is left over as a skipped one without a cell."""
    result = suite.runpytest("--fast", *arguments)

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines([f"mlperf: nothing selected by {by}; {why}"])
    result.assert_outcomes(deselected=result.parseoutcomes()["deselected"])


def test_spellings_reach_the_workers(suite: pytest.Pytester) -> None:
    """Under xdist the workers select the same items, with the same options."""
    arguments = ["--benchmarks=bert", "--scenarios=offline", "--gpu_batch_size=4"]
    result = suite.runpytest_subprocess("--fast", "-n1", *arguments)
    path = suite.path / "reports" / "latest" / results.FILE
    header = json.loads(path.read_text().splitlines()[0])

    result.assert_outcomes(passed=4)
    assert header["options"]["batch"] == 4


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--mlperf-engine=a:ENGINE,b:ENGINE", "*'a:ENGINE' and 'b:ENGINE' would both*"),
        (
            "--mlperf-engine=onnxruntime --mlperf-engine=x:ONNXRUNTIME",
            "*'onnxruntime' and 'x:ONNXRUNTIME' would both be called 'onnxruntime'*",
        ),
        ("--mlperf-engine=a,,b", "*an empty name*"),
        ("--mlperf-engine=onnxruntim", "*Did you mean 'onnxruntime'?*"),
        ("--mlperf-batch=1.5", "*'1.5', but should be a whole number of at least 1"),
        ("--fast --mlperf-duration=5", "*keep one of the two"),
        (
            "--mlperf-stop-early --mlperf-power=a --mlperf-power-ntp=b",
            "*meter waits for*",
        ),
        ("--gpu_batch_size=x", "--gpu_batch_size: 'x', *the option is --mlperf-batch)"),
        ("--gpu_copy_streams=2", "--gpu_copy_streams is not needed here because *"),
        ("--benchmarks=brt", "--mlperf-benchmark: 'brt', *Did you mean 'bert'?"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_runs(
    pytester: pytest.Pytester, argument: str, message: str
) -> None:
    """A user's mistake is one sentence."""
    result = pytester.runpytest(*argument.split())

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


def test_help_lists_each_option_once_with_its_other_spellings(
    pytester: pytest.Pytester,
) -> None:
    """The other harnesses' spellings are no options of their own."""
    text = " ".join(pytester.runpytest("--help").stdout.str().split())

    assert text.count("--mlperf-batch=N") == 1
    assert "else found by the probe); also --gpu_batch_size" in text
    assert "--gpu_copy_streams" not in text


def test_in_a_clone_keywords_select_mlperf_cells() -> None:
    """``pytest -k "bert and server"`` is about MLPerf, not the project's own tests."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p"]
    command += ["no:cacheprovider", "-k", "bert and server"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=False
    )
    listed = [line for line in done.stdout.splitlines() if "::" in line]

    assert listed
    assert all(line.startswith("suites/") and "bert-99" in line for line in listed)


def test_help_has_groups_and_the_default_of_every_tuning_option(
    pytester: pytest.Pytester,
) -> None:
    """A reader finds an option by what it is about, and sees what holds without it."""
    text = pytester.runpytest("--help").stdout.str()
    places = [text.index(f"\n{title}:\n") for title in GROUPS.values()]
    names = list(SPECS)
    tuning = names[names.index("precision") : names.index("system")]
    shown = " ".join(text[places[1] : places[2]].split())

    assert places == sorted(places)
    assert len(tuning) == 11
    for spec in (SPECS[name] for name in tuning):
        assert spec.flag in shown
        assert spec.is_switch or "(default: " in spec.help, spec.flag
