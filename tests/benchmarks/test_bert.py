"""The question-answering benchmark: windows, spans, F1, batches and both workloads."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.benchmarks.bert import BERT
from pytest_mlperf.benchmarks.bert import EMBEDDED
from pytest_mlperf.benchmarks.bert import open_embedded
from pytest_mlperf.benchmarks.bert import open_official
from pytest_mlperf.benchmarks.squad import predictions
from pytest_mlperf.benchmarks.squad import windows
from pytest_mlperf.benchmarks.squad.windows import Features
from pytest_mlperf.benchmarks.squad.windows import Question
from pytest_mlperf.benchmarks.squad.workload import SquadDataset
from pytest_mlperf.benchmarks.squad.workload import SquadWorkload

VOCAB = EMBEDDED / "vocab.txt"
SAMPLE = Path(__file__).parents[1] / "data" / "bert" / "dev-v1.1.json"
SAMPLE_QUESTIONS = 8
# MLCommons' submission checker takes F1 from accuracy.txt with this.
OFFICIAL_PATTERN = r"^{[\"']exact_match[\"']\:\s*[\d\.]+,\s*[\"']f1[\"']\:\s*([\d\.]+)}"
INPUTS = {"input_ids": "ids", "input_mask": "mask", "segment_ids": "segments"}
NO_ANSWERS = json.dumps(
    {
        "data": [
            {
                "paragraphs": [
                    {"context": "", "qas": [{"id": "", "question": "", "answers": []}]}
                ]
            }
        ]
    }
)
WORDS = ["city", "the", "Paris", "(1895)", "naïve", "“of”", "people,", "7,5", "東京"]


@pytest.fixture(scope="module")
def embedded() -> SquadWorkload:
    return open_embedded()


def perfect(features: Features, begins: Sequence[int]) -> dict[int, NDArray[Any]]:
    """Return logits that point at the first answer of each question, where shown."""
    out = {}
    for window, owner in enumerate(features.owners):
        head, length = int(features.heads[window]), int(features.lengths[window])
        first = int(features.firsts[window])
        logits = np.full((length, 2), -5.0, np.float32)
        begin = begins[owner]
        end = begin + len(features.questions[owner].answers[0])
        places = features.spans[owner]
        inside = np.flatnonzero((places[:, 0] < end) & (places[:, 1] > begin))
        a, b = inside[0] - first + head, inside[-1] - first + head
        if head <= a and b < length - 1:
            logits[a, 0] = logits[b, 1] = 5.0
        out[window] = logits
    return out


def begins(path: Path) -> list[int]:
    """Return where each question's first answer begins."""
    raw = path.read_bytes()
    tree = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    return [
        qa["answers"][0]["answer_start"]
        for article in tree["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]


def packed(logits: dict[int, NDArray[Any]]) -> dict[int, bytes]:
    return {i: row.astype("<f4").tobytes() for i, row in logits.items()}


# Windows


@given(st.integers(1, 2000), st.integers(1, 381))
def test_windows_cover_every_token_in_steps_of_the_stride(
    tokens: int, room: int
) -> None:
    """No token is lost, no window is larger than the room, none is superfluous."""
    found = windows.cut_windows(tokens, room)

    covered = {t for first, count in found for t in range(first, first + count)}
    assert set(range(tokens)) == covered
    assert all(count <= room for _, count in found)
    steps = {b[0] - a[0] for a, b in itertools.pairwise(found)}
    assert steps <= {min(room, windows.STRIDE)}
    assert [tokens] == [f + n for f, n in found if f + n >= tokens]


@given(st.integers(1, 1500), st.integers(129, 381))
def test_each_token_counts_where_it_has_most_context(tokens: int, room: int) -> None:
    """The chosen window shows at least as many tokens on the scarcer side."""
    parts = windows.cut_windows(tokens, room)

    best = predictions.find_most_context(parts)

    for token in range(0, tokens, 13):
        sides = {
            i: min(token - first, first + count - 1 - token) + 0.01 * count
            for i, (first, count) in enumerate(parts)
            if first <= token < first + count
        }
        assert max(sides.values()) == sides[int(best[token])]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_an_answer_is_recovered_from_a_window_that_holds_it(
    data: st.DataObject,
) -> None:
    """Perfect logits give the answer's own text back, whatever the marks around it."""
    count = data.draw(st.integers(1, 700))
    seed = data.draw(st.integers(0, 2**16))
    words = np.random.default_rng(seed).choice(WORDS, count).tolist()
    first = data.draw(st.integers(0, count - 1))
    last = min(count, first + data.draw(st.integers(1, 4)))
    context, answer = " ".join(words), " ".join(words[first:last])
    begin = len(" ".join(words[:first])) + (first > 0)
    question = Question("q", "Which city?", context, (answer,))
    features = windows.tokenize([question], VOCAB)

    found = predictions.predict(features, perfect(features, [begin]))

    assert answer == found[0]


def test_long_questions_are_cut_and_windows_fit() -> None:
    """Questions keep 64 tokens and no window exceeds 384."""
    features = windows.tokenize(windows.read_questions(SAMPLE), VOCAB)

    assert features.heads[-1] == 64 + 2
    assert features.lengths.max() == 384
    assert len(set(features.owners.tolist())) == SAMPLE_QUESTIONS
    assert len(features.lengths) > SAMPLE_QUESTIONS


def test_perfect_logits_answer_the_official_sample() -> None:
    """First, middle and last windows, accents, dashes and currency signs all score."""
    questions = windows.read_questions(SAMPLE)
    features = windows.tokenize(questions, VOCAB)

    found = predictions.predict(features, perfect(features, begins(SAMPLE)))

    assert [q.answers[0] for q in questions] == [found[i] for i in range(len(found))]


def test_a_vocabulary_without_special_tokens_is_refused(tmp_path: Path) -> None:
    """The message names the file and the tokens."""
    (tmp_path / "vocab.txt").write_text("[UNK]\nword\n")

    with pytest.raises(ValueError, match=r"vocab\.txt has no \[CLS\], \[SEP\]"):
        windows.tokenize(windows.read_questions(SAMPLE), tmp_path / "vocab.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not SQuAD v1.1"),
        ('{"data": [{}]}', "KeyError: 'paragraphs'"),
        ('{"data": []}', "has 0 questions"),
        (
            NO_ANSWERS,
            "1 without an answer",
        ),
    ],
)
def test_a_file_that_is_not_squad_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    """The message says what was found and what the file should be."""
    path = tmp_path / "dev.json"
    path.write_text(text)

    with pytest.raises(ValueError, match=re.escape(message)):
        windows.read_questions(path)


