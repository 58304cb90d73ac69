"""Options: one frozen value from command line, ini file and environment."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from pytest_mlperf.config.options import ROUND_S
from pytest_mlperf.config.options import SPECS
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.rounds import ROUNDS
from pytest_mlperf.core.rounds import get

VALUES = {
    "mlperf_duration": "2.5",
    "mlperf_round": "v5.1",
    "mlperf_scratch": "models",
    "mlperf_workload": "embedded",
    "mlperf_precision": "fp32",
    "mlperf_target_qps": "100",
    "mlperf_expected_latency_ms": "3",
    "mlperf_streams": "2",
    "mlperf_threads": "1",
    "mlperf_batch": "8",
    "mlperf_max_delay_ms": "0",
    "mlperf_provider": "CPUExecutionProvider",
    "mlperf_engine_options": "level=3,cuda-graphs=off",
    "mlperf_system": "box",
    "mlperf_cache": "built",
    "mlperf_reports": "out",
    "mlperf_stall": "9",
    "mlperf_build_timeout": "90",
    "mlperf_devices_per_item": "all",
    "mlperf_lease_wait": "7",
    "mlperf_progress": "off",
    "mlperf_submission": "ACME",
    "mlperf_tree": "before",
    "mlperf_division": "open",
    "mlperf_category": "edge",
    "mlperf_checker": "inference",
    "mlperf_endpoint": "http://a:1,b:2",
    "mlperf_endpoint_model": "llama",
    "mlperf_endpoint_balance": "round",
    "mlperf_endpoint_concurrency": "64",
    "mlperf_endpoint_timeout": "30",
    "mlperf_endpoint_token_env": "TOKEN",
    "mlperf_endpoint_ca": "ca.pem",
    "mlperf_core_type": "trtllm_endpoint",
    "mlperf_lock_clocks": "1590",
}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the machine's own settings out of the tests."""
    for name in ("MLPERF_SCRATCH_PATH", "SYSTEM_NAME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def options(pytester: pytest.Pytester, *args: str) -> Options:
    """Return the options of a session with these arguments."""
    return Options.from_config(pytester.parseconfig(*args))


@pytest.mark.parametrize("value", ["0", "some", "-1", "1.5"])
def test_devices_per_item_are_a_number_or_all(
    pytester: pytest.Pytester, value: str
) -> None:
    """Anything else is refused with both."""
    with pytest.raises(pytest.UsageError, match="whole number of at least 1, or all"):
        options(pytester, f"--mlperf-devices-per-item={value}")


def test_every_option_has_an_ini_twin_of_the_same_meaning(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same text on the command line and in the ini file gives equal options."""
    monkeypatch.setenv("TOKEN", "secret")
    pytester.path.joinpath("ca.pem").touch()
    flags = [f"{spec.flag}={VALUES[spec.dest]}" for spec in SPECS]
    flags += ["--mlperf-start-from-device", "--mlperf-end-on-device"]
    typed = options(pytester, *flags, "--mlperf-engine=null,onnxruntime")
    lines = [f"{name} = {value}" for name, value in VALUES.items()]
    lines.append("mlperf_engine = null, onnxruntime")
    lines += ["mlperf_start_from_device = true", "mlperf_end_on_device = true"]
    pytester.makeini("\n".join(["[pytest]", *lines]))
    written = options(pytester)

    assert typed == written
    assert written.start_from_device
    assert written.end_on_device
    assert written.engine == ("null", "onnxruntime")
    assert written.max_delay_ms == 0.0
    assert pytester.path / "out" == written.reports


def test_options_win_over_ini_and_ini_over_environment(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearer a setting is to the user's fingers, the more it counts."""
    monkeypatch.setenv("SYSTEM_NAME", "from_environment")
    assert options(pytester).system == "from_environment"

    pytester.makeini("[pytest]\nmlperf_system = from_ini")
    assert options(pytester).system == "from_ini"
    assert options(pytester, "--mlperf-system=typed").system == "typed"


@pytest.mark.parametrize("flag", ["--fast", "--test-run", "--mlperf-fast"])
def test_fast_is_a_minute_under_each_of_its_names(
    pytester: pytest.Pytester, flag: str
) -> None:
    """All spellings give 60 s and the label that goes with the results."""
    found = options(pytester, flag)

    assert found.min_duration_s == 60.0
    assert found.labels == ("embedded", "fast")


def test_a_project_keeps_its_own_fast_option(pytester: pytest.Pytester) -> None:
    """Where a conftest has ``--fast``, ours is ``--mlperf-fast`` only."""
    pytester.makeconftest(
        "def pytest_addoption(parser): parser.addoption('--fast', default='theirs')"
    )
    config = pytester.parseconfig("--mlperf-fast", "--fast=own")

    assert config.getoption("fast") == "own"
    assert Options.from_config(config).fast


def test_a_scratch_folder_makes_the_workload_official(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``auto`` is embedded unless there is a place for the official files."""
    assert options(pytester).workload == "embedded"

    monkeypatch.setenv("MLPERF_SCRATCH_PATH", "/models")
    found = options(pytester)

    assert found.workload == "official"
    assert Path("/models") == found.scratch
    assert found.labels == ()
    assert options(pytester, "--mlperf-workload=embedded").workload == "embedded"


def test_the_cache_honours_xdg(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built engines go below XDG_CACHE_HOME where that is set."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/fast/disk")

    assert Path("/fast/disk/pytest-mlperf") == options(pytester).cache


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [
        ("599", ("embedded", "shortened")),
        ("600", ("embedded",)),
        ("900", ("embedded",)),
    ],
)
def test_a_duration_that_shortens_nothing_has_no_label(
    pytester: pytest.Pytester, seconds: str, labels: tuple[str, ...]
) -> None:
    """Every round asks for 600 s; from there on nothing is waived."""
    durations = {r.min_duration_ms for n in ROUNDS for r in get(n).rules}

    assert durations == {ROUND_S * 1000}
    assert labels == options(pytester, f"--mlperf-duration={seconds}").labels


def test_without_a_home_the_cache_is_below_the_root_directory(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody's home is no reason to stop anybody's session."""
    monkeypatch.setenv("HOME", "~nobody_of_this_name")
    found = options(pytester, "--mlperf-scratch=~nobody_of_this_name/models")

    assert pytester.path / ".cache" / "pytest-mlperf" == found.cache
    assert pytester.path / "~nobody_of_this_name" / "models" == found.scratch


def test_a_blank_variable_counts_as_none(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment is not the user's typing: it never refuses a session."""
    for name in ("MLPERF_SCRATCH_PATH", "SYSTEM_NAME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, " ")
    found = options(pytester)

    assert (found.scratch, found.system) == (None, None)
    assert Path.home() / ".cache" / "pytest-mlperf" == found.cache


def test_options_travel_as_json_and_pickle(pytester: pytest.Pytester) -> None:
    """Workers, runners and results files can all carry them."""
    found = options(pytester, "--fast", "--mlperf-batch=4")

    assert found == pickle.loads(pickle.dumps(found))  # noqa: S301 - our own bytes
    assert json.loads(json.dumps(found.as_dict()))["batch"] == 4


def test_an_engine_in_development_has_a_short_name(pytester: pytest.Pytester) -> None:
    """``module:object`` is called by its object in ids, and found by it again."""
    found = options(pytester, "--mlperf-engine=pkg.mod:QUICK")

    assert found.engine_spec("quick") == "pkg.mod:QUICK"
    assert found.engine_spec("null") == "null"


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--mlperf-duration=0", "*'0', but should be a number above 0"),
        ("--mlperf-duration=nan", "*'nan', but should be a number above 0"),
        ("--mlperf-target-qps=inf", "*'inf', but should be a number above 0"),
        ("--mlperf-batch=1.5", "*but should be a whole number of at least 1"),
        ("--mlperf-max-delay-ms=-1", "*'-1', but should be a number above 0"),
        ("--mlperf-workload=oficial", "*official, generated. Did you mean 'official'?"),
        ("--mlperf-round=v6.2", "*one of v2.0, *v6.1. Did you mean *"),
        ("--mlperf-engine=a,,b", "*an empty name*"),
        ("--mlperf-engine=a:ENGINE,b:ENGINE", "*'a:ENGINE' and 'b:ENGINE' would both*"),
        (
            "--mlperf-engine=onnxruntime --mlperf-engine=x:ONNXRUNTIME",
            "*'onnxruntime' and 'x:ONNXRUNTIME' would both be called 'onnxruntime'*",
        ),
        ("--mlperf-engine=onnxruntim", "*Did you mean 'onnxruntime'?*"),
        ("--mlperf-workload=official", "*add --mlperf-scratch DIR*"),
        ("--fast --mlperf-duration=5", "*keep one of the two"),
        ("--mlperf-lock-clocks=fast", "*'fast', but should be max, or MHz from 100*"),
        (
            "--mlperf-rehearsal --mlperf-end-on-device",
            "--mlperf-end-on-device is about a device, and --mlperf-rehearsal*",
        ),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_legal(
    pytester: pytest.Pytester, argument: str, said: str
) -> None:
    """A user's mistake is one sentence, before anything runs."""
    result = pytester.runpytest(*argument.split())

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {said}"])
