"""LoadGen runs against small real KServe v2 servers, well-behaved and faulty."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.request_batch import send_all
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.core.latency_breakdown import COLUMNS
from pytest_mlperf.core.types import Mode
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.runner.runner import Runner
from pytest_mlperf.services.kserve.provider import TritonService
from tests.support import doubles
from tests.support import kserve_double as kserve
from tests.support.endpoint_double import format_page
from tests.support.kserve_double import KServeModel
from tests.support.kserve_double import make_task
from tests.support.kserve_double import serve_echo
from tests.support.service_doubles import judge_run
from tests.support.service_doubles import read_refusal


def test_a_run_tells_where_the_time_of_its_requests_went(
    runner: Runner, tmp_path: Path
) -> None:
    """The server's counters, the client's clock and LoadGen's mean agree."""
    with serve_echo() as server:
        result = runner.run(make_task(tmp_path, [server.url]))
    steps = result.facts.breakdown_us
    phases = {
        "Server Queue": 2, "Server Compute Input": 1, "Server Compute Infer": 5,
        "Server Compute Output": 0,
    }  # fmt: skip

    assert set(COLUMNS) < set(steps)
    assert {name: round(steps[name], 6) for name in phases} == phases
    assert min(steps.values()) >= 0
    # Offline's queries wait for hundreds of milliseconds.
    assert sum(steps.values()) == pytest.approx(result.facts.end_to_end_us, rel=0.05)
    verdict = judge_run(make_task(tmp_path, [server.url]), result)
    assert re.search(r"mean us: wait [\d,]+ \+ send .* of LoadGen's", verdict.explain())
    assert verdict.facts["model served"] == "echo, double"
    assert verdict.facts["max_batch_size"] == "8"


def test_an_accuracy_run_has_every_answer(runner: Runner, tmp_path: Path) -> None:
    """Of two servers that share the requests."""
    with serve_echo() as one, serve_echo() as two:
        task = make_task(
            tmp_path, [one.url, two.url], mode=Mode.ACCURACY, asked={"balance": "round"}
        )
        result = runner.run(task)
    texts = result.facts.to_texts()

    assert result.metrics == {"acc": 100.0}
    assert texts[f"endpoint {one.url} requests"] == "32 of 32"
    assert texts[f"endpoint {two.url} requests"] == "32 of 32"


def test_a_server_without_binary_tensors_is_asked_in_json(
    runner: Runner, tmp_path: Path
) -> None:
    """As mlserver is; the facts say so."""
    with serve_echo(KServeModel(extensions=[])) as server:
        result = runner.run(make_task(tmp_path, [server.url], mode=Mode.ACCURACY))

    assert result.metrics == {"acc": 100.0}
    assert result.facts.texts["tensors"].startswith("as JSON")
    assert all(b"Inference-Header" not in request for request in server.requests)


@pytest.mark.parametrize(
    ("has_statistics", "others", "problem"),
    [
        (False, 0, "none: the server keeps no statistics of the model"),
        (True, 7, "none: the server counted .* another client asked it meanwhile"),
    ],
)
def test_counters_that_cannot_be_this_runs_are_not_used(
    runner: Runner, tmp_path: Path, has_statistics: bool, others: int, problem: str
) -> None:
    """The facts say why there is no breakdown."""

    class Shared(KServeModel):
        def pages(self) -> dict[str, bytes]:
            self.requests += others
            return super().pages()

    with serve_echo(Shared(has_statistics=has_statistics)) as server:
        result = runner.run(make_task(tmp_path, [server.url]))

    assert not result.facts.breakdown_us
    assert re.match(problem, result.facts.texts["latency breakdown"])


GARBAGE = b"\x16\x03\x01 this is no HTTP \x00\xff" * 9
FAULTS = {
    "closes": (lambda _: False, "closed the connection before the answer"),
    "garbage": (kserve.send_bytes(GARBAGE), "instead of an HTTP/1.1 response"),
    "garbage in HTTP": (
        kserve.send_bytes(format_page(200, "\x01\x02")),
        "should be a KServe v2 answer",
    ),
    "half": (
        kserve.send_bytes(kserve.format_answer(b"\0" * 4)[:-2]),
        "in the middle of the answer",
    ),
    "refused": (
        kserve.send_bytes(format_page(503, '{"error":"rate limit exceeded"}')),
        "HTTP 503: .*rate limit exceeded",
    ),
    "unloaded": (
        kserve.send_bytes(format_page(404, '{"error":"unknown model"}')),
        "HTTP 404: .*unknown model",
    ),
    "two rows": (
        kserve.send_bytes(kserve.format_answer(b"\0" * 8)),
        r"output number of shape \[2, 1\], but should have 1 rows",
    ),
    "wrong type": (
        kserve.send_bytes(kserve.format_answer(b"\0" * 4, datatype="FP64")),
        r"output number of 4 bytes, but FP64 \[1, 1\] has 8",
    ),
    "twice": (kserve.answer_twice, "bytes more than Content-Length says"),
    "silent": (kserve.stall, "no whole answer in 0.5 s"),
}


