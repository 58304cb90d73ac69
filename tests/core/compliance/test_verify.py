"""The verification of each compliance test: one folder that passes, one that fails."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.core.compliance import AuditFinding
from pytest_mlperf.core.compliance import find
from pytest_mlperf.core.compliance import get
from pytest_mlperf.core.compliance import verify
from pytest_mlperf.core.compliance import write
from pytest_mlperf.core.compliance.test01 import compare_answers
from pytest_mlperf.core.compliance.test06 import count_trailing
from pytest_mlperf.core.compliance.test08 import compute_entropy
from pytest_mlperf.core.verdict import Status
from tests.support import logs
from tests.support.answer_logs import Record
from tests.support.answer_logs import log_of
from tests.support.answer_logs import numbers
from tests.support.answer_logs import spoken
from tests.support.audits import outcome
from tests.support.audits import rule_of


def answered(folder: Path, given: Sequence[tuple[int, bytes]]) -> Path:
    return log_of(folder, [{"index": i, "data": data} for i, data in given])


CLASSES = [(index, numbers(index * 300)) for index in range(40)]


def speeds(folder: Path, scenario: str, figure: float, **change: object) -> Path:
    """Write a performance run whose figure is this."""
    keys = {
        "Offline": "result_samples_per_second",
        "Server": "result_completed_samples_per_sec",
        "SingleStream": "early_stopping_latency_ss",
        "MultiStream": "early_stopping_latency_ms",
    }
    value = int(figure) if "Stream" in scenario else figure
    return logs.performance(folder, scenario, change={keys[scenario]: value, **change})


def verified(
    test: str,
    folder: Path,
    references: Mapping[str, Path],
    benchmark: str = "resnet50",
    **where: str,
) -> tuple[AuditFinding, ...]:
    rule = rule_of(benchmark, **where)
    audit = find(test, rule)
    findings = verify(audit, rule, folder, references)
    write(audit, folder, findings)
    return findings


def of_test01(
    tmp_path: Path, given: Sequence[tuple[int, bytes]], speed: float = 100.0
) -> tuple[AuditFinding, ...]:
    """Return the findings of a TEST01 run of these answers, beside 100 samples/s."""
    before = speeds(tmp_path / "performance", "Offline", 100.0)
    accuracy = answered(tmp_path / "accuracy", CLASSES)
    folder = answered(speeds(tmp_path / "TEST01", "Offline", speed), given)
    return verified("TEST01", folder, {"performance": before, "accuracy": accuracy})


def test_test01_passes_on_the_same_answers_and_speed(tmp_path: Path) -> None:
    """Some of the samples, some of them twice, in any order."""
    found = of_test01(tmp_path, [CLASSES[7], CLASSES[3], CLASSES[7]], 95.0)

    assert outcome(found) == {
        "compliance_accuracy": Status.PASS,
        "compliance_performance": Status.PASS,
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{ "qsl_idx" : 1, "data" : "00" }\n]\n',
        '[\n{ "qsl_idx" : 1, "data" : "00" }\n',
        '[\n{ "qsl_idx" : "1", "data" : "00" }\n]\n',
        '[\n{ "qsl_idx" : 1, "data" : "0z" }\n]\n',
        '[\n{ "qsl_idx" : 1 }\n]\n',
        "[\n]\n[\n]\n",
    ],
)
def test_damaged_answers_are_an_error_and_no_traceback(
    tmp_path: Path, text: str
) -> None:
    """No list, no end, no sample, no digits, no answer, or two lists."""
    of_test01(tmp_path, CLASSES[:5])
    (tmp_path / "TEST01/mlperf_log_accuracy.json").write_text(text)
    references = {name: tmp_path / name for name in ("performance", "accuracy")}
    found = verified("TEST01", tmp_path / "TEST01", references)

    assert outcome(found)["compliance_accuracy"] is Status.ERROR


def test_the_official_files_say_what_the_checks_say(tmp_path: Path) -> None:
    """Line by line as the official scripts print it."""
    of_test01(tmp_path, CLASSES[:5], 95.0)
    folder = tmp_path / "TEST01"

    assert (folder / "verify_accuracy.txt").read_text().splitlines() == [
        "num_acc_log_entries = 40",
        "num_acc_log_duplicate_keys = 0",
        "num_acc_log_data_mismatch = 0",
        "num_perf_log_entries = 5",
        "num_perf_log_qsl_idx_match = 5",
        "num_perf_log_data_mismatch = 0",
        "num_missing_qsl_idxs = 0",
        "TEST PASS",
    ]
    assert (folder / "verify_performance.txt").read_text().splitlines() == [
        "Reference score = 100.0",
        "Test score = 95.0",
        "TEST PASS",
    ]


def test_accuracy_txt_has_the_hash_of_the_whole_log(tmp_path: Path) -> None:
    """The v5.1.1 checker wants the file beside the truncated log."""
    of_test01(tmp_path, CLASSES[:5])
    folder = tmp_path / "TEST01"
    digest = hashlib.sha256((folder / "mlperf_log_accuracy.json").read_bytes())

    assert f"hash={digest.hexdigest()}\n" == (folder / "accuracy.txt").read_text()


def test_what_belongs_into_a_submission_is_there(tmp_path: Path) -> None:
    """A run that passes has exactly the checkers' files, and each exists."""
    of_test01(tmp_path, CLASSES[:5])
    found = dict(get("TEST01").official_files(tmp_path / "TEST01"))

    assert set(found) == {
        "verify_accuracy.txt",
        "verify_performance.txt",
        "performance/run_1/mlperf_log_summary.txt",
        "performance/run_1/mlperf_log_detail.txt",
        "accuracy/mlperf_log_accuracy.json",
        "accuracy/accuracy.txt",
    }
    assert all(path.is_file() for path in found.values())