# Spans, text and metrics


def span(**points: tuple[float, float]) -> NDArray[np.float64]:
    """Return 60 tokens of logits, -9 but where named: ``t5=(start, end)``."""
    logits = np.full((60, 2), -9.0)
    for name, pair in points.items():
        logits[int(name[1:])] = pair
    return logits


EVERY = np.ones(60, bool)


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        (span(t5=(3, -9), t7=(-9, 4)), (7.0, 5, 7)),
        (span(t7=(3, -9), t5=(2, 4)), (6.0, 5, 5)),  # never backwards
        (span(t5=(3, -9), t34=(-9, 4)), (7.0, 5, 34)),  # 30 tokens: just legal
        (span(t5=(3, 0), t35=(-9, 4)), (3.0, 5, 5)),  # 31 are too many
        (span(t3=(2, 2), t9=(2, 2)), (4.0, 3, 3)),  # a tie goes to the earlier
    ],
)
def test_the_best_legal_span_wins(
    logits: NDArray[Any], expected: tuple[float, int, int]
) -> None:
    """Order, length and ties are settled as the reference does."""
    assert expected == predictions.find_best_span(logits, EVERY, EVERY)


def test_only_the_twenty_best_ends_are_looked_at() -> None:
    """A legal span whose end is the 21st best does not exist."""
    logits = span(t59=(9, -1))
    logits[:20, 1] = 1.0
    only = np.arange(60) == 59

    assert predictions.find_best_span(logits, only, EVERY) is None
    logits[0, 1] = -2.0
    assert predictions.find_best_span(logits, only, EVERY) == (8.0, 59, 59)


def test_no_legal_span_answers_empty() -> None:
    """The reference's nonce answer stands where only the question scores."""
    features = windows.tokenize([Question("q", "What?", "Paris", ("Paris",))], VOCAB)
    logits = np.full((int(features.lengths[0]), 2), 0.0)
    features.heads[0] = features.lengths[0] - 1

    found = predictions.predict(features, {0: logits})

    assert found == {0: "empty"}


