"""Real plans of the real builder: TensorRT for RTX needs no GPU to build.

``tox -e tensorrt`` installs it (95 MB) and runs this file.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx import helper
from onnx import numpy_helper

from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.benchmarks.bert import BERT
from pytest_mlperf.benchmarks.resnet50 import RESNET50
from pytest_mlperf.engines.tensorrt.library import find_library
from pytest_mlperf.engines.tensorrt.library import load_library
from pytest_mlperf.engines.tensorrt.provider import TENSORRT
from tests.support import doubles
from tests.support.lazy_cuda import FakeContext
from tests.support.lazy_cuda import FakeEngine

pytestmark = pytest.mark.skipif(
    find_library() is None,
    reason="no TensorRT is installed: pip install 'pytest-mlperf[tensorrt-rtx]'",
)
WIDE = 4096
"""Columns of the small model: 1 MiB of workspace holds some batches, not all."""


def save(path: Path, *nodes: onnx.NodeProto, rest: tuple[int, ...] = (512,),
         weights: Mapping[str, Array] | None = None) -> ModelFile:  # fmt: skip
    """Write a model of a few operators: float32 [batch, *rest] to anything."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info("number", TensorProto.FLOAT, ["batch", *rest])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, name) for name, v in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)]
    made = helper.make_model(graph, opset_imports=opsets)
    made.ir_version = 8
    onnx.save(made, path)
    return ModelFile(path, ("number",), ("output",))


def one(operator: str, **named: str) -> onnx.NodeProto:
    return helper.make_node(operator, ["number"], ["output"], name="only", **named)