FAILED = r"{url}: request for sample \d+ failed after [\d.]+ s: .*{problem}"


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_failed_request(name: str) -> None:
    """It names request, URL and time."""
    fault, problem = FAULTS[name]
    service = TritonService()
    with serve_echo(fault=fault) as server:
        # Short only where it has to pass: a busy machine may answer late.
        limit_s = 0.5 if name == "silent" else 60
        target = ServiceTarget((server.url,), "echo", timeout_s=limit_s)
        made = service.requests(target, doubles.NUMBERS.open_workload("embedded", None))
        made.load(range(3))
        with pytest.raises(RequestFailed) as caught:
            send_all(
                partial(service.open, target, made),
                range(3), outstanding=3, count=100, beat=lambda: None,
            )  # fmt: skip
    text = str(caught.value)

    assert re.search(FAILED.format(url=server.url, problem=problem), text), text


@pytest.mark.usefixtures("bounded")
def test_a_faulty_server_is_one_failed_item(runner: Runner, tmp_path: Path) -> None:
    """It says what the request's failure says; the next run has a fresh child."""
    with serve_echo(fault=lambda _: False) as bad, pytest.raises(RunFailed) as caught:
        runner.run(make_task(tmp_path / "bad", [bad.url]))
    with serve_echo() as good:
        task = make_task(tmp_path / "good", [good.url], mode=Mode.ACCURACY)

        assert runner.run(task).metrics == {"acc": 100.0}
    text = str(caught.value)
    problem = FAULTS["closes"][1]
    assert re.search(FAILED.format(url=bad.url, problem=problem), text), text


def change(**changes: Any) -> dict[str, Any]:
    """Return the model's metadata with a changed input."""
    return {**kserve.METADATA, "inputs": [{**kserve.NUMBER, **changes}]}


BATCHLESS = {
    "metadata": change(shape=[4]),
    "config": {**kserve.CONFIG, "max_batch_size": 0},
}
MISMATCHES: dict[str, tuple[dict[str, Any], str]] = {
    "not ready": (
        {"state": "UNAVAILABLE"},
        "the model 'echo' is UNAVAILABLE, but should be READY",
    ),
    "type": (
        {"metadata": change(datatype="INT64")},
        "takes INT64 for number, but the workload sends FP32",
    ),
    "shape": (
        {"metadata": change(shape=[-1, 5])},
        r"takes \[-1, 5\] for number, but the workload sends \[1, 4\]",
    ),
    "no batch": (BATCHLESS, "its max_batch_size is 0"),
    "input": (
        {"metadata": change(name="digit")},
        "has the inputs digit, but the workload sends number",
    ),
    "output": (
        {"metadata": {**kserve.METADATA, "outputs": [{"name": "digit"}]}},
        "has the outputs digit, but should also have number",
    ),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_a_model_that_does_not_fit_is_refused_in_words(
    runner: Runner, tmp_path: Path, name: str
) -> None:
    """Before LoadGen starts; URL and model are named."""
    changes, problem = MISMATCHES[name]
    with serve_echo(KServeModel(**changes)) as server:
        text = read_refusal(runner, make_task(tmp_path, [server.url]))

    assert server.url in text
    assert re.search(problem, text), text


def test_a_model_is_named_or_the_only_one(runner: Runner, tmp_path: Path) -> None:
    """An unknown name lists what there is and suggests one."""
    with serve_echo() as server:
        wrong = make_task(tmp_path, [server.url], asked={"model": "ecco"})
        text = read_refusal(runner, wrong)
        only = make_task(tmp_path, [server.url], asked={"model": ""})
        facts = runner.run(replace(only, folder=tmp_path / "only")).facts

    assert "does not serve the model 'ecco'; it serves 'echo'. Did you mean" in text
    assert facts.texts["model served"] == "echo, double"


def test_nobody_there_and_another_service_are_told_apart(
    runner: Runner, tmp_path: Path
) -> None:
    """A closed port, and a port that speaks something else."""
    with ExitStack() as stack:
        url = stack.enter_context(serve_echo()).url
    text = read_refusal(runner, make_task(tmp_path, [url]))

    assert re.search(f"{url}/v2.*: nobody answers", text), text