@pytest.mark.parametrize(
    ("context", "cut", "whole", "expected"),
    [
        ("by Steve Smith's son", (3, 14), False, "Steve Smith"),
        ("by Steve Smith's son", (3, 14), True, "Steve Smith's"),
        ("the naïve one", (4, 9), False, "naïve"),
        ("at cafe\u0301, now", (3, 8), False, "cafe\u0301,"),  # lengths differ
        ("two\n words", (0, 10), False, "two words"),
    ],
)
def test_text_falls_back_to_whole_words_where_characters_do_not_align(
    context: str, cut: tuple[int, int], whole: bool, expected: str
) -> None:
    """As the reference's projection does for [UNK] and combining accents."""
    assert expected == predictions.extract_text(context, *cut, whole_words=whole)


@pytest.mark.parametrize(
    ("prediction", "answer", "em", "f1"),
    [
        ("The Cat!", "cat", True, 1.0),
        ("a  cat, an  owl", "cat owl", True, 1.0),
        ("big black cat", "cat", False, 0.5),
        ("the the", "the", True, 0.0),  # nothing is left: EM holds, F1 has no word
        ("Theatre", "atre", False, 0.0),
        ("1,000", "1000", True, 1.0),
        ("1895\u20131902", "18951902", False, 0.0),  # only ASCII marks are dropped
        ("", "cat", False, 0.0),
    ],
)
def test_exact_match_and_f1_follow_the_official_normalisation(
    prediction: str, answer: str, em: bool, f1: float
) -> None:
    """Case, articles, ASCII punctuation and blanks do not count."""
    assert em == predictions.is_exact_match(prediction, answer)
    assert f1 == pytest.approx(predictions.compute_f1(prediction, answer))


def test_unanswered_questions_count_as_zero() -> None:
    """The divisor is every question, and the best of several answers counts."""
    questions = [Question("a", "", "", ("x", "y z")), Question("b", "", "", ("x",))]

    scores = predictions.evaluate(questions, {0: "z y"})

    assert scores == {"F1": 50.0, "exact_match": 0.0}


# Batches and answers


@settings(max_examples=50, deadline=None)
@given(picked=st.lists(st.integers(0, 400), min_size=1, max_size=9))
def test_gather_equals_naive_padding(
    embedded: SquadWorkload, picked: list[int]
) -> None:
    """A batch is padded to its own longest, contiguous and int64."""
    features = embedded.features
    longest = max(int(features.lengths[i]) for i in picked)
    naive = np.zeros((3, len(picked), longest), np.int64)
    for row, i in enumerate(picked):
        n = int(features.lengths[i])
        naive[0, row, :n] = features.ids[i, :n]
        naive[1, row, :n] = 1
        naive[2, row, int(features.heads[i]) : n] = 1

    batch = embedded.dataset.gather(picked)

    assert list(embedded.model.inputs) == list(batch)
    for expected, actual in zip(naive, batch.values(), strict=True):
        assert np.array_equal(expected, actual)
        assert actual.flags.c_contiguous
        assert np.dtype(np.int64) == actual.dtype


def test_a_graph_of_fixed_length_gets_full_rows() -> None:
    """Every row has the graph's length and integer type, zeros behind the text."""
    features = windows.tokenize(windows.read_questions(SAMPLE)[3:5], VOCAB)

    batch = SquadDataset(features, INPUTS, 384, np.dtype(np.int32)).gather([1])

    assert {array.shape for array in batch.values()} == {(1, 384)}
    assert {np.dtype(np.int32)} == {array.dtype for array in batch.values()}
    assert features.lengths[1] == batch["input_mask"].sum()


