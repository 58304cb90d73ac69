"""The benchmark 3d-unet: its embedded and its official workload."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.api.benchmark import Benchmark
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import RunsModel
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.benchmarks import unet_3d
from pytest_mlperf.benchmarks.segmentation import kits19
from pytest_mlperf.benchmarks.segmentation.volumes import VolumeDataset
from pytest_mlperf.benchmarks.segmentation.workload import SegmentationWorkload
from pytest_mlperf.benchmarks.unet_3d import UNET_3D
from pytest_mlperf.core import rounds

Infer = Callable[[Batch, int], Sequence[Array]]
Change = Callable[[Array], Array]
WRONG: Mapping[str, tuple[Change, Change]] = {
    "classes permuted": (lambda x: x, lambda y: y[:, [2, 0, 1]]),
    "windows permuted": (lambda x: x, lambda y: y[::-1]),
    "input halved": (lambda x: x / 2, lambda y: y),
    "windows shifted by one": (lambda x: x, lambda y: np.roll(y, 1, axis=(2, 3, 4))),
}
"""What an engine may do to its input, and to its outputs."""


@pytest.fixture(scope="module")
def embedded() -> SegmentationWorkload:
    return UNET_3D.open_workload("embedded", None)


@pytest.fixture(scope="module")
def infer(embedded: SegmentationWorkload) -> Infer:
    """The shipped model in fp32, one thread."""
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        embedded.model.path, options, providers=["CPUExecutionProvider"]
    )
    return lambda batch, _: session.run(list(embedded.model.outputs), batch)


def score_all(workload: SegmentationWorkload, infer: Infer) -> float:
    rows, sizes, _ = workload.run_model(infer, range(workload.dataset.total))
    assert sizes is not None
    pairs = enumerate(zip(rows, sizes, strict=True))
    return workload.score({i: row[:size].tobytes() for i, (row, size) in pairs})["DICE"]


def test_the_benchmark_and_its_workload_satisfy_the_protocols(
    embedded: SegmentationWorkload,
) -> None:
    """The contract of the api, checked by mypy and by use."""
    benchmark: Benchmark = UNET_3D
    workload: TensorWorkload = embedded
    runs: RunsModel = embedded

    assert (benchmark.name, benchmark.metric) == ("3d-unet", "DICE")
    assert isinstance(runs, RunsModel)
    assert workload.blank.dtype == np.uint8
    with pytest.raises(ValueError, match="no 'oracle' workload, but has 'official'"):
        benchmark.open_workload("oracle", None)


def test_volumes_differ_in_shape_and_cost(embedded: SegmentationWorkload) -> None:
    """As the official ones do: Offline sorts by the number of windows."""
    dataset = embedded.dataset

    assert dataset.lengths is not None
    assert len({dataset.shape_of(i) for i in range(dataset.total)}) > 4
    assert dataset.lengths.max() >= 2 * dataset.lengths.min()


def test_fp32_reproduces_the_reference(
    embedded: SegmentationWorkload, infer: Infer
) -> None:
    """The reference is what the shipped model does on the shipped volumes."""
    score = score_all(embedded, infer)

    assert score == pytest.approx(embedded.reference["DICE"], abs=1e-4)


def test_wrong_engines_fail_the_limit(
    embedded: SegmentationWorkload, infer: Infer
) -> None:
    """The limit is 99 % of the right score; every third volume will do."""
    part = replace(
        embedded,
        dataset=VolumeDataset(embedded.dataset.images[::3], unet_3d.EMBEDDED_SIDE),
        labels=embedded.labels[::3],
    )
    limit = 0.99 * score_all(part, infer)
    scores = {}
    for name, (spoil_input, spoil_output) in WRONG.items():

        def run(
            batch: Batch,
            size: int,
            do: Change = spoil_input,
            undo: Change = spoil_output,
        ) -> Sequence[Array]:
            return [undo(infer({"input": do(batch["input"])}, size)[0])]

        scores[name] = score_all(part, run)

    assert {name: score for name, score in scores.items() if score >= limit} == {}


def test_a_changed_artefact_is_refused(tmp_path: Path) -> None:
    """Other volumes would make the reference meaningless."""
    folder = tmp_path / "3d-unet"
    shutil.copytree(unet_3d.EMBEDDED, folder)
    path = folder / "volumes.npz"
    path.write_bytes(path.read_bytes() + b"\0")

    with pytest.raises(ValueError, match=r"volumes\.npz has sha256 .*but should be"):
        unet_3d.open_embedded(folder)


def test_absent_official_files_are_named_with_their_origin(tmp_path: Path) -> None:
    """Both layouts, and what to do without a download."""
    with pytest.raises(RequirementMissing) as caught:
        UNET_3D.open_workload("official", tmp_path)
    text = str(caught.value)

    for part in ("3dUNetKiTS19.onnx", "case_00000", "5597155", "choose --mlperf-work"):
        assert part in text


def write_graph(path: Path, batch: int | str, name: str = "output") -> None:
    """Write a graph with the official signature: scores by intensity."""
    from onnx import TensorProto
    from onnx import helper
    from onnx import save_model

    shape = [batch, 1, 128, 128, 128]
    path.parent.mkdir(parents=True)
    node = helper.make_node("Concat", ["input"] * 3, [name], axis=1)
    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [batch, c, *shape[2:]])
        for n, c in (("input", 1), (name, 3))
    ]
    graph = helper.make_graph([node], "copy", values[:1], values[1:])
    opset = [helper.make_opsetid("", 17)]
    save_model(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


@pytest.mark.parametrize(("batch", "run"), [(1, 1), ("n", unet_3d.OFFICIAL_RUN)])
def test_the_official_tree_opens(tmp_path: Path, batch: int | str, run: int) -> None:
    """A model of any batch size or of one, and cases in the reference's folder."""
    pytest.importorskip("onnx")
    folder = tmp_path / kits19.FOLDERS[-1]
    folder.mkdir(parents=True)
    image = np.zeros((1, 128, 128, 192), np.float32)
    for file, values in {
        "case_00000.npy": image,
        "case_00000.labels.npy": np.zeros(image.shape[1:], np.uint8),
    }.items():
        np.save(folder / file, values)
    hashes = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("*.npy")
    }
    (folder / kits19.HASHES).write_text(json.dumps(hashes))
    write_graph(tmp_path / unet_3d.MODEL.paths[1], batch)
    workload = unet_3d.open_official(tmp_path, {"case_00000": ""})

    assert workload.windows_a_run == run
    assert workload.dataset.lengths is not None
    assert workload.dataset.lengths.tolist() == [2]


def test_a_graph_with_other_outputs_is_refused(tmp_path: Path) -> None:
    """Its scores would be those of another model."""
    pytest.importorskip("onnx")
    path = tmp_path / "models/other.onnx"
    write_graph(path, 1, "logits")

    with pytest.raises(ValueError, match=r"outputs \['logits'\], but should have"):
        unet_3d.read_batch(path)


def test_the_rounds_hold_official_runs_to_the_reference_s_score() -> None:
    """0.8617 from v2.1 on, in the unit that the workload scores in."""
    for target, ratio in (("99", 0.99), ("99.9", 0.999)):
        rule = next(
            rule
            for rule in rounds.get("v6.1").rules
            if (rule.benchmark, rule.target) == ("3d-unet", target)
        )
        (limit,) = rule.accuracy
        assert limit.metric == "DICE"
        assert limit.reference == 0.8617
        assert limit.ratio == ratio
