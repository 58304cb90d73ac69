"""Cells that a service answers, as pytest sees them: ids, marks, skips and options."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_mlperf.config.option_types import TOKEN_ENV
from pytest_mlperf.config.options import Options
from pytest_mlperf.measure.placement import Placement
from pytest_mlperf.measure.plan import plan_service
from pytest_mlperf.plugin.options import read_options
from pytest_mlperf.runner.messages import ServerSpec
from tests.support.endpoint_double import serve_endpoint
from tests.support.service_doubles import ENTRY_POINT

SUITES = Path(__file__).parents[2]
"""A wheel has them inside the package; here they are beside it."""
DEVICE = Placement((0, 1), "cpu")


@pytest.fixture
def asking(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installs a benchmark that services answer."""
    metadata = pytester.mkdir("asking-1.dist-info")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: asking\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINT)
    paths = [str(pytester.path), str(SUITES)]
    for path in reversed(paths):
        monkeypatch.setenv("PYTHONPATH", path, prepend=os.pathsep)
    monkeypatch.delenv(TOKEN_ENV, raising=False)


def collected(pytester: pytest.Pytester, *args: str) -> list[str]:
    """Return the ids of the suites' performance items."""
    command = [str(SUITES / "suites"), "--collect-only", "-q", *args]
    result = pytester.runpytest_subprocess(*command)
    lines = [line for line in result.outlines if "test_performance[" in line]
    return [line.partition("[")[2].removesuffix("]") for line in lines]


@pytest.mark.usefixtures("asking")
def test_a_service_answers_each_cell_once_whatever_the_engines(
    pytester: pytest.Pytester,
) -> None:
    """Engines multiply the batch benchmarks; nothing changes for those."""
    found = collected(pytester, "--mlperf-engine", "null,onnxruntime")
    ours = ("llama3.1-8b-offline", "llama3.1-8b-server", "llama3.1-8b-interactive")
    llama = [name for name in found if name.startswith(ours)]

    assert llama == [
        "llama3.1-8b-offline-endpoint",
        "llama3.1-8b-server-endpoint",
        "llama3.1-8b-interactive-endpoint",
    ]
    batches = [name for name in found if name.startswith(("bert", "resnet50"))]
    assert {name.rpartition("-")[2] for name in batches} == {"null", "onnxruntime"}


@pytest.mark.usefixtures("asking")
@pytest.mark.parametrize(
    ("how", "wish"),
    [
        ("-k", "llama3.1-8b and interactive"),
        ("-m", "mlperf(benchmark='llama3.1-8b', scenario='interactive')"),
    ],
)
def test_such_cells_are_selected_like_others(
    pytester: pytest.Pytester, how: str, wish: str
) -> None:
    """By words and by marks, the service's name among them."""
    found = collected(pytester, how, wish)

    assert found == ["llama3.1-8b-interactive-endpoint"]


LLM_CELLS = {
    "deepseek-r1": 4, "gpt-oss-120b": 3, "llama2-70b-99": 3, "llama2-70b-99.9": 3,
    "llama3.1-405b": 3, "llama3.1-8b": 3, "llama3.1-8b-edge": 2, "mixtral-8x7b": 2,
}  # fmt: skip


def test_every_llm_benchmark_has_the_cells_of_its_rounds(
    pytester: pytest.Pytester,
) -> None:
    """Registered, whether or not anything here could answer them."""
    found = collected(pytester, "-m", "endpoint")
    models = [name.rpartition("-")[0].rpartition("-")[0] for name in found]

    assert {model: models.count(model) for model in LLM_CELLS} == LLM_CELLS


def test_a_benchmark_without_a_stand_in_skips_with_one_line(
    pytester: pytest.Pytester,
) -> None:
    """It says what would run: the official files, or the benchmark that is embedded."""
    result = pytester.runpytest_subprocess(
        str(SUITES / "suites"), "-k", "llama2-70b or mixtral or deepseek or gpt-oss",
        "-rs", "--mlperf-duration", "1",
    )  # fmt: skip

    result.assert_outcomes(skipped=30)
    result.stdout.fnmatch_lines(
        ["*llama2-70b has no embedded workload; choose --mlperf-workload official*"]
    )


@pytest.mark.usefixtures("asking")
def test_a_rehearsal_has_no_cells_that_count_tokens(pytester: pytest.Pytester) -> None:
    """Its oracle answers batches."""
    found = collected(pytester, "--mlperf-rehearsal")

    assert found
    assert not [name for name in found if "llama" in name]


