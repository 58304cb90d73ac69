"""Accuracy logs and accuracy.txt are read without trust, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mlperf.core.accuracy_log import digest
from pytest_mlperf.core.log import LogError
from pytest_mlperf.core.log import read_accuracy
from pytest_mlperf.core.log import read_accuracy_txt
from tests import logs


def test_answers_are_read_by_sample(tmp_path: Path) -> None:
    """One entry a sample, as bytes."""
    folder = logs.accuracy(tmp_path, answers={3: b"\x01\x02", 0: b"\xff"})

    assert read_accuracy(folder) == {3: b"\x01\x02", 0: b"\xff"}


def test_an_empty_answer_log_has_no_answers(tmp_path: Path) -> None:
    """A performance run leaves exactly this."""
    (tmp_path / "mlperf_log_accuracy.json").write_text("[\n]\n")

    assert read_accuracy(tmp_path) == {}


ENTRY = '{ "seq_id" : 1, "qsl_idx" : 7, "data" : "0102" }'
OTHER = '{ "seq_id" : 2, "qsl_idx" : 7, "data" : "0103" }'


def test_the_same_answer_twice_is_fine(tmp_path: Path) -> None:
    """MultiStream fills its last query up with samples it has asked before."""
    path = tmp_path / "mlperf_log_accuracy.json"
    path.write_text(f"[\n{ENTRY},\n{ENTRY}\n]\n")

    assert read_accuracy(tmp_path) == {7: b"\x01\x02"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "an empty file"),
        (f"[\n{ENTRY},\n", "without \\]"),
        (f"[\n{ENTRY[:-9]}", "JSON"),
        (f"{ENTRY}\n]\n", "opening"),
        (f"[\n{ENTRY},\n{OTHER}\n]\n", "second, different answer for sample 7"),
        (f"[\n{ENTRY.replace('0102', '01x2')}\n]\n", "hexadecimal"),
        (f"[\n{ENTRY.replace('7', '-7')}\n]\n", "qsl_idx -7"),
        (f"[\n{ENTRY.replace('qsl_idx', 'idx')}\n]\n", "qsl_idx"),
        (f"[\n{ENTRY}\n]\n[\n]\n", "nothing after"),
    ],
)
def test_a_damaged_answer_log_is_an_error(
    tmp_path: Path, text: str, found: str
) -> None:
    """Half of the answers are not taken for all of them."""
    (tmp_path / "mlperf_log_accuracy.json").write_text(text)

    with pytest.raises(LogError, match=found):
        read_accuracy(tmp_path)


@pytest.mark.parametrize(
    ("text", "metric", "value"),
    [
        ("accuracy=76.456%, good=38228, total=50000", "acc", 76.456),
        ("accuracy= 76.456%, good=38228", "acc", 76.456),
        ('{"exact_match": 83.67, "f1": 90.874}', "F1", 90.874),
        ("{'exact_match': 83.67, 'f1': 90.874}", "F1", 90.874),
        ("mAP=37.55%", "mAP", 37.55),
        ("AUC=80.305%, mAUC=1", "AUC", 80.305),
        ("Word Error Rate: 2.07, accuracy=97.93%", "ACCURACY", 97.93),
        ("Accuracy: mean = 0.86170, kidney = 0.9347", "DICE", 0.8617),
        ("{'rouge1': '38.78', 'gen_len': 8167644}", "ROUGE1", 38.78),
    ],
)
def test_metrics_are_read_by_the_official_patterns(
    tmp_path: Path, text: str, metric: str, value: float
) -> None:
    """Each benchmark's script prints its own way."""
    folder = logs.accuracy(tmp_path, text=text)
    found = read_accuracy_txt(folder)

    assert found.metrics[metric] == value
    assert found.where(metric) == "accuracy.txt:1"
    assert found.hash == digest(folder)


def test_a_metric_that_is_no_number_is_an_error(tmp_path: Path) -> None:
    """The official pattern would take 1.2.3 for a value."""
    folder = logs.accuracy(tmp_path, text="accuracy=1.2.3%")

    with pytest.raises(LogError, match=r"found 1\.2\.3, should be a number"):
        read_accuracy_txt(folder)
