"""An INVALID run of the real LoadGen, its remedy typed in as it stands, a VALID one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from tests.support import scripted
from tests.support.scripted import rule_of

SS, MS = Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM
SERVER, OFFLINE = Scenario.SERVER, Scenario.OFFLINE

PAUSE_S = 0.02
"""Longer, and the latency that a remedy names is the machine's."""
ADVICE = re.compile(
    r"(?:raise|lower|set) (target_qps|the expected latency|min_query_count)"
    r"(?: from [\d.,e+-]+(?: ms)?)? to (?:about )?([\d.,]*\d)( ms)?"
)
ATTRIBUTE = {
    (OFFLINE, "target_qps"): "offline_expected_qps",
    (SERVER, "target_qps"): "server_target_qps",
    (SS, "the expected latency"): "single_stream_expected_latency_ns",
    (MS, "the expected latency"): "multi_stream_expected_latency_ns",
}


def advised(verdict: Verdict, scenario: Scenario, name: str) -> dict[str, Any]:
    """Return the TestSettings that the remedy of one check names."""
    check = next(c for c in verdict.checks if c.name == name)
    found = ADVICE.search(check.remedy)
    assert check.status is Status.FAIL
    assert found is not None, check.remedy
    setting, value = found[1], float(found[2].replace(",", ""))
    if setting == "min_query_count":
        return {setting: int(value)}
    attribute = ATTRIBUTE[scenario, setting]
    return {attribute: value * 1e6 if found[3] else value}


CASES: dict[str, tuple[Scenario, dict[str, Any], dict[str, Any], str]] = {
    # rule's fields, first run, check whose remedy is followed
    "offline, expected too little": (
        OFFLINE,
        {"min_duration_ms": 400},
        {"service_s": 0.0005, "offline_expected_qps": 300.0},
        "min_duration",
    ),
    "offline, too few samples": (
        OFFLINE,
        {"min_duration_ms": 50, "min_sample_count": 1000},
        {"service_s": 0.0005, "min_query_count": 10, "offline_expected_qps": 2000.0},
        "min_sample_count",
    ),
    "singlestream, expected to be slow": (
        SS,
        {"min_duration_ms": 400, "min_query_count": 64},
        {"service_s": 0.001, "single_stream_expected_latency_ns": 100_000_000},
        "min_duration",
    ),
    "multistream, expected to be slow": (
        MS,
        {"min_duration_ms": 2000, "min_query_count": 662},
        {"service_s": 0.001, "multi_stream_expected_latency_ns": 100_000_000},
        "min_duration",
    ),
    "singlestream, too few for its percentile": (
        SS,
        {"min_duration_ms": 20, "min_query_count": 20},
        {"service_s": 0.002},
        "early_stopping",
    ),
    "server, more than the engine can do": (
        SERVER,
        {"min_duration_ms": 1200, "target_latency_ns": 400_000_000},
        {"service_s": 0.002, "server_target_qps": 1000.0},
        "latency_bound",
    ),
    "server, too few for its percentile": (
        SERVER,
        {"min_duration_ms": 300, "target_latency_ns": scripted.BOUND_NS},
        {"server_target_qps": 600.0},
        "early_stopping",
    ),
    "server, one late in too few": (
        SERVER,
        {"target_latency_ns": scripted.BOUND_NS, "min_query_count": 600},
        {"late": [300]},
        "early_stopping",
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_the_remedy_of_an_invalid_run_makes_the_next_one_valid(
    tmp_path: Path, name: str
) -> None:
    """The value is typed as the verdict prints it, with nothing else changed."""
    scenario, fields, first, check = CASES[name]
    how = dict(first)
    rule = rule_of("resnet50", scenario, **fields)
    verdicts = [scripted.verdict(scripted.run(tmp_path / "0", rule, **how), rule)]
    # One step is enough unless a busy machine measured the first run wrongly.
    while not verdicts[-1].valid and len(verdicts) < 4:
        how |= advised(verdicts[-1], scenario, check)
        folder = scripted.run(tmp_path / str(len(verdicts)), rule, **how)
        verdicts.append(scripted.verdict(folder, rule))

    assert verdicts[0].outcome == "INVALID"
    assert verdicts[-1].outcome == "VALID", "\n".join(v.explain() for v in verdicts)
