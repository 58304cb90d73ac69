"""What is noted of a log that breaks no rule; each beside the log without it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_mlperf.core.logs.load_order import list_permutations
from tests.support import logs
from tests.support.judging import verdict

SEED = 2085463073848966840
"""v6.1's qsl_rng_seed."""
HONEST: Mapping[str, object] = {
    "test_datetime": "2026-11-22T06:00:00Z",
    "loadgen_git_commit_date": "2026-07-24T10:00:00Z",
}


def order_of_1024(total: int = 50_000) -> list[int]:
    """Return a loaded set that begins as the seed has it, each index once."""
    first = list_permutations(SEED, total)[0]
    return [*first, *(i for i in range(1024 + 7) if i not in first)][:1024]


def write_run(folder: Path, change: Mapping[str, object], scale: float = 1.0) -> Path:
    """Write a run in whose lines time goes on, multiplied by ``scale``."""
    own: dict[str, object] = {"loaded_qsl_set": order_of_1024()}
    logs.performance(folder, "Offline", change={**HONEST, **own, **change})
    path = folder / "mlperf_log_detail.txt"
    lines = path.read_text("utf-8").splitlines()
    for number, line in enumerate(lines):
        record = json.loads(line.removeprefix(":::MLLOG "))
        record["time_ms"] = scale * 700_000 * (number + 1) / len(lines)
        lines[number] = f":::MLLOG {json.dumps(record)}"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return folder


@pytest.mark.parametrize(
    ("change", "scale", "fact", "text"),
    [
        ({"test_datetime": "1999-01-01T00:00:00Z"}, 1.0, "clock", "1999-01-01"),
        ({"test_datetime": "2027-01-01T00:00:00Z"}, 1.0, "clock", "power_begin"),
        ({}, 0.0, "clock", "time_ms ends at 0"),
        ({}, 0.5, "clock", "time_ms ends at 350,000, and the run took"),
        ({}, -1.0, "clock", "time_ms goes back"),
        ({"loaded_qsl_set": list(range(1024))}, 1.0, "loaded samples", "begins 0, 1"),
    ],
)
def test_an_odd_log_is_valid_with_a_note(
    tmp_path: Path, change: Mapping[str, object], scale: float, fact: str, text: str
) -> None:
    """No rule is broken: a clock can be wrong, and another library shuffle."""
    honest = verdict(write_run(tmp_path / "honest", {}), "Offline")
    odd = verdict(write_run(tmp_path / "odd", change, scale), "Offline")

    assert not {"clock", "loaded samples"} & honest.facts.keys()
    assert text in odd.facts[fact]
    assert honest.valid
    assert odd.valid


def test_the_order_is_that_of_the_c_libraries() -> None:
    """Both forms of libstdc++, as official logs of v5.1 and v2.0 have them."""
    new, _ = list_permutations(1780908523862526354, 24_576)
    _, old = list_permutations(6655344265603136530, 10_833)

    assert new[:3] == (20404, 23872, 22533)
    assert old[:3] == (6457, 6141, 1160)
