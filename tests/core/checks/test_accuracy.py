"""Accuracy runs: everything answered, and well enough."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.judge.judge import judge
from pytest_mlperf.core.rounds.rule import AccuracyLimit
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Status
from tests.support import bare_loadgen
from tests.support import logs
from tests.support.cells import cell_of
from tests.support.judging import failed
from tests.support.judging import named
from tests.support.judging import verdict

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


def test_no_more_samples_may_be_asked_for_than_there_are(tmp_path: Path) -> None:
    """The official checker compares LoadGen's accuracy_sample_count alone."""
    key = "effective_accuracy_sample_count"
    folder = logs.accuracy(tmp_path, change={key: 100_000})
    check = named(verdict(folder, "Offline", Mode.ACCURACY), "dataset_size")

    assert check.status is Status.FAIL
    assert check.found == "100,000 samples"


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
    ("accuracy_acc", {"text": "accuracy=-79.2%"}),
    ("accuracy_acc", {"text": "accuracy=inf"}),
    ("accuracy_acc", {"text": "accuracy=792%"}),
    ("test_mode", {"change": {"effective_test_mode": "PerformanceOnly"}}),
    ("test_mode", {"change": {"effective_test_mode": "SubmissionRun"}}),
    ("loaded_samples", {"change": {"loaded_qsl_set": list(range(39))}}),
    ("loaded_samples", {"change": {"loaded_qsl_set": [*range(39), 7]}}),
    ("whole_dataset", {"change": {"generated_samples_per_query": 20}}),
    ("whole_dataset", {"answers": dict.fromkeys(range(41), b"\x01")}),
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


@pytest.mark.parametrize(
    ("text", "value"),
    [("mrr=0.915", 0.915), ("hits: 3\nmrr : 0.80", 0.8), ("mrr=nan", None)],
)
def test_a_benchmark_of_ones_own_may_have_a_metric_of_its_own(
    tmp_path: Path, text: str, value: float | None
) -> None:
    """Whatever it wrote, a name that no round has was not found."""
    cell = cell_of("resnet50", "", Scenario.OFFLINE)
    rule = replace(cell.rule, accuracy=(AccuracyLimit("mrr", 0.915, 0.99, None),))
    folder = logs.accuracy(tmp_path, text=text)
    context = Context(dataset_total=40, labels=("unofficial",))
    found = judge(folder, replace(cell, rule=rule), Mode.ACCURACY, context)
    check = named(found, "accuracy_mrr")

    assert (found.metric.value if found.metric else None) == value
    assert (check.status is Status.PASS) == (value == 0.915)
    if value is None:
        assert check.found == "no mrr in accuracy.txt"
        assert r"^mrr\s*[=:]\s*([\d.]+)" in check.remedy


def test_an_accuracy_log_is_no_performance_run(tmp_path: Path) -> None:
    """Judged in the wrong mode it is never VALID."""
    folder = logs.accuracy(tmp_path)

    assert verdict(folder, "Offline").outcome == "ERROR"


def cut(folder: Path) -> Path:
    """Leave of the accuracy log what is published, as truncate_accuracy_log.py does."""
    path = folder / "mlperf_log_accuracy.json"
    whole = path.read_text()
    path.write_text(whole[:4096] + "\n\n...\n\n" + whole[-4096:])
    return folder


def test_a_published_accuracy_run_is_judged_by_what_is_left(tmp_path: Path) -> None:
    """The hash is the whole log's, and the detail log tells what was asked for."""
    context = Context(reference={"acc": 76.0}, dataset_total=1000)
    folder = cut(logs.accuracy(tmp_path / "whole", total=1000))
    change = {"generated_samples_per_query": 999}
    fewer = cut(logs.accuracy(tmp_path / "fewer", total=1000, change=change))
    unsigned = cut(logs.accuracy(tmp_path / "unsigned", total=1000))
    (unsigned / "accuracy.txt").write_text("accuracy=76.456%\n")

    def judged(where: Path) -> set[str]:
        return failed(verdict(where, "Offline", Mode.ACCURACY, context)) - {
            "dataset_size"
        }

    assert judged(folder) == set()
    assert judged(fewer) == {"whole_dataset"}
    assert judged(unsigned) == {"accuracy_hash"}


@pytest.mark.parametrize(
    ("scenario", "more", "is_fault"),
    [("MultiStream", 7, False), ("MultiStream", 8, True), ("Server", 1, True)],
)
def test_only_multistream_asks_a_sample_twice(
    tmp_path: Path, scenario: str, more: int, is_fault: bool
) -> None:
    """Its last query is filled up; elsewhere a doubled record is damage."""
    folder = bare_loadgen.run(
        tmp_path, scenario, "AccuracyOnly", server_target_qps=5000.0
    )
    path = folder / "mlperf_log_accuracy.json"
    records = path.read_text().splitlines()
    path.write_text("\n".join([records[0], *more * records[1:2], *records[1:]]) + "\n")
    logs.score(folder, "accuracy=80.0%, good=1, total=1024")
    context = Context(reference={"acc": 80.0}, dataset_total=1024)
    found = verdict(folder, scenario, Mode.ACCURACY, context)

    assert ("whole_dataset" in failed(found)) is is_fault


def test_both_modes_in_one_log_hold_a_whole_accuracy_run(tmp_path: Path) -> None:
    """LoadGen's own SubmissionRun: accuracy mode, and performance mode after it."""
    folder = bare_loadgen.run(
        tmp_path, "Offline", "SubmissionRun", min_query_count=1024
    )
    logs.score(folder, "accuracy=76.456%, good=1, total=1024")
    found = verdict(folder, "Offline", Mode.ACCURACY, Context(dataset_total=1024))

    assert failed(found) <= {"dataset_size"}
    assert named(found, "test_mode").found.startswith("SubmissionRun: accuracy mode")


def test_an_accuracy_log_with_a_borrowed_start_has_no_second_mode(
    tmp_path: Path,
) -> None:
    """A line that performance mode began does not make one of it."""
    change = {
        f"{kind}_test_mode": "SubmissionRun" for kind in ("requested", "effective")
    }
    folder = logs.accuracy(tmp_path, change=change)
    detail = folder / "mlperf_log_detail.txt"
    begun = logs.line("generic_message", "Starting performance mode")
    detail.write_text(detail.read_text() + begun)

    assert verdict(folder, "Offline", Mode.ACCURACY, EMBEDDED).outcome == "ERROR"