@pytest.mark.parametrize(
    "given",
    [[CLASSES[0], (1, numbers(7))], [], [(99, numbers(1))]],
    ids=["another answer", "no answer", "only unknown samples"],
)
def test_test01_fails_without_proof(
    given: list[tuple[int, bytes]], tmp_path: Path
) -> None:
    """Another class, an empty log, and a log of samples that the other lacks."""
    found = of_test01(tmp_path, given)

    assert outcome(found)["compliance_accuracy"] is not Status.PASS
    assert "TEST FAIL" in (tmp_path / "TEST01" / "verify_accuracy.txt").read_text()


@pytest.mark.parametrize(
    ("after", "expected"),
    [("76.45", Status.PASS), ("75.60", Status.FAIL)],
    ids=["0.01 % off", "1.1 % off"],
)
def test_other_answers_may_be_as_good(
    after: str, expected: Status, tmp_path: Path
) -> None:
    """The accuracy of the logged samples, in both modes, is the way out."""
    folder = tmp_path / "TEST01"
    folder.mkdir()
    (folder / "baseline_accuracy.txt").write_text("accuracy=76.44%, good=1, total=2\n")
    (folder / "compliance_accuracy.txt").write_text(f"accuracy={after}%\n")
    found = of_test01(tmp_path, [CLASSES[0], (1, numbers(7))])

    assert expected is outcome(found)["compliance_accuracy"]
    assert {"accuracy/baseline_accuracy.txt", "accuracy/compliance_accuracy.txt"} <= {
        path for path, _ in get("TEST01").official_files(folder)
    }


@pytest.mark.parametrize(
    ("scenario", "before", "after", "expected"),
    [
        ("Offline", 100.0, 110.0, Status.PASS),
        ("Offline", 100.0, 110.2, Status.FAIL),
        ("Offline", 100.0, 89.9, Status.FAIL),
        ("Server", 50.0, 45.0, Status.PASS),
        ("SingleStream", 200_000, 240_000, Status.PASS),
        ("SingleStream", 200_001, 240_000, Status.FAIL),
        ("MultiStream", 1_600_000, 1_290_000, Status.PASS),
        ("MultiStream", 1_700_000, 1_290_000, Status.FAIL),
    ],
)
def test_test01_allows_ten_percent_and_twenty_to_quick_streams(
    scenario: str, before: float, after: float, expected: Status, tmp_path: Path
) -> None:
    """Both ways; streams of 200 us and 1.6 ms or less get 20 %."""
    references = {
        "performance": speeds(tmp_path / "performance", scenario, before),
        "accuracy": answered(tmp_path / "accuracy", CLASSES),
    }
    folder = answered(speeds(tmp_path / "TEST01", scenario, after), CLASSES[:3])
    round_name = "v5.1" if scenario == "Server" else "v6.1"
    found = verified(
        "TEST01", folder, references, scenario=scenario, round_name=round_name
    )

    assert expected is outcome(found)["compliance_performance"]


FASTER = "less than 110"
QUICKER = "less than 120"


