"""What LLM benchmarks share: kept answers, official tables, scores."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.benchmarks.llm import exact_match
from pytest_mlperf.benchmarks.llm import rouge
from pytest_mlperf.benchmarks.llm import tables
from pytest_mlperf.benchmarks.llm import workload

VOCABULARY = ("the", "city", "of", "Paris", "is", "in", "France,", "a", "big", "one")
WORDS = st.lists(st.sampled_from(VOCABULARY))


@given(text=st.text(), tokens=st.integers(1, 9999))
def test_a_text_comes_back_with_its_token_count(text: str, tokens: int) -> None:
    """A zero byte is the only thing a text cannot keep."""
    logged = workload.encode_answer(Answer(text, tokens))
    answer = workload.decode_answer(7, logged, None)
    printable = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    expected = printable.encode("utf-8", "replace").decode()

    assert answer == workload.LoggedAnswer(7, expected, tokens)


@given(st.lists(st.integers(0, workload.MOST_IDS - 1), min_size=1, max_size=50))
def test_token_ids_are_kept_as_the_official_scripts_read_them(ids: list[int]) -> None:
    """Little-endian int32, and never taken for a text."""
    raw = workload.encode_answer(Answer("some text", len(ids), tuple(ids)))
    said = workload.decode_answer(0, raw, lambda found: json.dumps(list(found)))

    assert raw == np.array(ids, "<i4").tobytes()
    assert said == workload.LoggedAnswer(0, json.dumps(ids), len(ids))


def test_token_ids_without_a_tokenizer_name_the_file() -> None:
    """Scoring asks for tokenizer.json; it does not guess a text."""
    raw = workload.encode_answer(Answer("", 1, (5,)))

    with pytest.raises(RequirementMissing, match=r"tokenizer\.json"):
        workload.decode_answer(0, raw, None)


@pytest.mark.parametrize("raw", [b"", b"text alone", b"\1\0\0\0\5", b"\1\0\0\1"])
def test_bytes_that_are_no_answer_are_refused(raw: bytes) -> None:
    """A log of another suite or dtype is not scored."""
    with pytest.raises(ValueError, match=r"sample 3, but should be int32"):
        workload.decode_answer(3, raw, None)


def test_a_json_table_gives_its_columns(tmp_path: Path) -> None:
    """A list of records, or one record a line; plain or gzip."""
    rows = [{"output": "a", "n": [1]}, {"output": "b", "n": [2, 3], "more": 1}]
    whole, by_line = tmp_path / "t.json", tmp_path / "t.jsonl.gz"
    whole.write_text(json.dumps(rows))
    by_line.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    wanted = {"output": ["a", "b"], "n": [[1], [2, 3]]}

    assert tables.read_table(whole, ("output", "n")) == wanted
    assert tables.read_table(by_line, ("output", "n"), optional=("more",)) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "no list of records"),
        ('[{"a": 1}]', "columns a, but should also have output"),
    ],
)
def test_a_wrong_json_table_is_refused_by_name(
    text: str, words: str, tmp_path: Path
) -> None:
    """The message names file, problem and remedy."""
    path = tmp_path / "cnn_eval.json"
    path.write_text(text)

    with pytest.raises(ValueError, match=rf"cnn_eval\.json.*{words}"):
        tables.read_table(path, ("output",))


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_a_pickle_that_runs_something_is_refused_unrun(tmp_path: Path) -> None:
    """A dataset from a stranger is data, never a program."""
    path, mark = tmp_path / "data.pkl", tmp_path / "mark"
    path.write_bytes(pickle.dumps(Bomb(mark)))

    with pytest.raises(
        ValueError, match=r"data\.pkl is not read: .*mkdir.*not part of a frame"
    ):
        tables.read_table(path, ("input",))
    assert not mark.exists()


def test_a_pickle_of_something_else_is_refused(tmp_path: Path) -> None:
    """A list is no frame."""
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps([1, 2]))

    with pytest.raises(ValueError, match="holds a list, but should hold a DataFrame"):
        tables.read_table(path, ("input",))


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("suffix", [".pkl", ".pkl.gz"])
def test_a_pickled_frame_gives_its_columns(
    suffix: str, protocol: int, tmp_path: Path
) -> None:
    """Lists, texts, numbers and arrays; any protocol; any order of rows."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"tok_input": [[1, 2], [3]], "n": [1, 2], "a": [np.arange(2), np.arange(3)]}
    )
    frame["output"] = np.array(["x", "y"], object)
    frame["output"] = frame["output"].astype(object)
    path = tmp_path / f"data{suffix}"
    # Column names as the official files have them: objects, not Arrow's strings.
    frame.columns = pandas.Index(list(frame.columns), dtype=object)
    frame.iloc[[1, 0]].to_pickle(path, protocol=protocol)
    table = tables.read_table(path, ("tok_input", "output", "n"), optional=("a",))

    assert table["tok_input"] == [[3], [1, 2]]
    assert table["output"] == ["y", "x"]
    assert table["n"] == [2, 1]
    assert table["a"][0] == [0, 1, 2]


def test_a_parquet_table_gives_its_columns(tmp_path: Path) -> None:
    """As gpt-oss has them."""
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    path = tmp_path / "data.parquet"
    parquet.write_table(pyarrow.table({"tok_input": [[1], [2, 3]], "x": [1, 2]}), path)

    assert tables.read_table(path, ("tok_input",)) == {"tok_input": [[1], [2, 3]]}


