"""The benchmark rgat: its embedded and its official workload."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.api.benchmark import Benchmark
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.workload import ScoresEach
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks import rgat
from pytest_mlperf.benchmarks.graph import igbh
from pytest_mlperf.benchmarks.graph.rgat_model import Attention
from pytest_mlperf.benchmarks.graph.rgat_model import RgatWeights
from pytest_mlperf.benchmarks.graph.rgat_model import write_rgat
from pytest_mlperf.benchmarks.graph.workload import NodeWorkload
from pytest_mlperf.benchmarks.rgat import RGAT

Change = Callable[[dict[str, Array], Array], Array]
PAPERS, OTHERS = 12, 5


@pytest.fixture(scope="module")
def embedded() -> NodeWorkload:
    return RGAT.open_workload("embedded", None)


def score_all(workload: NodeWorkload, spoil: Change | None = None) -> float:
    """Return the accuracy of the shipped model, one thread, in batches of 32."""
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        workload.model.path, options, providers=["CPUExecutionProvider"]
    )
    answers: dict[int, bytes] = {}
    for start in range(0, workload.dataset.total, 32):
        indices = list(range(start, min(start + 32, workload.dataset.total)))
        batch = workload.dataset.gather(indices)
        if spoil:
            batch["features"] = spoil(batch, batch["features"])
        rows = workload.respond(session.run(["scores"], batch), indices).rows
        answers |= {i: row.tobytes() for i, row in zip(indices, rows, strict=True)}
    return workload.score(answers)["acc"]


def test_the_benchmark_and_its_workload_satisfy_the_protocols(
    embedded: NodeWorkload,
) -> None:
    """The contract of the api, checked by mypy and by use."""
    benchmark: Benchmark = RGAT
    workload: TensorWorkload = embedded

    assert (benchmark.name, benchmark.metric) == ("rgat", "acc")
    assert workload.blank.nbytes == 8
    assert embedded.dataset.total == 1437
    with pytest.raises(RequirementMissing, match="no generated workload"):
        benchmark.open_workload("generated", None)
    with pytest.raises(ValueError, match="no 'other' workload, but has 'official'"):
        benchmark.open_workload("other", None)


def test_fp32_reproduces_the_reference_in_batches(embedded: NodeWorkload) -> None:
    """It was measured one node at a time: the batch changes no answer."""
    assert score_all(embedded) == pytest.approx(embedded.reference["acc"], abs=1e-9)


WRONG: Mapping[str, Change] = {
    "features of another node": lambda _, x: np.roll(x, 1, axis=0),
    "features negated": lambda _, x: -x,
    "pixels shifted by one": lambda _, x: np.roll(x, 1, axis=1),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_engines_fail_the_limit(embedded: NodeWorkload, name: str) -> None:
    """99 % of the reference is the limit."""
    assert score_all(embedded, WRONG[name]) < 0.99 * embedded.reference["acc"]


def test_answers_are_int64_and_wrong_ones_are_errors(embedded: NodeWorkload) -> None:
    """The class with the highest score; lost answers are wrong."""
    scores = np.zeros((2, 10), np.float32)
    scores[[0, 1], [3, 7]] = 1
    right = {i: int(n).to_bytes(8, "little") for i, n in enumerate(embedded.labels)}

    assert embedded.respond([scores], [0, 1]).rows.tolist() == [[3], [7]]
    assert embedded.score(right)["acc"] == 100.0
    assert embedded.score({0: right[0]})["acc"] == pytest.approx(100 / 1437)
    assert isinstance(embedded, ScoresEach)
    assert embedded.score_each({1: right[1]}).tolist() == [0.0, 100.0, *[0.0] * 1435]
    assert (
        embedded.accuracy_text({"acc": 50.0})
        == "accuracy=50.000%, good=718, total=1437"
    )
    with pytest.raises(ValueError, match=r"\[2, 9\], but should be \[2, 10\]"):
        embedded.respond([scores[:, 1:]], [0, 1])
    with pytest.raises(ValueError, match=r"first: sample 5"):
        embedded.respond([scores * np.float32("nan")], [5, 6])
    with pytest.raises(ValueError, match="4 bytes for sample 0, but should be 8"):
        embedded.score({0: b"1234"})


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    """Another graph would make the reference meaningless."""
    folder = tmp_path / "rgat"
    shutil.copytree(rgat.EMBEDDED, folder)
    (folder / "graph.npz").write_bytes(b"")

    with pytest.raises(ValueError, match=r"graph\.npz has sha256"):
        rgat.open_embedded(folder)


def write_tree(scratch: Path) -> Path:
    """Write a tiny graph in the reference's layout; return its folder."""
    folder = scratch / igbh.FOLDERS[0]
    random = np.random.default_rng(0)
    counts = dict.fromkeys(igbh.KINDS, OTHERS) | {"paper": PAPERS}
    for kind, count in counts.items():
        (folder / kind).mkdir(parents=True)
        values = random.standard_normal((count, igbh.WIDTH)).astype(np.float32)
        if kind in ("paper", "author"):  # the largest ones have no header
            values.tofile(folder / kind / "node_feat.npy")
        else:
            np.save(folder / kind / "node_feat.npy", values)
    np.arange(PAPERS, dtype=np.float32).tofile(folder / "paper/node_label_2K.npy")
    for source, name, target in igbh.EDGES:
        path = folder / f"{source}__{name}__{target}"
        path.mkdir()
        ends = [random.integers(0, counts[kind], 20) for kind in (source, target)]
        np.save(path / "edge_index.npy", np.stack(ends, axis=1))
    return folder