@pytest.mark.parametrize(
    ("scenario", "before", "after", "required", "expected"),
    [
        ("Offline", 100.0, 20.0, FASTER, Status.PASS),
        ("Offline", 100.0, 109.9, FASTER, Status.PASS),
        ("Offline", 100.0, 110.1, FASTER, Status.FAIL),
        ("SingleStream", 10_000_000, 90_000_000, QUICKER, Status.PASS),
        ("SingleStream", 10_000_000, 8_400_000, QUICKER, Status.PASS),
        ("SingleStream", 10_000_000, 8_300_000, QUICKER, Status.FAIL),
    ],
)
def test_test04_is_one_sided(
    scenario: str,
    before: float,
    after: float,
    required: str,
    expected: Status,
    tmp_path: Path,
) -> None:
    """Slower is fine; 10 % faster is a cache, 20 % in a stream by the script's rule."""
    before_folder = speeds(tmp_path / "performance", scenario, before)
    folder = speeds(tmp_path / "TEST04", scenario, after)
    references = {"performance": before_folder}
    found = verified("TEST04", folder, references, scenario=scenario)

    assert outcome(found) == {"compliance_performance": expected}
    assert [check.required for one in found for check in one.checks] == [required]
    passes = expected is Status.PASS
    text = (folder / "verify_performance.txt").read_text()
    assert passes is ("TEST PASS" in text.splitlines())


def test_an_invalid_run_is_not_compared(tmp_path: Path) -> None:
    """Its figure may be anything."""
    before = speeds(tmp_path / "performance", "Offline", 100.0)
    folder = speeds(tmp_path / "TEST04", "Offline", 100.0, result_validity="INVALID")
    found = verified("TEST04", folder, {"performance": before})

    assert outcome(found) == {"compliance_performance": Status.FAIL}
    assert (folder / "verify_performance.txt").read_text() == (
        "TEST FAIL: the audited run is INVALID\n"
    )


def test_a_latency_of_nothing_is_an_error(tmp_path: Path) -> None:
    """TEST04 of a stream compares rates: no division by zero."""
    before = speeds(tmp_path / "performance", "SingleStream", 10_000_000)
    folder = speeds(tmp_path / "TEST04", "SingleStream", 0)
    references = {"performance": before}
    found = verified("TEST04", folder, references, scenario="SingleStream")

    assert outcome(found) == {"compliance_performance": Status.ERROR}
    (check,) = found[0].checks
    assert (check.found, check.required) == ("early_stopping_latency_ss = 0", "above 0")


def test_a_damaged_log_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    """The official file then says FAIL."""
    before = speeds(tmp_path / "performance", "Offline", 100.0)
    folder = tmp_path / "TEST04"
    folder.mkdir()
    (folder / "mlperf_log_detail.txt").write_text("not a log\n")
    found = verified("TEST04", folder, {"performance": before})

    assert list(outcome(found).values()) == [Status.ERROR]
    assert (folder / "verify_performance.txt").read_text().startswith("TEST FAIL")


V2_UNIQUE = {"effective_performance_issue_unique": True}
V2_SAME = {"effective_performance_issue_same": True}


@pytest.mark.parametrize(
    ("after", "expected"), [(50.0, Status.PASS), (111.0, Status.FAIL)]
)
def test_test04_b_of_v2_is_held_against_test04_a(
    after: float, expected: Status, tmp_path: Path
) -> None:
    """One sample over and over may be slower than all samples once, not faster."""
    unique = speeds(tmp_path / "TEST04-A", "Offline", 100.0, **V2_UNIQUE)
    same = speeds(tmp_path / "TEST04-B", "Offline", after, **V2_SAME)
    found = verified("TEST04-B", same, {"TEST04-A": unique}, round_name="v2.0")

    assert outcome(found) == {"compliance_performance": expected}


@pytest.mark.parametrize(
    ("after", "expected", "notes"),
    [
        (12_000_000, Status.PASS, ["Note: TEST04-B is significantly slower"]),
        (10_900_000, Status.PASS, []),
        (9_100_000, Status.PASS, []),
        (8_900_000, Status.FAIL, []),
    ],
)
def test_test04_b_of_a_stream_has_no_shorter_latency(
    after: int, expected: Status, notes: list[str], tmp_path: Path
) -> None:
    """By a tenth; a longer one is a note."""
    key = "result_90.00_percentile_latency_ns"
    folders = {"TEST04-A": 10_000_000, "TEST04-B": after}
    for (name, value), own in zip(folders.items(), (V2_UNIQUE, V2_SAME), strict=True):
        change: dict[str, object] = {key: value, **own}
        logs.performance(tmp_path / name, "SingleStream", change=change)
    found = verified(
        "TEST04-B", tmp_path / "TEST04-B", {"TEST04-A": tmp_path / "TEST04-A"},
        scenario="SingleStream", round_name="v2.0",
    )  # fmt: skip
    lines = (tmp_path / "TEST04-B/verify_performance.txt").read_text().splitlines()

    assert outcome(found) == {"compliance_performance": expected}
    assert [line.partition(" than")[0] for line in lines if "Note" in line] == notes


