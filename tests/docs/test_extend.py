"""Each page of docs/extend: its package, found by entry point alone, runs to VALID."""

from __future__ import annotations

from pytest_mlperf.benchmarks.files import EMBEDDED
from tests.support.documents import Project
from tests.support.documents import read_page
from tests.support.kserve_server import serve_model


def test_the_engine_of_its_page_runs(project: Project) -> None:
    """Performance and accuracy of a real model, on one build."""
    page = read_page("extend/engine.md")
    project.install(page)
    (command,) = page.commands
    outcome = project.run(command.line)

    outcome.expect(command.prints)
    assert outcome.code == 0
    assert [verdict.outcome for verdict in outcome.verdicts] == ["VALID", "VALID"]
    assert {verdict.engine for verdict in outcome.verdicts} == {"mine"}
    assert len({verdict.build for verdict in outcome.verdicts}) == 1


def test_the_service_of_its_page_answers_tensors(project: Project) -> None:
    """A real server on loopback answers resnet50 under the same rules."""
    page = read_page("extend/service.md")
    project.install(page)
    (command,) = page.commands
    with serve_model(EMBEDDED / "resnet50" / "efficientnet_lite0.onnx") as url:
        outcome = project.run(
            command.line.replace("http://127.0.0.1:8000", url),
            "--mlperf-endpoint-concurrency=8",
        )

    outcome.expect(command.prints)
    assert outcome.code == 0
    assert [verdict.outcome for verdict in outcome.verdicts] == ["VALID", "VALID"]
    for verdict in outcome.verdicts:
        assert verdict.engine == "kserve"
        assert verdict.facts["endpoints"] == url
        assert verdict.facts["model served"] == "resnet50, onnxruntime_onnx"
        answered, _, sent = verdict.facts["endpoint requests"].partition(" of ")
        assert answered == sent
