"""What a submission says of its system: the machine's file, and what ran on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pytest_mlperf.core.submission.choose import choose
from pytest_mlperf.core.submission.runs import Run
from pytest_mlperf.machine.system import detect_system
from pytest_mlperf.submission.system_description import describe_system
from tests.support import trees
from tests.support.submissions import ask_of


def test_the_framework_is_the_engine_that_ran_with_its_version(
    tmp_path: Path, bert: list[Run]
) -> None:
    """Before there are results it is the one that was asked for."""
    software = ("framework", "other_software_stack")
    known = {k: v for k, v in trees.DESCRIPTION.items() if k not in software}
    system = detect_system(root=tmp_path, rootdir=tmp_path, environ={})
    system = replace(system, description=known)
    entry = choose(bert, ask_of()).entries[0]
    verdict = replace(entry.performance.verdict, facts={"onnxruntime": "1.23.0"})
    entry = replace(entry, performance=replace(entry.performance, verdict=verdict))
    asked, ran = (
        describe_system(
            ask_of(), system, engines=("torch",), versions={"numpy": "2"}, entries=some
        )
        for some in ((), (entry,))
    )

    assert asked["framework"] == "torch"
    assert ran["framework"] == "onnxruntime 1.23.0"
    assert ran["other_software_stack"].endswith(", numpy 2")
