"""Logs as the LoadGens of earlier rounds wrote them: their builds, and what they lack.

The list of keys is read off official logs, not taken from the code under test.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.judge.judge import judge
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Verdict
from tests.support import logs
from tests.support.cells import cell_of

BUILDS = {
    "v1.0": (".5a1 @ 6958607d52", "2021-02-25T09:45:46-08:00"),
    "v1.1": ("1.1 @ b1452de454", "2021-07-29T08:16:25-07:00"),
    "v2.0": ("2.0 @ 68c681b628", "2022-02-20T09:49:30-08:00"),
    "v2.1": ("2.1 @ 67eb6a0d0e", "2022-07-18T10:23:54-07:00"),
    "v3.0": ("3.0 @ f536725011", "2023-02-12T10:59:06+00:00"),
    "v3.1": ("3.1 @ ce189bda52", "2023-09-26T12:14:57-05:00"),
    "v4.0": ("4.0 @ f06b920e1c", "2024-02-12T14:47:52-05:00"),
    "v4.1": ("4.1 @ 2ed9555be0", "2024-07-18T15:02:45-05:00"),
    "v5.0": ("5.0.15 @ a09ef11160", "2025-02-18T17:36:18+00:00"),
    "v5.1": ("5.1.0 @ 091d51f041", "2025-07-30T12:45:05+00:00"),
    "v6.0": ("6.0.9 @ 6520e39412", "2026-01-30T07:16:10+00:00"),
    "v6.1": ("6.0.17 @ d6147c7eb7", "2026-07-24T17:36:50Z"),
}
"""Round -> a LoadGen of it, as its logs state it (v3.1, v4.0, v5.0, v6.0: would)."""
BEFORE = {
    "v2.0": (
        "early_stopping_met early_stopping_result early_stopping_latency_ss"
        " early_stopping_latency_ms result_query_count result_overlatency_query_count"
    ),
    "v2.1": "get_sut_name_duration_ns",
    "v5.0": (
        "requested_sample_concatenate_permutation"
        " effective_sample_concatenate_permutation"
    ),
    "v5.1": "num_errors",
    "v6.0": (
        "requested_accuracy_sample_count_override effective_accuracy_sample_count"
    ),
}
"""Round -> what the LoadGens of the rounds before it do not log."""
ROUNDS = tuple(BUILDS)
SCENARIOS = ("SingleStream", "Server", "Offline")
ENOUGH = {
    "SingleStream": logs.rising(1100, 600_000_000, 620_000_000),
    "Server": logs.rising(271_000, 5_000_000, 12_000_000),
}
"""What rounds before early stopping ask for."""


def list_missing(name: str) -> list[str]:
    """Return the keys that a round's LoadGen does not log."""
    place = ROUNDS.index(name)
    later = [keys for since, keys in BEFORE.items() if ROUNDS.index(since) > place]
    return " ".join(later).split()


def performance(
    folder: Path,
    name: str,
    scenario: str,
    change: Mapping[str, object] | None = None,
    **more: Any,
) -> Path:
    """Write a performance run of a round, as its LoadGen would have."""
    build, date = BUILDS[name]
    own = {"loadgen_version": build, "loadgen_git_commit_date": date}
    if ROUNDS.index(name) < ROUNDS.index("v2.0"):
        more.setdefault("latencies", ENOUGH.get(scenario))
    drop = [key for key in list_missing(name) if key not in (change or {})]
    return logs.performance(
        folder,
        scenario,
        change={**own, **(change or {})},
        drop=drop,
        seeds=name,
        **more,
    )


def judge_run(
    folder: Path,
    name: str,
    scenario: str,
    benchmark: str = "resnet50",
    target: str = "",
) -> Verdict:
    """Judge a performance run under a round."""
    cell = cell_of(benchmark, target, Scenario.parse(scenario), "null", name)
    return judge(folder, cell, Mode.PERFORMANCE, Context())
