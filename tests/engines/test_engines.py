"""The engines that ship: builds, cache, layouts and what they answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto
from onnx import helper
from onnx import numpy_helper

from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import ChoosesPrecision
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import KeepsSamplesOnDevice
from pytest_mlperf.api.engine import NeedsSettling
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.engine import TakesOptions
from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.embedding.options import OPTIONS
from pytest_mlperf.engines.cpu_layouts import MAX_STREAMS
from pytest_mlperf.engines.null import NULL
from pytest_mlperf.engines.onnxruntime import CPU
from pytest_mlperf.engines.onnxruntime import ONNXRUNTIME
from pytest_mlperf.engines.oracle import ORACLE
from pytest_mlperf.engines.tensorrt.provider import TENSORRT
from pytest_mlperf.engines.torch.provider import TORCH
from tests.support import doubles

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = np.arange(1, 17, dtype=np.float32).reshape(4, 4) / 8
WEIGHTS[1::2] *= -1  # CPUs without VNNI clip the sum of two large products in int8


def write_model(path: Path) -> ModelFile:
    """Write ``output = number @ WEIGHTS`` for any batch."""
    shape: list[str | int] = ["batch", 4]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["number", "weights"], ["output"], name="product")],
        "product",
        [helper.make_tensor_value_info("number", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(WEIGHTS, "weights")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    onnx.save(made, path)
    return ModelFile(path, ("number",), ("output",))


@dataclass(frozen=True)
class World:
    """A model on disk and a cache beside it."""

    folder: Path
    model: ModelFile

    def request(
        self,
        precision: str = "fp32",
        *,
        digest: str = "one",
        model: ModelFile | None = None,
        **options: str,
    ) -> BuildRequest:
        workload = doubles.Echo(doubles.numbers(), digest=digest)
        workload = replace(workload, model=model or self.model)
        return BuildRequest(workload, precision, self.folder / "cache", options)

    def built(self) -> list[Path]:
        """Return the models in the cache."""
        return sorted((self.folder / "cache").rglob("*.onnx"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, write_model(tmp_path / "product.onnx"))


@pytest.mark.parametrize("provider", [NULL, ONNXRUNTIME, doubles.ECHO])
def test_every_provider_offers_what_the_suite_asks_for(
    provider: EngineProvider,
) -> None:
    """Precisions, ascending batches, layouts that end with one stream, no excuse."""
    assert "fp32" in provider.precisions
    assert sorted(set(provider.batches)) == list(provider.batches)
    assert provider.batches[0] >= 1
    assert provider.layouts(2)[-1].count == 1
    assert provider.unavailable() is None


def test_optional_abilities_are_declared() -> None:
    """Mypy sees them, and so does the suite when it asks."""
    choosing: tuple[ChoosesPrecision, ...] = (TENSORRT, TORCH)
    placing: tuple[KeepsSamplesOnDevice, ...] = (TENSORRT, TORCH)
    settling: NeedsSettling = TORCH

    assert all(isinstance(provider, ChoosesPrecision) for provider in choosing)
    assert all(isinstance(provider, KeepsSamplesOnDevice) for provider in placing)
    assert settling.settle_s > 0
    for provider in (NULL, ONNXRUNTIME, ORACLE):
        assert not isinstance(provider, ChoosesPrecision | KeepsSamplesOnDevice)


@pytest.mark.parametrize("provider", [ONNXRUNTIME, TORCH])
def test_engines_of_recommenders_take_the_options_of_their_tables(
    provider: TakesOptions,
) -> None:
    """--mlperf-engine-options is checked before the first item."""
    assert OPTIONS.items() <= provider.options.items()
    provider.check_options({"gpucacheper": "0.05", "policy": "lru"})
    with pytest.raises(ValueError, match="policy=xyz, but should be one of lfu, lru"):
        provider.check_options({"policy": "xyz"})
    with pytest.raises(ValueError, match="gpucacheper"):
        provider.check_options({"gpucacheper": "2"})


def test_a_build_is_cached_by_content(world: World) -> None:
    """The second build of the same content finds the first, and says so."""
    first = ONNXRUNTIME.build(world.request())
    assert first.path is not None
    stamp = first.path.stat().st_mtime_ns
    second = ONNXRUNTIME.build(world.request())

    assert first.report.startswith(f"built {first.digest[:12]} in ")
    assert second.report == f"cached build {first.digest[:12]}"
    assert first.digest == second.digest
    assert first.path == second.path
    assert second.path.stat().st_mtime_ns == stamp
    assert world.built() == [first.path]
    sidecar = json.loads(first.path.with_suffix(".json").read_text())
    whose = {"title": "echo", "model": "product.onnx", "precision": "fp32"}
    assert whose.items() <= sidecar.items()
    assert sidecar["workload"] == "one"
    facts = {"provider": CPU, "onnxruntime": onnxruntime.__version__}
    assert first.facts == facts | {"why built": "none of this workload was there"}
    assert second.facts == facts
    assert (first.device, first.uses_gpu) == ("CPU", False)


def test_whatever_decides_an_answer_is_in_the_digest(world: World) -> None:
    """Precision, workload, kept nodes and provider each make a build of their own."""
    other = next(p for p in onnxruntime.get_available_providers() if p != CPU)
    requests = [
        world.request(),
        world.request("int8"),
        world.request(digest="another model or data"),
        world.request(model=replace(world.model, keep_fp32=("product",))),
        world.request(provider=other),
    ]
    builds = [ONNXRUNTIME.build(request) for request in requests]

    assert len({build.digest for build in builds}) == len(requests)
    assert len(world.built()) == len(requests)


@pytest.mark.parametrize("name", ["cpu", "CPU", "CPUExecutionProvider"])
def test_a_provider_has_a_short_name(world: World, name: str) -> None:
    """However it is spelled, it is the same build."""
    default = ONNXRUNTIME.build(world.request())
    named = ONNXRUNTIME.build(world.request(provider=name))

    assert default.digest == named.digest


def test_an_unknown_provider_is_missing_and_the_known_are_listed(world: World) -> None:
    """The text says what was asked, what is there and what to install."""
    with pytest.raises(RequirementMissing) as caught:
        ONNXRUNTIME.build(world.request(provider="tpu"))

    assert "no execution provider 'tpu'" in str(caught.value)
    assert ", ".join(onnxruntime.get_available_providers()) in str(caught.value)
    assert "install the onnxruntime package that carries it" in str(caught.value)
    assert world.built() == []


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_damaged_model_fails_with_a_remedy_and_leaves_nothing(
    world: World, precision: str
) -> None:
    """It names the file and what to try; once repaired, the same request builds."""
    whole = world.model.path.read_bytes()
    world.model.path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BuildFailed) as caught:
        ONNXRUNTIME.build(world.request(precision))

    assert f"could not build product.onnx in {precision}" in str(caught.value)
    assert ("try --mlperf-precision fp32" in str(caught.value)) == (precision == "int8")
    assert "the model file is damaged" in str(caught.value)
    assert world.built() == []

    world.model.path.write_bytes(whole)

    assert ONNXRUNTIME.build(world.request(precision)).report.startswith("built")


def test_a_model_that_is_not_there_is_not_called_damaged(world: World) -> None:
    """Nor is its precision to blame."""
    world.model.path.unlink()
    with pytest.raises(BuildFailed) as caught:
        ONNXRUNTIME.build(world.request("fp32"))

    assert f"the model file {world.model.path} is not there" in str(caught.value)
    assert "damaged" not in str(caught.value)


def test_calibration_data_that_is_missing_is_no_failed_build(world: World) -> None:
    """The workload says what is missing while it is read: the item will be skipped."""

    def calibration() -> Iterator[Batch]:
        for _ in WEIGHTS:
            raise RequirementMissing("calibration pictures not found; copy them")
        yield {}

    model = replace(world.model, calibration=calibration)
    with pytest.raises(RequirementMissing, match="calibration pictures not found"):
        ONNXRUNTIME.build(world.request("int8", model=model))


def test_a_build_that_was_killed_does_not_stand_in_the_way(world: World) -> None:
    """What it left half written is written over."""
    first = ONNXRUNTIME.build(world.request())
    assert first.path is not None
    first.path.rename(first.path.with_suffix(".making"))
    first.path.with_suffix(".making").write_bytes(b"half")
    again = ONNXRUNTIME.build(world.request())

    assert again.report.startswith("built")
    assert ONNXRUNTIME.open(again, 1).infer({"number": np.ones((1, 4), "f4")}, 1)


BUILD = """
import sys
from pathlib import Path
import tests.support.doubles as doubles
from dataclasses import replace
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.engines.onnxruntime import ONNXRUNTIME
from pytest_mlperf.engines.oracle import ORACLE
from pytest_mlperf.engines.tensorrt.provider import TENSORRT
from pytest_mlperf.engines.torch.provider import TORCH
from pytest_mlperf.api.workload import ModelFile