@pytest.mark.parametrize(
    ("after", "expected"), [(104.9, Status.PASS), (105.1, Status.FAIL)]
)
def test_test05_of_v2_allows_five_percent(
    after: float, expected: Status, tmp_path: Path
) -> None:
    """Other seeds give the same performance."""
    before = speeds(tmp_path / "performance", "Offline", 100.0)
    folder = speeds(tmp_path / "TEST05", "Offline", after)
    found = verified("TEST05", folder, {"performance": before}, round_name="v2.0")

    assert outcome(found) == {"compliance_performance": expected}


@pytest.mark.parametrize(
    ("answer", "failing"),
    [
        (spoken(9, 8, 2), set()),
        (spoken(9, 8, 7), set()),
        (spoken(2), set()),
        (spoken(9, 8, first=8), {"compliance_first_token"}),
        (spoken(9, 2, 2), {"compliance_single_eos"}),
        (spoken(9, 8, count=3), {"compliance_token_count"}),
    ],
)
def test_test06_asks_for_consistent_tokens(
    answer: Record, failing: set[str], tmp_path: Path
) -> None:
    """First token, at most one end of sequence, as many tokens as were told."""
    folder = log_of(tmp_path, [spoken(4, 4), answer])
    found = verified("TEST06", folder, {}, "llama3.1-8b", scenario="Server")

    bad = {name for name, status in outcome(found).items() if status is Status.FAIL}
    assert failing == bad
    text = (folder / "verify_accuracy.txt").read_text()
    assert (not failing) is ("TEST06 verification complete" in text)


def test_offline_reports_no_first_token(tmp_path: Path) -> None:
    """The official line then says Skipped."""
    record = {"index": 1, "data": numbers(4, 5), "token_count": 2}
    verified("TEST06", log_of(tmp_path, [record]), {}, "llama3.1-8b")

    assert (tmp_path / "verify_accuracy.txt").read_text().splitlines() == [
        "First token check pass: Skipped",
        "EOS check pass: True",
        "Sample length check pass: True",
        "TEST06 verification complete",
    ]


@pytest.mark.parametrize(
    ("score", "expected"), [("60.7", Status.PASS), ("60.6", Status.FAIL)]
)
def test_test07_asks_for_a_score(score: str, expected: Status, tmp_path: Path) -> None:
    """What the scorer printed stands above the verdict."""
    answered(tmp_path, CLASSES)
    (tmp_path / "compliance_accuracy.txt").write_text(f"{{'exact_match': {score}}}\n")
    where = {"round_name": "v6.0"}
    found = verified("TEST07", tmp_path, {}, "gpt-oss-120b", **where)

    assert outcome(found) == {"compliance_accuracy": expected}
    text = (tmp_path / "verify_accuracy.txt").read_text()
    assert text.startswith(f"{{'exact_match': {score}}}\n")
    assert f"Accuracy score: {score}\n" in text
    assert (expected is Status.PASS) is ("TEST PASS" in text.splitlines())


def test_test07_fails_without_a_score_in_the_verifier_s_words(tmp_path: Path) -> None:
    """The scorer ended early: its file says nothing that can be read."""
    answered(tmp_path, CLASSES)
    (tmp_path / "compliance_accuracy.txt").write_text("Killed\n")
    found = verified("TEST07", tmp_path, {}, "gpt-oss-120b", round_name="v6.0")
    lines = (tmp_path / "verify_accuracy.txt").read_text().splitlines()

    assert outcome(found) == {"compliance_accuracy": Status.FAIL}
    assert "Error: Could not parse accuracy score" in lines
    assert "TEST FAIL" in lines


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