@dataclass
class World:
    """A cache, and requests that share it."""

    folder: Path
    beats: list[int] = field(default_factory=list)

    def request(
        self,
        workload: TensorWorkload | ModelFile,
        precision: str = "fp32",
        batch: int | None = 4,
        **options: str,
    ) -> BuildRequest:
        if isinstance(workload, ModelFile):
            echo = doubles.Echo(doubles.numbers(), digest=workload.path.stem)
            workload = replace(echo, model=workload)
        options = {name.replace("_", "-"): value for name, value in options.items()}
        cache = self.folder / "cache"
        beat: Callable[[], None] = lambda: self.beats.append(1)  # noqa: E731
        return BuildRequest(workload, precision, cache, options, batch, beat)

    def build(self, *arguments: object, **named: object) -> Build:
        return TENSORRT.build(self.request(*arguments, **named))  # type: ignore[arg-type]

    def product(self) -> ModelFile:
        """Write a wide product, divided by its sum, which wants room for all of it."""
        return save(
            self.folder / "product.onnx",
            helper.make_node("MatMul", ["number", "weights"], ["product"]),
            helper.make_node("ReduceSum", ["product"], ["sum"], keepdims=1),
            helper.make_node("Div", ["product", "sum"], ["output"]),
            weights={"weights": np.ones((512, WIDE), np.float32)},
        )

    def plans(self) -> list[Path]:
        return sorted((self.folder / "cache").rglob("*.plan"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("precision", ["fp16", "fp32", "int8", "fp8"])
def test_the_picture_classifier_becomes_a_plan(world: World, precision: str) -> None:
    """In every precision, with a profile each for one sample, a query and a batch."""
    workload = RESNET50.open_workload("embedded", None)
    build = world.build(workload, precision, 64)

    assert build.path is not None
    assert build.path.stat().st_size > 4_000_000
    assert build.facts["profiles"] == "3"
    assert build.facts["largest batch"] == "64 of 64"
    assert len(world.beats) > 50
    calibrated = precision in ("int8", "fp8")
    assert calibrated == ("calibration" in build.facts)
    if calibrated:
        assert build.facts["calibration"].endswith("none of the 270 that are evaluated")


def test_the_question_answerer_becomes_a_plan(world: World) -> None:
    """Batch and length vary: three profiles of either; no ONNX file is left."""
    build = world.build(BERT.open_workload("embedded", None), "fp16", 64)
    left = {p.suffix for p in (world.folder / "cache" / "tensorrt").iterdir()}

    assert build.facts["profiles"] == "9"
    assert build.report.startswith("built model-fp16-b64-")
    assert left == {".plan", ".json", ".size", ".lock", ""}


def test_questions_without_calibration_samples_are_not_quantised(world: World) -> None:
    """The text says what to ask for instead."""
    with pytest.raises(BuildFailed, match="no calibration samples; use --mlperf-prec"):
        world.build(BERT.open_workload("embedded", None), "int8")

    assert world.plans() == []


def test_a_plan_is_built_once_and_again_for_a_reason(world: World) -> None:
    """S4's reasons, met in turn: new, cached, batch, settings, deleted."""
    model = world.product()
    first = world.build(model)
    second = world.build(model)
    batch = world.build(model, batch=8)
    level = world.build(model, batch=8, level="2")
    assert first.path is not None
    first.path.unlink()
    again = world.build(model)

    assert "no engine was built for this workload yet" in first.facts["why built"]
    assert second.report == f"cached plan {first.path.name}"
    assert "why built" not in second.facts
    assert "setting changed: batch 4 → 8" in batch.facts["why built"]
    assert level.facts["why built"] == "builder settings changed: level -1 → 2"
    assert again.facts["why built"] == f"the engine was deleted: {first.path.name}"
    assert len({b.digest for b in (first, second, batch, level, again)}) == 3


def test_the_largest_batch_that_fits_the_workspace_is_built(world: World) -> None:
    """The builder itself runs out; the plan says for how many it is, and why."""
    model = world.product()
    build = world.build(model, batch=256, workspace_mib="1")
    again = world.build(model, batch=256, workspace_mib="1")
    batch = int(build.facts["largest batch"].removesuffix(" of 256"))
    tried = build.facts["tried batches"]

    assert 1 <= batch < 256
    assert tried.startswith("256: memory, 1: built, 2: built, 4: built, ")
    assert f"{batch}: built" in tried
    assert len(tried.split(", ")) <= 16
    assert "OutOfMemory (Requested size was" in build.facts["larger batches"]
    assert build.facts["cuda graphs"] == "one a batch size"
    assert again.report.startswith("cached plan")
    assert again.facts["tried batches"] == tried


def test_nothing_fits_no_workspace_at_all(world: World) -> None:
    """Two batches with CUDA graphs, one without; then the verdict, and it is kept."""
    model = save(
        world.folder / "conv.onnx",
        helper.make_node("Conv", ["number", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Softmax", ["c"], ["s"], axis=1),
        helper.make_node("TopK", ["s", "k"], ["output", "i"], axis=1),
        rest=(1, 64, 64),
        weights={"w": np.ones((8, 1, 3, 3), np.float32), "k": np.array([2])},
    )
    texts = []
    for _ in range(2):
        with pytest.raises(BuildFailed) as caught:
            world.build(model, batch=256, workspace_mib="1")
        texts.append(str(caught.value))

    assert texts[0].startswith("TensorRT built no plan: memory: ")
    assert "[tried batch 256: memory, 1: memory, 1: memory without CUDA gr" in texts[0]
    assert "raise workspace-mib" in texts[0]
    assert texts[1].startswith(texts[0])
    assert "failed earlier (delete" in texts[1]
    assert world.plans() == []


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (one("StringNormalizer"), "unsupported operator: .*operator: StringNormalizer"),
        (one("Frobnicate", domain="acme"), "missing plugin: .*operator: Frobnicate"),
    ],
)
def test_an_operator_that_tensorrt_lacks_is_named(
    world: World, node: onnx.NodeProto, said: str
) -> None:
    """ONNX's own is unsupported, somebody's misses its plugin; both are tried once."""
    model = save(world.folder / "bad.onnx", node)
    with pytest.raises(BuildFailed, match=said) as caught:
        build_as_is(world, model)

    assert "[tried batch 4: " in str(caught.value)


def build_as_is(world: World, model: ModelFile) -> None:
    """Build a graph that nothing but TensorRT shall look at."""
    from pytest_mlperf.engines.tensorrt import onnx_model

    request = world.request(model)
    # onnxruntime, which folds constants, would refuse such a graph first.
    made = onnx_model.model_path(
        request.workload, "fp32", None, request.cache / "tensorrt" / "models"
    )
    made.parent.mkdir(parents=True)
    made.write_bytes(model.path.read_bytes())
    TENSORRT.build(request)


def test_a_damaged_model_fails_with_a_remedy(world: World) -> None:
    """Before any builder is asked; nothing is kept, so that a repair is seen."""
    model = world.product()
    whole = model.path.read_bytes()
    model.path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BuildFailed, match="could not be written in fp32 for TensorRT"):
        world.build(model)

    model.path.write_bytes(whole)

    assert world.build(model).report.startswith("built")


def test_a_graph_of_one_batch_size_needs_no_profile(world: World) -> None:
    """Nothing varies in it; the engine fills smaller batches up."""
    model = save(world.folder / "free.onnx", one("Relu"))
    fixed = onnx.load(model.path)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 16
    onnx.save(fixed, model.path)

    assert world.build(model).facts["profiles"] == "0"


def test_an_axis_that_varies_for_no_known_reason_is_refused(world: World) -> None:
    """Only batch and length may; the axis is named."""
    model = save(world.folder / "free.onnx", one("Relu"), rest=(3, 8))
    free = onnx.load(model.path)
    free.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "width"
    onnx.save(free, model.path)
    with pytest.raises(BuildFailed, match="axis 2 of the input 'number' varies"):
        world.build(model)


def test_sequences_beyond_the_models_positions_are_an_impossible_profile(
    world: World,
) -> None:
    """Its embedding has 384 places; the shapes that clash are named."""
    workload = BERT.open_workload("embedded", None)

    class Longer:
        """The dataset, with one sample longer than the model's 384 positions."""

        def __getattr__(self, name: str) -> object:
            return getattr(workload.dataset, name)

        @property
        def lengths(self) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
            return np.array([12, 1000], np.int32)

    longer = replace(workload, dataset=Longer())  # type: ignore[arg-type]
    with pytest.raises(BuildFailed, match=r"impossible profile: .* != 384") as caught:
        world.build(longer, "fp32", 8)

    assert "tried batch 8: impossible profile]" in str(caught.value)


def test_what_stands_in_for_a_device_has_the_real_names() -> None:
    """Every method that the streams are tested with is one of TensorRT's."""
    trt = load_library().module
    pairs = ((FakeContext, trt.IExecutionContext), (FakeEngine, trt.ICudaEngine))
    own = {"engine", "profile", "shape", "addresses", "workspace"}
    own |= {"cuda", "profiles", "contexts"}
    absent = [
        f"{real.__name__}.{name}"
        for fake, real in pairs
        for name in (*vars(fake), *fake.__dataclass_fields__)
        if not name.startswith("_") and name not in own and not hasattr(real, name)
    ]

    assert absent == []
    assert trt.ExecutionContextAllocationStrategy.USER_MANAGED
    assert np.dtype(np.float16) == np.dtype(trt.nptype(trt.DataType.HALF))
    assert trt.TensorIOMode.INPUT != trt.TensorIOMode.OUTPUT
