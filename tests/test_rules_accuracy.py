"""Accuracy runs: everything answered, and well enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.core.rules import Context
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Status
from tests import logs
from tests.judging import failed
from tests.judging import named
from tests.judging import verdict

EMBEDDED = Context(reference={"acc": 80.0}, dataset_total=40, labels=("embedded",))


def test_an_accuracy_run_is_held_to_the_workloads_own_reference(
    tmp_path: Path,
) -> None:
    """99 % of the stand-in's 80 %, and its dataset's size is waived visibly."""
    folder = logs.accuracy(tmp_path, text="accuracy=79.2%, good=1, total=40")
    found = verdict(folder, "Offline", Mode.ACCURACY, EMBEDDED)

    assert found.outcome == "VALID"
    assert [check.name for check in found.waived] == ["dataset_size"]
    assert found.metric is not None
    assert found.limit is not None
    assert (found.metric.value, found.metric.unit) == (79.2, "%")
    assert found.limit.value == pytest.approx(79.2)
    assert found.labels == ("embedded",)


def test_an_official_accuracy_run_is_held_to_the_rounds_dataset(
    tmp_path: Path,
) -> None:
    """Forty samples are not ImageNet's fifty thousand."""
    found = verdict(logs.accuracy(tmp_path), "Offline", Mode.ACCURACY)

    assert failed(found) == {"dataset_size"}
    assert named(found, "accuracy_acc").status is Status.PASS


ANSWERS = dict.fromkeys(range(40), b"\x01")
WRONG: list[tuple[str, dict[str, Any]]] = [
    ("accuracy_acc", {"text": "accuracy=79.1%, good=1, total=40"}),
    ("accuracy_acc", {"text": "accuracy: nan"}),
    ("accuracy_acc", {"text": "nothing to see"}),
    ("whole_dataset", {"answers": dict.fromkeys(range(39), b"\x01")}),
    ("whole_dataset", {"answers": {i + 1: b"\1" for i in range(40)}}),
    ("whole_dataset", {"answers": ANSWERS | {3: b""}}),
    ("scenario", {"scenario": "Server"}),
    ("no_errors", {"errors": ["Attempted to complete a sample twice."]}),
]


@pytest.mark.parametrize(
    ("name", "story"),
    WRONG,
    ids=[f"{name}-{i}" for i, (name, _) in enumerate(WRONG)],
)
def test_a_poor_or_partial_accuracy_run_fails(
    tmp_path: Path, name: str, story: dict[str, Any]
) -> None:
    """A wrong engine, a missing answer or an error does not get through."""
    folder = logs.accuracy(tmp_path, **story)
    found = verdict(folder, "Offline", Mode.ACCURACY, EMBEDDED)

    assert named(found, name).status is Status.FAIL
    assert found.outcome != "VALID"


def test_a_score_of_another_log_is_found_out(tmp_path: Path) -> None:
    """The hash ties accuracy.txt to the answers it was computed from."""
    folder = logs.accuracy(tmp_path)
    path = folder / "accuracy.txt"
    path.write_text(path.read_text().replace("hash=", "hash=00")[:-3] + "\n")
    found = verdict(folder, "Offline", Mode.ACCURACY, EMBEDDED)

    assert "accuracy_hash" in failed(found)


def test_a_metric_without_a_reference_of_its_own_keeps_the_rounds(
    tmp_path: Path,
) -> None:
    """A workload that knows only another metric is not let off this one."""
    context = Context(reference={"other": 1.0}, dataset_total=40)
    folder = logs.accuracy(tmp_path, text="accuracy=70%, good=1, total=40")
    found = verdict(folder, "Offline", Mode.ACCURACY, context)

    assert "accuracy_acc" in failed(found)


def test_an_accuracy_log_is_no_performance_run(tmp_path: Path) -> None:
    """Judged in the wrong mode it is never VALID."""
    folder = logs.accuracy(tmp_path)

    assert verdict(folder, "Offline").outcome == "ERROR"
