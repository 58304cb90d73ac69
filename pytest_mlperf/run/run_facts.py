"""What a run's backend tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from pytest_mlperf.api.device_dataset import ResidentSamples
from pytest_mlperf.api.device_dataset import residency_texts
from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.service import EndpointStats
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.api.workload import PromptWorkload
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.api.workload import input_types
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.latency_breakdown import LatencyBreakdown
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.logs.log import LogError
from pytest_mlperf.runner.messages import Built
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import ServiceSpec
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.tuned_load import ServiceTuned
from pytest_mlperf.sut.tuned_load import Tuned


def make_engine_facts(
    task: Task,
    tuned: Tuned,
    provider: EngineProvider,
    build: Build | Built,
    workload: TensorWorkload,
) -> RunFacts:
    """Return what a verdict says of engine, workload and tuning."""
    texts = {
        **build.facts,
        "streams x threads": str(tuned.streams),
        "batch": str(tuned.batch),
        "tuning": tuned.note,
        "engine build": build.report,
        "cpus": str(len(task.cpus)),
    }
    if tuned.target_qps is not None:
        texts["target_qps"] = f"{tuned.target_qps:.4g}"
    loop = tuned.loop_rate
    if loop is not None and not provider.answers:
        # An engine that only answers has no rate of its own to multiply.
        loop *= task.devices
    return RunFacts(
        device=build.device,
        uses_gpu=build.uses_gpu,
        devices=task.devices,
        precision=task.precision,
        input_types=input_types(workload.dataset),
        workload=workload.title,
        weights_file=workload.model.path.name if workload.model else "",
        weight_transformations=build.weight_transformations,
        start_from_device=task.residency.start,
        end_on_device=task.residency.end,
        bare_loop_per_s=loop,
        probed_share=tuned.probed_share,
        target_qps=tuned.target_qps,
        texts=texts,
    )


def add_resident_samples(result: RunResult, resident: ResidentSamples) -> RunResult:
    """Return the result of a run that began or ended on the device."""
    texts = {**result.facts.texts, **residency_texts(resident)}
    return replace(
        result,
        facts=replace(result.facts, texts=texts),
        type_bytes=resident.type_bytes,
        copies=resident.copies,
    )


def endpoint_texts(stats: Sequence[EndpointStats]) -> dict[str, str]:
    """Return each endpoint's figures as texts of the run."""
    if len(stats) == 1:
        return {f"endpoint {k}": value for k, value in stats[0].facts().items()}
    return {
        f"endpoint {one.url} {name}": value
        for one in stats
        for name, value in one.facts().items()
    }


def identify_service(task: Task, workload: str, target: ServiceTarget) -> str:
    """Return the content hash of what answers: server or endpoints, model, data.

    ``workload``: its digest.
    """
    spec = spec_of(task)
    # The port of a started server is another each time.
    where = spec.server.command if spec.server else spec.urls
    return content_hash(
        {
            "service": task.cell.engine,
            "where": where,
            "model": target.model if spec.urls or spec.server else "embedded",
            "precision": task.tuning.precision,
            "target": task.cell.target,
            "chat": target.chat,
            "workload": workload,
            **{f"option {k}": value for k, value in task.engine_options.items()},
        }
    )


def make_service_facts(
    task: Task,
    tuned: ServiceTuned,
    target: ServiceTarget,
    workload: PromptWorkload | TensorWorkload,
    stats: Sequence[EndpointStats],
    texts: Mapping[str, str],
) -> RunFacts:
    """Return what a verdict says of a service; ``texts``: what it said of itself."""
    texts = {
        **texts,
        "endpoints": ", ".join(target.urls),
        "concurrency": str(tuned.concurrency),
        "balance": target.balance,
        "tuning": tuned.note,
        **endpoint_texts(stats),
    }
    if not task.precision:
        texts["precision"] = "the server's own"
    if isinstance(workload, PromptWorkload):
        types: tuple[str, ...]
        types = ("int32" if workload.prompt(0).token_ids else "text",)
        texts["interface"] = "chat completions" if target.chat else "completions"
        texts["streamed"] = "yes" if target.stream else "no, whole answers"
        unjudged = workload.unjudged.items()
        texts |= {f"not judged: {name}": why for name, why in unjudged}
    else:
        types = input_types(workload.dataset)
    if tuned.target_qps is not None:
        texts["target_qps"] = f"{tuned.target_qps:.4g}"
    return RunFacts(
        precision=task.precision,
        input_types=types,
        workload=workload.title,
        bare_loop_per_s=tuned.loop_rate,
        probed_share=tuned.probed_share,
        target_qps=tuned.target_qps,
        requests=sum(one.sent for one in stats),
        resent=sum(one.resent for one in stats),
        refused_fields=tuple(target.refused),
        texts=texts,
    )


def add_breakdown(
    facts: RunFacts, task: Task, found: LatencyBreakdown | str
) -> RunFacts:
    """Return a run's facts with where its requests' time went, beside LoadGen's mean.

    ``found``: a text where that is not known, empty where nobody tells it.
    """
    if isinstance(found, str):
        texts = {**facts.texts, "latency breakdown": f"none: {found}"}
        return replace(facts, texts=texts) if found else facts
    if spec_of(task).over_network and (network := found.describe_network()):
        facts = replace(facts, texts={**facts.texts, "network": network})
    mean_ns = 0
    with suppress(LogError):  # which the judge reports
        mean_ns = Log.read(task.folder).get("result_mean_latency_ns", 0)
    return replace(facts, breakdown_us=found.to_us(), end_to_end_us=mean_ns / 1e3)


def spec_of(task: Task) -> ServiceSpec:
    """Return where the task's service is."""
    assert task.service is not None, "a service answers this task"
    return task.service