@pytest.mark.usefixtures("asking")
def test_without_a_server_the_items_skip_with_the_remedy(
    pytester: pytest.Pytester,
) -> None:
    """Nothing else is wrong on such a machine."""
    result = pytester.runpytest_subprocess(
        str(SUITES / "suites"), "-k", "llama3.1-8b-offline", "-rs",
        "--mlperf-duration", "1",
    )  # fmt: skip

    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["*no server for llama3.1-8b: name a running one*"])


@pytest.mark.usefixtures("asking")
def test_a_suite_runs_against_an_endpoint_and_its_table_has_tokens(
    pytester: pytest.Pytester,
) -> None:
    """From the option to the table: tokens/s, TTFT and TPOT in percent of the limit."""
    with serve_endpoint() as server:
        result = pytester.runpytest_subprocess(
            str(SUITES / "suites"), "-k", "llama3.1-8b and interactive and performance",
            "--trtllm_server_urls", server.url.removeprefix("http://"),
            "--core_type=trtllm_endpoint", "--mlperf-target-qps", "400",
            "--mlperf-endpoint-concurrency", "8", "--mlperf-duration", "1.5",
        )  # fmt: skip

    result.stdout.fnmatch_lines(
        [
            "*Interactive*tokens/s*",
            "*llama3.1-8b*500*",
            "*TTFT p99 * ms (*% of 500), TPOT p99 * ms (*% of 30)",
        ]
    )


def options(pytester: pytest.Pytester, *args: str) -> Options:
    return read_options(pytester.parseconfig(*args))


def test_options_win_over_the_system_files_table(pytester: pytest.Pytester) -> None:
    """What the command line does not say comes from the table."""
    table = {"model": "big", "concurrency": 256, "balance": "round", "ready_s": 9.0}
    given = options(
        pytester, "--mlperf-endpoint", "a:1,b:2", "--mlperf-endpoint-concurrency=64"
    )
    spec = plan_service(given, {**table, "command": "serve {model}"}, DEVICE)

    assert spec.urls == ("a:1", "b:2")
    assert spec.server is None
    assert (spec.model, spec.concurrency, spec.balance) == ("big", 64, "round")


def test_a_command_is_split_as_a_shell_does_and_knows_its_gpus(
    pytester: pytest.Pytester,
) -> None:
    """Braces are filled later, by who knows the port."""
    device = Placement((0,), "gpu", {"CUDA_VISIBLE_DEVICES": "3"})
    table = {"command": "serve '{model}' --port {port}", "ready_s": 9.0}
    spec = plan_service(options(pytester), table, device)

    words = ("serve", "{model}", "--port", "{port}")
    assert ServerSpec(words, devices="3", ready_s=9.0) == spec.server


def test_a_silent_stream_fails_before_the_watchdog_steps_in(
    pytester: pytest.Pytester,
) -> None:
    """The client can name the request, the watchdog cannot."""
    given = options(pytester, "--mlperf-stall", "40")

    assert 40 > plan_service(given, {}, DEVICE).stall_s > 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mlperf-endpoint", "ftp://h"], "no http:// or https:// URL"),
        (["--mlperf-endpoint", "h:1,"], "none of them empty"),
        (["--mlperf-endpoint", "h:1,h:1"], "none is named twice"),
        (["--mlperf-endpoint", "http://me:pw@h"], "a password in a URL ends in logs"),
        (["--mlperf-endpoint-balance", "rund"], "Did you mean 'round'?"),
        (["--mlperf-endpoint-token-env", "sk-123"], "not the token"),
        (["--mlperf-endpoint-token-env", "NOT_SET_AT_ALL"], "is not set"),
        (["--mlperf-endpoint-ca", "nowhere.pem"], "no such file"),
        (["--mlperf-core-type", "triton_grpc"], "asks Triton for text by gRPC"),
        (["--mlperf-core-type", "trtllm_endpont"], "Did you mean 'trtllm_endpoint'?"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_legal(
    pytester: pytest.Pytester, arguments: list[str], said: str
) -> None:
    """Before anything is collected."""
    with pytest.raises(pytest.UsageError) as caught:
        options(pytester, *arguments)

    assert said in str(caught.value)


def test_no_secret_can_be_an_option(pytester: pytest.Pytester) -> None:
    """What is recorded of the options names a variable at most."""
    recorded = options(pytester, "--mlperf-endpoint", "h:1").as_dict()

    assert not [name for name in recorded if name.endswith(("token", "key"))]