def make_ready(folder: Path) -> None:
    """Do what ``data preprocess`` does without PyTorch's files."""
    ready = folder / igbh.READY
    ready.mkdir()
    for _, name, _ in igbh.list_relations():
        starts, sources = igbh.order_edges(folder, name)
        files.save_array(ready / f"{name}.starts.npy", starts)
        files.save_array(ready / f"{name}.sources.npy", sources)
    files.save_array(ready / igbh.NODES, np.array([3, 1, 7]))
    write_rgat(ready / igbh.GRAPH, make_weights())


def make_weights() -> RgatWeights:
    def one(into: int) -> Attention:
        ones = np.ones((4, 2), np.float32)
        return Attention(np.ones((into, 8), np.float32), ones, ones, np.ones(8, "f4"))

    names = [name for _, name, _ in igbh.list_relations()]
    layers = tuple({n: one(into) for n in names} for into in (igbh.WIDTH, 8, 8))
    classes = np.zeros((8, igbh.CLASSES), np.float32)
    bias = np.zeros(igbh.CLASSES, np.float32)
    bias[7] = 1
    return RgatWeights(layers, classes, bias)


def test_the_official_tree_opens_and_answers(tmp_path: Path) -> None:
    """Features with and without headers, eleven relations, nodes in their order."""
    make_ready(write_tree(tmp_path))
    workload = RGAT.open_workload("official", tmp_path)

    assert len(igbh.list_relations()) == 11
    assert workload.labels.tolist() == [3, 1, 7]
    assert score_all(workload) == pytest.approx(100 / 3)


def test_citations_go_both_ways_and_every_paper_cites_itself_once(
    tmp_path: Path,
) -> None:
    """As the reference builds its graph: loops are replaced, not added to."""
    folder = write_tree(tmp_path)
    edges = np.load(folder / "paper__cites__paper/edge_index.npy")
    starts, sources = igbh.order_edges(folder, "cites")
    targets = np.repeat(np.arange(PAPERS), np.diff(starts))
    loops = int((edges[:, 0] == edges[:, 1]).sum())
    found = set(zip(sources.tolist(), targets.tolist(), strict=True))

    assert len(sources) == 2 * (20 - loops) + PAPERS
    assert (sources == targets).sum() == PAPERS
    assert {(b, a) for a, b in found} == found


@pytest.mark.parametrize("column", [0, 1])
def test_a_dangling_edge_of_the_official_graph_is_found(
    tmp_path: Path, column: int
) -> None:
    """When the edges are ordered, or when the graph is opened."""
    folder = write_tree(tmp_path)
    path = folder / "paper__topic__fos/edge_index.npy"
    edges = np.load(path)
    edges[4, column] = 99
    np.save(path, edges)

    def open_it() -> None:
        make_ready(folder)
        RGAT.open_workload("official", tmp_path)

    with pytest.raises(ValueError, match="dangling edge"):
        open_it()


def test_what_is_absent_is_named_with_what_to_do(tmp_path: Path) -> None:
    """The files, then the step that makes them ready."""
    with pytest.raises(RequirementMissing, match=r"RGAT\.pt, .*node_feat\.npy"):
        RGAT.open_workload("official", tmp_path)
    write_tree(tmp_path)
    with pytest.raises(RequirementMissing, match="data preprocess rgat --scratch"):
        RGAT.open_workload("official", tmp_path)


def test_features_cut_short_are_named(tmp_path: Path) -> None:
    """A download that broke off in the middle of a node."""
    path = write_tree(tmp_path) / "author/node_feat.npy"
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(ValueError, match=r"author/node_feat\.npy has 20,479 bytes"):
        igbh.map_numbers(path, igbh.WIDTH)


def test_a_checkpoint_of_the_reference_is_converted(tmp_path: Path) -> None:
    """Its names and shapes, transposed where ONNX multiplies from the left."""
    torch = pytest.importorskip("torch")
    weights = make_weights()
    state = {
        "model.linear.weight": torch.tensor(weights.weight.T),
        "model.linear.bias": torch.tensor(weights.bias),
    }
    for number, layer in enumerate(weights.layers):
        for name, one in layer.items():
            part = f"model.layers.{number}.mods.{name}"
            state[f"{part}.fc.weight"] = torch.tensor(one.weight.T)
            state[f"{part}.attn_l"] = torch.tensor(one.source[None])
            state[f"{part}.attn_r"] = torch.tensor(one.target[None])
            state[f"{part}.bias"] = torch.tensor(one.bias)
    torch.save({"model_state_dict": state}, tmp_path / "RGAT.pt")
    found = igbh.read_checkpoint(tmp_path / "RGAT.pt")
    torch.save({"model_state_dict": {}}, tmp_path / "other.pt")

    assert np.array_equal(found.weight, weights.weight)
    assert np.array_equal(found.layers[2]["cites"].weight, np.ones((8, 8)))
    with pytest.raises(ValueError, match="is not the reference's checkpoint"):
        igbh.read_checkpoint(tmp_path / "other.pt")