@pytest.mark.parametrize(
    ("prediction", "query", "expected"),
    [
        (0.7, 3, Status.PASS),
        (0.7002, 3, Status.PASS),
        (0.71, 3, Status.FAIL),
        (0.7, 4, Status.FAIL),
    ],
    ids=["the same", "within 0.1 %", "beyond", "an unknown query"],
)
def test_test08_compares_entropies(
    prediction: float, query: int, expected: Status, tmp_path: Path
) -> None:
    """Samples are known by timestamp and query, not by LoadGen's index."""
    whole = floats(1, 3, 0.7, 0.2, 1, 0, 1, 1, 2)
    accuracy = answered(tmp_path / "accuracy", [(11, whole)])
    folder = answered(tmp_path / "TEST08", [(0, floats(1, query, prediction, 0.2))])
    references = {"accuracy": accuracy}
    found = verified("TEST08", folder, references, "dlrm-v3", round_name="v6.0")

    assert outcome(found) == {"compliance_accuracy": expected}


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([], Status.FAIL),
        ([floats(1, 3, float("nan"), 0.2)], Status.ERROR),
        ([floats(1, 3, float("inf"), 0.2)], Status.ERROR),
        ([floats(1, 3, 0.7)], Status.ERROR),
        ([floats(1, 3, 0.7, 0.2, 0.5)], Status.ERROR),
    ],
    ids=["none", "no number", "without end", "a number less", "a number more"],
)
def test_test08_passes_no_run_without_predictions(
    answers: list[bytes], expected: Status, tmp_path: Path
) -> None:
    """Nothing differs from nothing, and no difference is above a limit if it is NaN."""
    whole = floats(1, 3, 0.7, 0.2, 1, 0, 1, 1, 2)
    accuracy = answered(tmp_path / "accuracy", [(11, whole)])
    folder = answered(tmp_path / "TEST08", [(0, answer) for answer in answers])
    references = {"accuracy": accuracy}
    found = verified("TEST08", folder, references, "dlrm-v3", round_name="v6.0")

    assert outcome(found) == {"compliance_accuracy": expected}


def test_the_entropy_of_a_coin_is_one() -> None:
    """Predictions that know nothing but the mean of the labels."""
    assert pytest.approx(1.0) == compute_entropy((0.5, 0.5), (1.0, 0.0), (1.0, 1.0))


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [((1200, 1300), Status.PASS), ((1100, 1150), Status.FAIL)],
)
def test_test09_bounds_the_mean_length(
    lengths: tuple[int, int], expected: Status, tmp_path: Path
) -> None:
    """1,278 tokens, ten percent more or less."""
    log_of(tmp_path, [{"index": 1, "data": bytes(4 * n)} for n in lengths])
    found = verified("TEST09", tmp_path, {}, "gpt-oss-120b", round_name="v6.0")

    assert outcome(found) == {"compliance_output_length": expected}
    text = (tmp_path / "verify_output_len.txt").read_text().splitlines()
    assert f"Mean output tokens: {sum(lengths) / 2:.2f}" in text
    assert (expected is Status.PASS) is ("TEST PASS" in text)


def test_the_length_of_no_answer_is_an_error(tmp_path: Path) -> None:
    """A run without answers proves nothing."""
    found = verified(
        "TEST09", log_of(tmp_path, []), {}, "gpt-oss-120b", round_name="v6.0"
    )

    assert list(outcome(found).values()) == [Status.ERROR]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_ends_of_sequence_are_counted_from_the_end(ids: list[int]) -> None:
    """As the script's loop does it, which never looks at the first token."""
    expected, place = 0, len(ids) - 1
    while place > 0 and ids[place] == 2:
        expected, place = expected + 1, place - 1

    assert expected == count_trailing(tuple(ids), 2)


def test_a_second_answer_is_held_against_the_first_of_its_run(tmp_path: Path) -> None:
    """The official script overwrites a sample's answer with the latest."""
    first, second = (3, numbers(900)), (3, numbers(901))
    accuracy = answered(tmp_path / "accuracy", [first])
    run = answered(tmp_path / "run", [first, second, second])
    found = compare_answers(accuracy, run)

    assert (found.matched, found.different) == (3, 1)


def test_bytes_are_compared_where_answers_are_no_int32(tmp_path: Path) -> None:
    """Answers of three bytes: only the first one counts, as in the script."""
    accuracy = answered(tmp_path / "accuracy", [(0, b"abc"), (1, b"xyz")])
    run = answered(tmp_path / "run", [(0, b"axx"), (1, b"Xyz")])
    found = compare_answers(accuracy, run)

    assert (found.element, found.different, found.further) == ("byte", 1, 1)