folder = Path(sys.argv[1])
workload = doubles.Echo(doubles.numbers(), digest="one")
model = ModelFile(folder / "product.onnx", ("number",), ("output",))
request = BuildRequest(replace(workload, model=model), "int8", folder / "cache", {})
import onnxruntime.quantization
print("ready", flush=True)
sys.stdin.readline()
print(ONNXRUNTIME.build(request).report, flush=True)
"""


def test_two_processes_that_build_at_once_end_with_one_build(world: World) -> None:
    """One makes it, the other waits and finds it; the file works."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", BUILD, str(world.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        for _ in range(2)
    ]
    ready = [process.stdout.readline() for process in both if process.stdout]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    reports = sorted(process.communicate(timeout=300)[0] for process in both)
    build = ONNXRUNTIME.build(world.request("int8"))
    outputs = ONNXRUNTIME.open(build, 1).infer({"number": np.ones((2, 4), "f4")}, 2)

    assert ready == ["ready\n", "ready\n"]
    assert [process.returncode for process in both] == [0, 0]
    assert reports[0].startswith("built ")
    assert reports[1] == f"cached build {build.digest[:12]}\n"
    assert world.built() == [build.path]
    assert outputs[0].shape == (2, 4)


@pytest.mark.parametrize(("precision", "within"), [("fp32", 1e-6), ("int8", 0.02)])
def test_answers_are_the_models(world: World, precision: str, within: float) -> None:
    """Any batch gives as many rows, equal to the product (int8: nearly)."""
    engine = ONNXRUNTIME.open(ONNXRUNTIME.build(world.request(precision)), 1)
    for size in (1, 3, 8):
        numbers = np.random.default_rng(size).random((size, 4), np.float32)
        (found,) = engine.infer({"number": numbers}, size)
        wanted = numbers @ WEIGHTS

        assert found.shape == (size, 4)
        assert np.abs(found - wanted).max() <= within * np.abs(wanted).max()
    engine.close()