@given(st.lists(WORDS.filter(bool), min_size=1, max_size=5))
def test_identical_texts_score_a_hundred(texts: list[list[str]]) -> None:
    """ROUGE of a text with itself, every kind."""
    pytest.importorskip("rouge_score")
    said = [" ".join(words) for words in texts]
    found = rouge.compute_rouge(said, said, lsum=True)
    two = all(len(words) > 1 for words in texts)

    assert {name: value for name, value in found.items() if name != "ROUGE2"} == {
        "ROUGE1": 100.0,
        "ROUGEL": 100.0,
        "ROUGELSUM": 100.0,
    }
    assert not two or found["ROUGE2"] == 100.0


@given(
    st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_the_order_of_samples_does_not_matter(
    pairs: list[tuple[list[str], list[str]]], order: random.Random
) -> None:
    """LoadGen logs answers in any order."""
    pytest.importorskip("rouge_score")
    texts = [(" ".join(a), " ".join(b)) for a, b in pairs]
    mixed = order.sample(texts, len(texts))
    before = rouge.compute_rouge(
        [a for a, _ in texts], [b for _, b in texts], lsum=True
    )
    after = rouge.compute_rouge([a for a, _ in mixed], [b for _, b in mixed], lsum=True)

    assert before == pytest.approx(after, abs=1.1e-4)


def test_rouge_is_the_reference_packages_number() -> None:
    """One pair counted by hand: 3 of 4 words found, 1 of 3 pairs of words."""
    pytest.importorskip("rouge_score")
    found = rouge.compute_rouge(["the cat sat down"], ["the cat down fell"], lsum=False)

    assert found == {"ROUGE1": 75.0, "ROUGE2": 33.3333, "ROUGEL": 75.0}


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("so 3. The answer is 5,600 dollars, 7 more", "5600", 1.0),
        ("2 and 2 make 4", "4", 1.0),
        ("The answer is 4\nQ: What is 5? The answer is 5", "4", 1.0),
        ("The answer is unknown, but 12 of", "12", 1.0),
        ("-.5", "-0.5", 1.0),
        ("none", "4", 0.0),
        ("The answer is 5.", "4", 0.0),
    ],
)
def test_gsm8k_takes_the_answer_or_the_last_number(
    answer: str, expected: str, right: float
) -> None:
    """The reference's rules, case by case."""
    assert exact_match.grade_gsm8k(answer, expected) == right


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        (r"so \boxed{ 42 }", "42", 1.0),
        (r"\boxed{1} no, \boxed{2}", "2", 1.0),
        ("Answer: 17", "17", 1.0),
        ("answer: 17.5", "17", 0.0),
        (r"\boxed{1000}", "1000", 0.0),
        ("42", "42", 0.0),
        (r"\boxed{42}", "nan", 0.0),
    ],
)
def test_aime_takes_the_last_boxed_number(
    answer: str, expected: str, right: float
) -> None:
    """Three digits, boxed or announced."""
    assert exact_match.grade_aime(answer, expected) == right


@pytest.mark.parametrize(
    ("last", "answer", "expected", "right"),
    [
        ("D", "FINAL ANSWER: (B).", "B", 1.0),
        ("D", "Answer: A ... Answer: c", "C", 1.0),
        ("D", "It is B", "B", 0.0),
        ("D", "Answer: Because", "B", 0.0),
        ("D", "Answer: E", "E", 0.0),
        ("J", "I choose (G)", "G", 1.0),
        ("D", "['ANSWER: D']", "D", 1.0),
    ],
)
def test_a_choice_is_the_last_letter_announced(
    last: str, answer: str, expected: str, right: float
) -> None:
    """Ten options fall back to a letter that stands alone, four do not."""
    assert exact_match.make_choice_grader(last)(answer, expected) == right


HARMONY = "<|channel|>analysis<|message|>Answer: A<|end|><|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (f"{HARMONY}**B**<|return|>", 1.0),
        (f"{HARMONY}The answer: B", 1.0),
        (f"{HARMONY}no idea<|return|>", 0.0),
        ("Answer: B", 1.0),
        ("A", 0.0),
    ],
)
def test_gpt_oss_is_judged_by_its_final_channel(answer: str, right: float) -> None:
    """What it thought before does not count while there is a final word."""
    assert exact_match.grade_harmony_choice(answer, "B") == right


UUID = "0123abcd-0123-abcd-0123-0123456789ab"


@pytest.mark.parametrize(
    ("answer", "right"), [(f"it is {UUID.upper()}", 1.0), ("none", 0.0)]
)
def test_a_needle_is_found_by_its_identifier(answer: str, right: float) -> None:
    """Case does not matter."""
    assert exact_match.grade_needle(answer, f"<{UUID}>") == right


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Long story. Answer: new  york city", 1.0),
        ("Answer: Boston", 0.0),
        ("New York", 1.0),
        ("Answer: Big Apple? Answer: Rome", 0.0),
    ],
)
def test_a_quoted_answer_matches_any_alternative(answer: str, right: float) -> None:
    """Spaces and case do not matter, the last ``Answer:`` does."""
    assert exact_match.grade_alternatives(answer, "New York|Big Apple") == right
