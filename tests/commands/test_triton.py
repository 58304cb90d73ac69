"""``pytest-mlperf triton export`` writes what a stock server reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from pytest_mlperf.benchmarks.files import EMBEDDED
from pytest_mlperf.commands.main import main
from pytest_mlperf.engines.tensorrt.library import find_library


def test_a_model_repository_is_written_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fp32 model is the source's file; the configuration has the options."""
    options = (
        "accelerator=trt,preferred_batch_size=4+8,max_queue_delay_microseconds=1,"
        "opt_shapes=8x3x224x224"
    )
    code = main(
        ["triton", "export", "resnet50", "--to", str(tmp_path), "--options", options]
    )
    folder = tmp_path / "resnet50"
    config = (folder / "config.pbtxt").read_text()
    text = capsys.readouterr().out

    assert code == 0
    source = EMBEDDED / "resnet50" / "efficientnet_lite0.onnx"
    assert (folder / "1/model.onnx").read_bytes() == source.read_bytes()
    assert 'backend: "onnxruntime"' in config
    assert "dims: [ 3, 224, 224 ]" in config
    assert "preferred_batch_size: [ 4, 8 ]" in config
    assert 'name : "tensorrt"' in config
    assert 'opt_shapes" value: "input:8x3x224x224" }' in config
    assert 'max_shapes" value: "input:16x3x224x224" }' in config
    assert not (folder / "1/model.py").exists()
    assert str(folder / "config.pbtxt") in text
    assert "logits: differs by at most 0.00%" in text


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            ["bert", "--format", "savedmodel"],
            "should be one of onnx, trt, ts-trace, ts-script",
        ),
        (["bert", "--options", "max_batch=4"], "Did you mean 'max_batch_size'"),
        (["llama3.1-8b"], "takes prompts"),
        (["brett"], "Did you mean 'bert'"),
        (["bert", "--fused_embedding"], "bert has no embedding tables; leave them"),
        (["dlrm", "--sparse-format", "tf-savedmodel"], "should be hps"),
        (["dlrm", "--hps_gpucacheper", "2"], "gpucacheper=2, but should be a number"),
        (["resnet50", "--precision", "fp7"], "should be one of fp32, fp16, int8"),
        (["resnet50", "--onnx-opset", "99"], "onnx_opset=99, but the onnx package"),
        (["bert", "--max-shapes", "ids=16,384"], "is of TensorRT, but the backend is"),
    ],
)
def test_what_cannot_be_written_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    """In one line, with the exit status of a refusal."""
    code = main(["triton", "export", "--to", str(tmp_path), *words])

    assert code == 2
    assert problem in capsys.readouterr().err


def test_a_recommender_is_an_ensemble_by_the_words_of_nvidias_deployment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sparse, dense and both in a row; the cache's share is in sparse.json."""
    code = main(
        ["triton", "export", "dlrm-v2", "--model-repository-path", str(tmp_path),
         "--hps_gpucacheper", "0.25", "--fused_embedding", "--model-precision", "fp16",
         "--dense-format", "onnx", "--sparse-format", "hps", "--onnx-opset", "18"]
    )  # fmt: skip
    ensemble = (tmp_path / "dlrm-v2/config.pbtxt").read_text()
    sparse = (tmp_path / "sparse/config.pbtxt").read_text()
    dense = (tmp_path / "dense/config.pbtxt").read_text()
    (store,) = json.loads((tmp_path / "sparse/1/sparse.json").read_text())["models"]

    assert (code, capsys.readouterr().err) == (0, "")
    assert 'platform: "ensemble"' in ensemble
    assert ensemble.count("model_name") == 2
    for config in (ensemble, sparse, dense):
        assert "max_batch_size: 65536" in config
    assert 'backend: "python"' in sparse
    assert 'backend: "onnxruntime"' in dense
    assert "dims: [ 1 ] reshape: { shape: [ ] }" in dense
    assert "reshape" not in ensemble
    assert store["gpucacheper"] == 0.25
    assert sum(store["vocabulary_size_per_table"]) == 8228
    assert store["maxnum_catfeature_query_per_table_per_sample"].count(3) == 2
    graph = onnx.load(str(tmp_path / "dense/1/model.onnx"))
    assert [one.version for one in graph.opset_import] == [18]
    rows = np.load(tmp_path / "sparse/1/tables.npy")
    assert rows.shape == (8228, store["embedding_vecsize_per_table"][0])


@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.parametrize("kind", ["ts-trace", "ts-script"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_torchscript_computes_what_its_source_computes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: str, kind: str
) -> None:
    """For lengths and batches other than a traced one; the file runs alone."""
    torch = pytest.importorskip("torch")
    code = main(
        ["triton", "export", "bert", "--format", kind, "--to", str(tmp_path),
         "--precision", precision]
    )  # fmt: skip
    said = capsys.readouterr()
    assert (code, said.err) == (0, "")
    config = (tmp_path / "bert/config.pbtxt").read_text()
    module = torch.jit.load(str(tmp_path / "bert/1/model.pt"))
    names = ("input_ids", "attention_mask", "token_type_ids")
    found = module(**{name: torch.ones(3, 50, dtype=torch.int64) for name in names})

    assert [tuple(one.shape) for one in found] == [(3, 50), (3, 50)]
    assert {one.dtype for one in found} == {torch.float32}
    assert "start_logits: differs by at most" in said.out
    assert 'platform: "pytorch_libtorch"' in config
    assert 'default_model_filename: "model.pt"' in config
    assert '"end_logits__1" data_type: TYPE_FP32' in config
    assert "kind: KIND_CPU" in config
    assert 'key: "INTRA_OP_THREAD_COUNT"' in config


def test_a_plan_is_built_where_tensorrt_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The configuration names backend and file; elsewhere the remedy is said."""
    words = ["triton", "export", "resnet50", "--format", "trt", "--to", str(tmp_path)]
    words += ["--max-shapes", "input=8,3,224,224"]
    code = main([*words, "--options", "max_batch_size=4,capture_cuda_graph=1"])
    said = capsys.readouterr()
    if find_library() is None:
        assert code == 2
        assert "pip install" in said.err
        return
    config = (tmp_path / "resnet50" / "config.pbtxt").read_text()

    assert code == 0
    assert (tmp_path / "resnet50/1/model.plan").stat().st_size > 1 << 20
    assert not (tmp_path / "resnet50/1/model.onnx").exists()
    assert 'backend: "tensorrt"' in config
    assert 'default_model_filename: "model.plan"' in config
    assert "cuda { graphs: true }" in config
    assert "input:1x3x224x224 to input:8x3x224x224" in said.out
    assert "not compared with its source" in said.out
