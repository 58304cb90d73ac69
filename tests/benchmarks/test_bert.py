"""The benchmark bert: its embedded and its official workload."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.bert import BERT
from pytest_mlperf.benchmarks.bert import EMBEDDED
from pytest_mlperf.benchmarks.bert import open_embedded
from pytest_mlperf.benchmarks.bert import open_official
from pytest_mlperf.benchmarks.squad.workload import SquadWorkload
from tests.support import squad


@pytest.fixture(scope="module")
def embedded() -> SquadWorkload:
    return open_embedded()


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


def test_a_stand_in_of_the_scratch_folder_comes_first(tmp_path: Path) -> None:
    """One with more questions; a folder without a manifest is none."""
    folder = tmp_path / "embedded" / "bert"
    folder.mkdir(parents=True)

    assert files.find_embedded(tmp_path, "bert") == files.EMBEDDED / "bert"
    assert files.find_embedded(None, "bert") == files.EMBEDDED / "bert"
    shutil.copytree(files.EMBEDDED / "bert", folder, dirs_exist_ok=True)
    workload = BERT.open_workload("embedded", tmp_path)
    assert {path.parent for path in workload.files} == {folder}


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

    assert scores == pytest.approx(embedded.reference, abs=0.3)
    assert embedded.score_each(predictions).mean() == pytest.approx(scores["F1"])


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
        [
            helper.make_tensor_value_info(n, kind.INT64, ["b", length])
            for n in squad.INPUTS
        ],
        [helper.make_tensor_value_info(n, kind.FLOAT, ["b", length]) for n in outputs],
    )
    opset = [helper.make_opsetid("", 17)]
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A scratch space in NVIDIA's layout, tiny."""
    make_graph(tmp_path / "models" / "bert" / "bert_large_v1_1.onnx")
    shutil.copy(squad.VOCAB, tmp_path / "models" / "bert" / "vocab.txt")
    (tmp_path / "data" / "squad").mkdir(parents=True)
    shutil.copy(squad.SAMPLE, tmp_path / "data" / "squad" / "dev-v1.1.json")
    return tmp_path


@pytest.mark.parametrize("length", ["length", 384])
def test_the_official_files_become_a_workload(scratch: Path, length: int | str) -> None:
    """Names, order of outputs and length come from the graph; it really runs."""
    ort = pytest.importorskip("onnxruntime")
    make_graph(scratch / "models" / "bert" / "bert_large_v1_1.onnx", length)

    workload = open_official(scratch, squad.SAMPLE_QUESTIONS)
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
    assert workload.model.dynamic_length == (length != 384)
    assert np.array_equal(batch["input_ids"], rows[..., 0])
    assert sizes == [384 * 8] * 2


def test_the_digest_follows_the_files(scratch: Path) -> None:
    """Another vocabulary is another workload."""
    before = open_official(scratch, squad.SAMPLE_QUESTIONS).digest
    with (scratch / "models" / "bert" / "vocab.txt").open("a") as file:
        file.write("more\n")

    assert before != open_official(scratch, squad.SAMPLE_QUESTIONS).digest


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
        open_official(scratch, squad.SAMPLE_QUESTIONS)


@pytest.mark.parametrize(("target", "precision"), [("99", "int8"), ("99.9", "fp32")])
def test_the_target_decides_the_default_precision(target: str, precision: str) -> None:
    """99 % leaves room for int8; 99.9 % does not."""
    assert BERT.precision(target) == precision
