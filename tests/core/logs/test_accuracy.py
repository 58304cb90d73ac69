"""Accuracy logs and accuracy.txt are read without trust, too."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.accuracy import Survey
from pytest_mlperf.core.logs.accuracy import digest_log
from pytest_mlperf.core.logs.accuracy import survey_answers
from pytest_mlperf.core.logs.log import LogError
from pytest_mlperf.core.logs.log import read_accuracy
from pytest_mlperf.core.logs.log import read_accuracy_txt
from tests.support import logs


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
        (f"[\n{ENTRY}\n{ENTRY}\n]\n", "a comma before it"),
        (f"[\n{ENTRY.replace('seq_id', 'id')}\n]\n", "seq_id"),
        (f"[\n{ENTRY.replace('7', '99999999')}\n]\n", "qsl_idx 99999999"),
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
    assert found.hashes == (digest_log(folder),)


def test_a_metric_that_is_no_number_is_an_error(tmp_path: Path) -> None:
    """The official pattern would take 1.2.3 for a value."""
    folder = logs.accuracy(tmp_path, text="accuracy=1.2.3%")

    with pytest.raises(LogError, match=r"found 1\.2\.3, should be a number"):
        read_accuracy_txt(folder)


def test_a_second_value_of_a_metric_is_an_error(tmp_path: Path) -> None:
    """The same twice is fine; two different ones are two scorings."""
    same = logs.accuracy(tmp_path / "same", text="accuracy=76.5%\naccuracy=76.5%")
    other = logs.accuracy(tmp_path / "other", text="accuracy=76.5%\naccuracy=75.5%")

    assert read_accuracy_txt(same).metrics == {"acc": 76.5}
    with pytest.raises(LogError, match=r"acc 75\.5, at line 1 76\.5"):
        read_accuracy_txt(other)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_log_that_was_cut_for_publication_shows_its_ends(
    tmp_path: Path, ends: str
) -> None:
    """What truncate_accuracy_log.py leaves: 4096 characters on both sides of a gap."""
    folder = logs.accuracy(tmp_path, total=1000)
    whole = (folder / ACCURACY).read_text()
    cut = whole[:4096] + "\n\n...\n\n" + whole[-4096:]
    (folder / ACCURACY).write_bytes(cut.replace("\n", ends).encode())
    found = survey_answers(folder)

    assert found.cut
    assert 0 < found.samples < 1000
    assert found.highest == 999
    with pytest.raises(LogError):
        read_accuracy(folder)


def test_a_pretty_log_that_was_cut_shows_its_ends(tmp_path: Path) -> None:
    """A record takes several lines: the rest of one behind the gap is passed over."""
    folder = logs.accuracy(tmp_path, total=1000)
    whole = (folder / ACCURACY).read_text()
    pretty = re.sub(r"\{ (.*?), (.*?), (.*?) \}", r"{\n\1,\n\2,\n\3\n}", whole)
    (folder / ACCURACY).write_text(pretty)
    before = survey_answers(folder)
    (folder / ACCURACY).write_text(f"{pretty[:4096]}\n\n...\n\n{pretty[-4096:]}")
    found = survey_answers(folder)

    assert before == Survey(1000, 1000, 999, 0)
    assert found.cut
    assert 0 < found.samples < 1000
    assert found.highest == 999


def test_a_whole_log_is_surveyed_without_its_answers(tmp_path: Path) -> None:
    """Entries, samples, the highest one, and those that say nothing."""
    folder = logs.accuracy(tmp_path, answers={0: b"a", 5: b"", 9: b"b"})

    assert Survey(3, 3, 9, 1) == survey_answers(folder)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda text: text.replace("...", ".."), "whole JSON record"),
        (lambda text: text[: text.index("...") + 3], "without ]|whole JSON"),
        (lambda text: text[text.index("...") :], "opening|whole JSON"),
        (lambda text: text.replace("seq_id", "seq\0id", 1), "a record, or a part"),
        (lambda text: text + "é", "a record, or a part"),
        (lambda text: text + text, "opening|JSON|nothing after|comma"),
    ],
)
def test_a_cut_that_is_not_the_official_one_is_an_error(
    tmp_path: Path, damage: Callable[[str], str], found: str
) -> None:
    """Only the gap in the middle is legal, and the ends have to be whole."""
    folder = logs.accuracy(tmp_path, total=1000)
    path = folder / ACCURACY
    whole = path.read_text()
    path.write_text(damage(whole[:4096] + "\n\n...\n\n" + whole[-4096:]))

    with pytest.raises(LogError, match=found):
        survey_answers(folder)


@pytest.mark.parametrize(
    "line",
    [
        "Word Error Rate:" * 8000,
        '{"f1": 1' * 15_000,
        "accuracy" * 20_000,
        "'rouge1': " + " " * 200_000,
    ],
)
def test_no_line_makes_the_patterns_run_away(tmp_path: Path, line: str) -> None:
    """A hostile accuracy.txt is read in the time of its length, or about."""
    folder = logs.accuracy(tmp_path, text=line)

    assert read_accuracy_txt(folder).metrics == {}
