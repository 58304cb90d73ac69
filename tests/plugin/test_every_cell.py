"""Whatever cell a session selects: every path of the session knows its provider."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from pytest_mlperf.core import compliance
from pytest_mlperf.core.matrix import build_key
from pytest_mlperf.core.types import Mode
from pytest_mlperf.measure.cells import find_cells
from pytest_mlperf.measure.cells import why_not_installed
from pytest_mlperf.measure.placement import place
from pytest_mlperf.measure.plan import plan_task
from pytest_mlperf.plugin import submission
from pytest_mlperf.plugin.collection import describe
from pytest_mlperf.plugin.session import State
from pytest_mlperf.reporting import header
from pytest_mlperf.submission.repeat import list_options
from pytest_mlperf.submission.system_description import describe_system

OPEN = ["--mlperf-submission", "ACME", "--mlperf-division", "open"]
CLOSED = ["--mlperf-submission", "ACME"]
SESSIONS: list[list[str]] = [
    [],
    ["--mlperf-engine", "onnxruntime,torch,tensorrt,null"],
    ["--mlperf-engine", "endpoint", "--mlperf-endpoint", "127.0.0.1:9"],
    ["--mlperf-compliance", "--fast"],
    ["--mlperf-rehearsal"],
    [*OPEN, "--mlperf-category", "edge"],
    [*OPEN, "--mlperf-category", "datacenter"],
    [*CLOSED, "--mlperf-category", "datacenter"],
    [*CLOSED, "--mlperf-category", "datacenter", "--mlperf-rehearsal"],
]


@pytest.mark.parametrize("arguments", SESSIONS, ids=" ".join)
def test_every_cell_goes_every_path_of_a_session(
    pytester: pytest.Pytester, arguments: Sequence[str]
) -> None:
    """Header, plan, and each answer of a submission; LLM cells among them."""
    config = pytester.parseconfigure(*arguments)
    state = State.of(config)
    session, options = state.measuring, state.options
    cells = find_cells(options)
    placement = place(session)
    planned = 0
    for cell in cells:
        for mode in (Mode.PERFORMANCE, Mode.ACCURACY):
            assert describe(cell, mode.value)["engine"] == cell.engine
            if not why_not_installed(cell, options):
                task = plan_task(session, placement, cell, mode, mode.value)
                assert (task.service is not None) == (cell.engine == "endpoint")
                planned += 1
        assert all(compliance.find(name, cell.rule) for name in cell.rule.compliance)
        assert build_key(cell)[0] == cell.engine
    items = [(cell, "performance") for cell in cells]

    assert planned > 0
    assert header.describe_session(cells, options, "here", "reports")
    assert header.estimate_least_s(items, options) >= 0
    assert json.dumps(options.as_dict())
    assert list_options(options, session.system)
    if options.submission:
        request = submission.make_submission(session, arguments).ask
        engines = sorted({cell.engine for cell in cells})
        assert describe_system(request, session.system, engines=engines, versions={})
        refusal = ""
        try:
            submission.refuse_hopeless(session, arguments, cells)
        except pytest.UsageError as error:
            refusal = str(error)
        assert ("--mlperf-submission: " in refusal) == (not options.rehearsal)
    config._ensure_unconfigure()