@given(cpus=st.integers(1, 512))
def test_layouts_fit_the_cpus_and_end_with_the_one_for_latency(cpus: int) -> None:
    """No layout asks for more threads than there are CPUs; most streams come first."""
    layouts = ONNXRUNTIME.layouts(cpus)

    assert layouts[-1] == Streams(1, cpus)
    assert len(layouts) == len(set(layouts))
    assert all(1 <= s.count * s.threads <= cpus for s in layouts)
    assert layouts[0].count == min(cpus, MAX_STREAMS)
    assert all(s.count * (s.threads + 1) > cpus for s in layouts)
    assert NULL.layouts(cpus) == (Streams(1, 1),)


WITHOUT = """
import importlib.machinery, importlib.util, sys

Usual = importlib.machinery.PathFinder

class Without(Usual):
    '''Finds what the usual finder finds, but for some packages.'''
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            return None
        return Usual.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(Usual)] = Without
from pytest_mlperf.api import registry
print(registry.provider("onnxruntime").unavailable())
print(registry.provider("null").unavailable())
"""


@pytest.mark.parametrize(
    ("absent", "named"),
    [
        ("onnxruntime", "onnxruntime"),
        ("onnx", "onnx"),
        ("onnxruntime,onnx", "onnxruntime and onnx"),
    ],
)
def test_an_absent_package_is_named_with_its_remedy(absent: str, named: str) -> None:
    """The engine itself is found and imported without it; null needs nothing."""
    command = [sys.executable, "-c", WITHOUT, absent]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    remedy = "pip install 'pytest-mlperf[onnxruntime]'"

    assert done.stdout.splitlines() == [
        f"the engine onnxruntime needs {named}: {remedy}",
        "None",
    ]


@given(
    size=st.integers(1, 3000),
    blank=st.lists(st.integers(-9, 9), min_size=1, max_size=5),
)
def test_null_answers_keep_their_shape_and_size(size: int, blank: list[int]) -> None:
    """Every row is the blank answer; the same size gets the same array again."""

    class Blank(doubles.Echo):
        @property
        def blank(self) -> Array:
            return np.array(blank, np.int32)

    request = BuildRequest(Blank(doubles.numbers()), "fp32", Path("unused"))
    engine = NULL.open(NULL.build(request), 1)
    rows = engine.infer({}, size)

    assert rows.shape == (size, len(blank))
    assert rows.dtype == np.int32
    assert (rows == np.array(blank)).all()
    assert rows.flags.c_contiguous
    assert rows is engine.infer({}, size)
    engine.close()
    assert engine.infer({}, size).shape == (size, len(blank))


@given(parts=st.dictionaries(st.text(max_size=5), st.text(max_size=5), min_size=1))
def test_a_content_hash_is_of_names_and_values_not_of_their_order(
    parts: dict[str, str],
) -> None:
    """Turned round it is the same; any other value makes another."""
    turned = dict(reversed(parts.items()))
    name = next(iter(parts))

    assert content_hash(parts) == content_hash(turned)
    assert content_hash(parts) != content_hash({**parts, name: parts[name] + "x"})
    assert len(content_hash(json.loads(json.dumps(parts)))) == 64