def test_respond_leaves_the_padding_out(embedded: SquadWorkload) -> None:
    """Sizes are eight bytes a token of each sample's own length."""
    lengths = embedded.dataset.lengths[[0, 5]]
    start = np.arange(2 * lengths.max(), dtype=np.float32).reshape(2, -1)

    predictions, sizes, _ = embedded.respond([start, -start], [0, 5])

    assert (8 * lengths).tolist() == sizes
    assert predictions.flags.c_contiguous
    assert np.array_equal(np.stack([start, -start], axis=-1), predictions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, e: [s, e * np.nan], "NaN or infinity in 2 of 2 answers"),
        (lambda s, e: [s / 0.0, e], "NaN or infinity"),
        (lambda s, e: [s[:1], e[:1]], "but should be two"),
        (lambda s, e: [s[:, :9], e[:, :9]], "at least"),
        (lambda s, e: [s, e[:, :-1]], "have the shapes"),
        (lambda s, _: [s], "start and end logits"),
        (lambda s, e: [s[..., None], e[..., None]], "have the shapes"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_respond_refuses_what_is_not_an_answer(
    embedded: SquadWorkload, change: Any, message: str
) -> None:
    """The message holds what was found, what should be and what to do."""
    good = np.ones((2, int(embedded.dataset.lengths[:2].max())), np.float32)

    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        embedded.respond(change(good, good), [0, 1])

    assert "should be" in str(caught.value)


def test_perfect_answers_score_100_and_wrong_ones_fail(
    embedded: SquadWorkload,
) -> None:
    """The gate can tell a right engine from a wrong one and from a blank one."""
    right = perfect(embedded.features, begins(EMBEDDED / "evaluation.json.gz"))
    wrong = {i: np.roll(row, 9, axis=0) for i, row in right.items()}
    blank = dict.fromkeys(right, embedded.blank.tobytes())

    assert embedded.score(packed(right)) == {"F1": 100.0, "exact_match": 100.0}
    assert embedded.score(packed(wrong))["F1"] < 40
    assert embedded.score(blank)["F1"] < 40


@pytest.mark.parametrize(
    ("answers", "message"),
    [({0: b"1234"}, "4 bytes for sample 0"), ({99999: bytes(8)}, "sample 99999")],
)
def test_score_refuses_bytes_that_are_not_logits(
    embedded: SquadWorkload, answers: dict[int, bytes], message: str
) -> None:
    """The message names the sample and the log."""
    with pytest.raises(ValueError, match=message):
        embedded.score(answers)


def test_the_accuracy_line_is_what_the_official_checker_reads(
    embedded: SquadWorkload,
) -> None:
    """Exact match comes first, and the pattern captures F1."""
    text = embedded.accuracy_text({"F1": 90.874, "exact_match": 83.7})
    found = re.match(OFFICIAL_PATTERN, text)

    assert found is not None
    assert found[1] == "90.874"


# The embedded workload


def test_the_stand_in_is_what_the_manifest_says(embedded: SquadWorkload) -> None:
    """Sizes, lengths and reference are those of a useful stand-in."""
    size = sum(path.stat().st_size for path in EMBEDDED.iterdir())

    assert embedded.kind == "embedded"
    assert size < 19_000_000
    assert 400 <= len(embedded.features.questions) <= 600
    assert 150 < embedded.dataset.lengths.mean() < 190
    assert embedded.reference["F1"] >= 80
    assert embedded.model.dynamic_length


def test_a_changed_artefact_is_refused(tmp_path: Path) -> None:
    """A file that is not the recorded one never gives a number."""
    shutil.copytree(EMBEDDED, tmp_path / "bert")
    with (tmp_path / "bert" / "vocab.txt").open("a") as file:
        file.write("more\n")

    with pytest.raises(ValueError, match=r"vocab\.txt has sha256 \w+, but should be"):
        open_embedded(tmp_path / "bert")


def test_nodes_kept_in_fp32_exist(embedded: SquadWorkload) -> None:
    """A name that the graph does not have would silently keep nothing."""
    onnx = pytest.importorskip("onnx")
    nodes = {node.name for node in onnx.load(str(embedded.model.path)).graph.node}

    assert embedded.model.keep_fp32
    assert set(embedded.model.keep_fp32) <= nodes


def test_onnxruntime_in_fp32_reproduces_the_reference(embedded: SquadWorkload) -> None:
    """The shipped model reaches the recorded F1 through the package's own path."""
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(
        str(embedded.model.path), providers=["CPUExecutionProvider"]
    )
    predictions = {}
    order = np.argsort(embedded.dataset.lengths)
    for start in range(0, len(order), 8):
        picked = order[start : start + 8].tolist()
        outputs = session.run(
            list(embedded.model.outputs), embedded.dataset.gather(picked)
        )
        rows, sizes, _ = embedded.respond(outputs, picked)
        for index, row, size in zip(picked, rows, sizes or [], strict=True):
            predictions[index] = row.tobytes()[:size]

    scores = embedded.score(predictions)

    assert embedded.reference == pytest.approx(scores, abs=0.3)


# The official workload


def make_graph(
    path: Path,
    length: int | str = "length",
    outputs: Sequence[str] = ("output_end_logits", "output_start_logits"),
) -> None:
    """Write a graph in the official form whose start logit is the token's id."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto
    start, end = outputs[-1], outputs[0]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["input_ids"], [start], to=kind.FLOAT),
            helper.make_node("Add", ["input_mask", "segment_ids"], ["sum"]),
            helper.make_node("Cast", ["sum"], [end], to=kind.FLOAT),
        ],
        "tiny",
        [helper.make_tensor_value_info(n, kind.INT64, ["b", length]) for n in INPUTS],
        [helper.make_tensor_value_info(n, kind.FLOAT, ["b", length]) for n in outputs],
    )
    opset = [helper.make_opsetid("", 17)]
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A scratch space in NVIDIA's layout, tiny."""
    make_graph(tmp_path / "models" / "bert" / "bert_large_v1_1.onnx")
    shutil.copy(VOCAB, tmp_path / "models" / "bert" / "vocab.txt")
    (tmp_path / "data" / "squad").mkdir(parents=True)
    shutil.copy(SAMPLE, tmp_path / "data" / "squad" / "dev-v1.1.json")
    return tmp_path


@pytest.mark.parametrize("length", ["length", 384])
def test_the_official_files_become_a_workload(scratch: Path, length: int | str) -> None:
    """Names, order of outputs and length come from the graph; it really runs."""
    ort = pytest.importorskip("onnxruntime")
    make_graph(scratch / "models" / "bert" / "bert_large_v1_1.onnx", length)

    workload = open_official(scratch, SAMPLE_QUESTIONS)
    session = ort.InferenceSession(
        str(workload.model.path), providers=["CPUExecutionProvider"]
    )
    batch = workload.dataset.gather([0, 1])
    rows, sizes, _ = workload.respond(
        session.run(list(workload.model.outputs), batch), [0, 1]
    )

    assert workload.kind == "official"
    assert workload.model.outputs == ("output_start_logits", "output_end_logits")
    assert workload.model.inputs == ("input_ids", "input_mask", "segment_ids")
    assert (length != 384) == workload.model.dynamic_length
    assert workload.reference["F1"] == 90.874
    assert np.array_equal(batch["input_ids"], rows[..., 0])
    assert sizes == [384 * 8] * 2


def test_the_digest_follows_the_files(scratch: Path) -> None:
    """Another vocabulary is another workload."""
    before = open_official(scratch, SAMPLE_QUESTIONS).digest
    with (scratch / "models" / "bert" / "vocab.txt").open("a") as file:
        file.write("more\n")

    assert before != open_official(scratch, SAMPLE_QUESTIONS).digest


@pytest.mark.parametrize(
    "name",
    [
        "models/bert/bert_large_v1_1.onnx",
        "models/bert/vocab.txt",
        "data/squad/dev-v1.1.json",
    ],
)
def test_a_missing_official_file_is_named(scratch: Path, name: str) -> None:
    """The reason names the file, its source and the variable to set."""
    (scratch / name).unlink()

    with pytest.raises(
        RequirementMissing, match=f"bert official: {name} not found"
    ) as caught:
        BERT.open_workload("official", scratch)

    assert "Zenodo" in str(caught.value)
    assert "MLPERF_SCRATCH_PATH" in str(caught.value)


def test_without_a_scratch_space_every_file_is_named() -> None:
    """The reason lists the whole layout."""
    with pytest.raises(
        RequirementMissing, match=r"vocab\.txt, data/squad/dev-v1\.1\.json not"
    ):
        BERT.open_workload("official", None)


def test_an_incomplete_dev_set_is_refused(scratch: Path) -> None:
    """The reference F1 holds for the whole set only."""
    with pytest.raises(ValueError, match=r"8 questions, but .* should have 10570"):
        BERT.open_workload("official", scratch)


def test_a_graph_of_another_task_is_refused(scratch: Path) -> None:
    """The message lists the graph's names and the ones that it should have."""
    path = scratch / "models" / "bert" / "bert_large_v1_1.onnx"
    make_graph(path, outputs=("boxes", "scores"))

    with pytest.raises(ValueError, match=r"'boxes', 'scores'.* but should have"):
        open_official(scratch, SAMPLE_QUESTIONS)


@pytest.mark.parametrize(("target", "precision"), [("99", "int8"), ("99.9", "fp32")])
def test_the_target_decides_the_default_precision(target: str, precision: str) -> None:
    """99 % leaves room for int8; 99.9 % does not."""
    assert precision == BERT.precision(target)
