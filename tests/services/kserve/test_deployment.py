"""Options of a deployment by Triton's names, and config.pbtxt as people read it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_mlperf.core.types import Scenario
from pytest_mlperf.machine.system_file import load_system_file
from pytest_mlperf.services.kserve.deployment import OPTIONS
from pytest_mlperf.services.kserve.deployment import Deployment
from pytest_mlperf.services.kserve.deployment import read_deployment
from pytest_mlperf.services.kserve.model_config import TensorSpec
from pytest_mlperf.services.kserve.model_config import format_config
from pytest_mlperf.services.kserve.profile_shapes import choose_shapes
from pytest_mlperf.services.kserve.profile_shapes import list_lengths

TOKENS = [TensorSpec("input_ids", "INT64", (-1,))]
LOGITS = [TensorSpec("logits", "FP32", (2, 10))]
PYTHON = """\
name: "m"
backend: "python"
default_model_filename: "model.py"
max_batch_size: 16
input [
  { name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ] allow_ragged_batch: true }
]
output [
  { name: "logits" data_type: TYPE_FP32 dims: [ 2, 10 ] }
]
instance_group [ { count: 2 kind: KIND_CPU } ]
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 100
}
response_cache { enable: false }
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
"""


def test_the_variables_of_nvidias_scripts_are_understood() -> None:
    """What is given wins over them."""
    environ = {
        "FORMAT": "ts-trace", "EXPORT_FORMAT": "onnx", "EXPORT_PRECISION": "fp16",
        "MAX_SEQ_LENGTH": "384", "MAX_BATCH_SIZE": "32",
        "TRITON_PREFERRED_BATCH_SIZES": "16 8",
        "TRITON_MAX_QUEUE_DELAY": "1", "TRITON_GPU_ENGINE_COUNT": "2",
        "ACCELERATOR": "trt", "ACCELERATOR_PRECISION": "fp16",
        "CAPTURE_CUDA_GRAPH": "0",
    }  # fmt: skip
    made = read_deployment({"max_queue_delay_microseconds": "5"}, environ)

    assert made == Deployment(
        format="ts-trace", export_format="onnx", export_precision="fp16",
        max_seq_length=384,
        max_batch_size=32, preferred_batch_size=(8, 16),
        max_queue_delay_microseconds=5, instance_group_count=2, accelerator="trt",
        accelerator_precision="fp16",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "environ", "problem"),
    [
        ({"max_batchsize": "8"}, {}, "Did you mean 'max_batch_size'"),
        ({"max_batch_size": "0"}, {}, "max_batch_size=0, but should be a whole number"),
        ({"preferred_batch_size": "4+x"}, {}, "preferred_batch_size=4.x, but should"),
        ({"preferred_batch_size": "32"}, {}, r"at most max_batch_size \(16\)"),
        ({}, {"ACCELERATOR": "xla"}, "ACCELERATOR=xla, but should be one of none, trt"),
        ({}, {"EXPORT_FORMAT": "ts-script"}, "should be onnx: the benchmarks' models"),
        ({}, {"CAPTURE_CUDA_GRAPH": "on"}, "should be 0 or 1"),
        ({"max_shapes": "16by384"}, {}, "max_shapes=16by384, but should be a shape"),
        ({"max_shapes": "16x384"}, {}, "is of TensorRT, but the backend is python"),
        ({"onnx_opset": "17", "format": "ts-trace"}, {}, "of ONNX files, but the for"),
        ({"capture_cuda_graph": "1"}, {}, "has format=onnx and KIND_AUTO: it captures"),
        (
            {"format": "ts-trace", "instance_group_kind": "KIND_CPU"},
            {"CAPTURE_CUDA_GRAPH": "1"},
            "has format=ts-trace and KIND_CPU: it captures TorchScript on a GPU",
        ),
    ],
)
def test_a_wrong_option_says_what_is_legal(
    given: dict[str, str], environ: dict[str, str], problem: str
) -> None:
    """Name, value, and what it should be."""
    with pytest.raises(ValueError, match=problem):
        read_deployment(given, environ)


VALUES: dict[str, tuple[Any, Any]] = {
    "format": ("trt", "trt"),
    "export_format": ("onnx", "onnx"),
    "export_precision": ("fp16", "fp16"),
    "max_seq_length": (384, 384),
    "backend": ("tensorrt", "tensorrt"),
    "max_batch_size": (32, 32),
    "preferred_batch_size": ([4, 8], (4, 8)),
    "max_queue_delay_microseconds": (100, 100),
    "instance_group_count": (2, 2),
    "instance_group_kind": ("KIND_GPU", "KIND_GPU"),
    "intra_op_thread_count": (4, 4),
    "accelerator": ("trt", "trt"),
    "accelerator_precision": ("fp32", "fp32"),
    "max_workspace_size_bytes": (1 << 30, 1 << 30),
    "min_shapes": ("1x64", {"": (1, 64)}),
    "opt_shapes": ("a=16,384+b=8,64", {"a": (16, 384), "b": (8, 64)}),
    "max_shapes": ("a:0:32x384", {"a:0": (32, 384)}),
    "capture_cuda_graph": (True, True),
    "response_cache": (True, True),
    "model_warmup": (True, True),
    "gpucacheper": (0.5, 0.5),
    "hit_rate_threshold": (0.25, 0.25),
}
"""Option -> its value in a system file, and what it means."""


def test_every_option_is_a_key_of_a_system_file(tmp_path: Path) -> None:
    """And none has the value that it has without one."""
    heading = "[tuning.bert.engine.triton.options]"
    lines = [f"{name} = {json.dumps(value)}" for name, (value, _) in VALUES.items()]
    path = tmp_path / "machine.toml"
    path.write_text("\n".join([heading, *lines]))
    tuning = load_system_file(path).tuning
    given = tuning.options("bert", "99", Scenario.OFFLINE, "triton")
    made = read_deployment(given, {})

    assert {*VALUES, "onnx_opset"} == {*OPTIONS}
    assert {name: getattr(made, name) for name in VALUES} == {
        name: meant for name, (_, meant) in VALUES.items()
    }
    assert not [n for n in VALUES if getattr(made, n) == getattr(Deployment(), n)]
    assert read_deployment({"onnx_opset": "17"}, {}).onnx_opset == 17


TWO = [*TOKENS, TensorSpec("pictures", "FP32", (3, -1, 8))]


def test_a_profile_goes_from_one_sample_to_the_largest_batch() -> None:
    """At its best there; what is asked for takes the place of both."""
    made = read_deployment(
        {"backend": "tensorrt", "max_batch_size": "4", "min_shapes": "input_ids:1x64"},
        {},
    )
    shapes = choose_shapes(made, TWO, 384)
    fixed = choose_shapes(replace(made, min_shapes=None, max_seq_length=128), TWO, 384)

    assert shapes.min_shapes == {"input_ids": (1, 64), "pictures": (1, 3, 1, 8)}
    assert shapes.max_shapes == {"input_ids": (4, 384), "pictures": (4, 3, 384, 8)}
    assert shapes.opt_shapes == shapes.max_shapes
    assert (fixed.min_shapes["input_ids"], fixed.max_shapes["input_ids"]) == (
        (1, 128), (4, 128),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"min_shapes": "ids:1x1"}, "of 'ids', but the inputs are input_ids, pictures"),
        ({"min_shapes": "1x64"}, "of pictures is 1x64, but should be BATCHx3xNx8"),
        ({"max_shapes": "input_ids:8x384"}, r"should have at least max_batch_size"),
        ({"opt_shapes": "input_ids:16x400"}, "1x1, 16x400, 16x384, but should not"),
    ],
)
def test_shapes_that_the_model_does_not_have_are_refused(
    given: dict[str, str], problem: str
) -> None:
    """With what it has."""
    made = read_deployment({"backend": "tensorrt", **given}, {})

    with pytest.raises(ValueError, match=problem):
        choose_shapes(made, TWO, 384)


def test_the_configuration_of_the_python_backend() -> None:
    """Sequences of several lengths make one batch."""
    made = Deployment(
        preferred_batch_size=(4, 8), max_queue_delay_microseconds=100,
        instance_group_count=2, instance_group_kind="KIND_CPU",
    )  # fmt: skip

    assert format_config("m", made, TOKENS, LOGITS) == PYTHON


STAYS = (
    'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "no" } }\n'
)
GRAPHS = """optimization { cuda {
  graphs: true
  graph_spec [
    { batch_size: 1
      input { key: "input_ids" value { dim: [ 64 ] } }
      input { key: "mask" value { dim: [ 64 ] } }
    },
    { batch_size: 2
      input { key: "input_ids" value { dim: [ 64 ] } }
      input { key: "mask" value { dim: [ 64 ] } }
    },
    { batch_size: 8
      input { key: "input_ids" value { dim: [ 64 ] } }
      input { key: "mask" value { dim: [ 64 ] } }
    }
  ]
} }
"""


def test_graphs_of_the_python_backend_have_the_batches_that_are_named() -> None:
    """Preferred ones, the largest, one, and those of tables that are not larger."""
    made = Deployment(
        format="ts-trace", instance_group_kind="KIND_GPU", capture_cuda_graph=True,
        max_batch_size=8, preferred_batch_size=(2,), batch_size=(8, 16),
    )  # fmt: skip
    inputs = [*TOKENS, replace(TOKENS[0], name="mask")]
    text = format_config("m", made, inputs, LOGITS, list_lengths(np.full(9, 64)))
    fixed = replace(made, max_seq_length=32)
    of_one_length = format_config("m", fixed, inputs, LOGITS, [64, 65])

    assert GRAPHS in text
    assert STAYS in text
    assert of_one_length.count("dim: [ 32 ]") == 6
    assert of_one_length.count("{ batch_size:") == 3


def test_of_many_lengths_only_the_longest_has_graphs() -> None:
    """A graph is memory; samples without a length have one."""
    assert list_lengths(np.array([5, 3, 5, 9])) == [3, 5, 9]
    assert list_lengths(np.arange(1, 100)) == [99]
    assert list_lengths(None) == [1]


@pytest.mark.parametrize(
    ("changes", "has", "lacks"),
    [
        ({"backend": "onnxruntime"}, 'backend: "onnxruntime"', "allow_ragged_batch"),
        (
            {"backend": "onnxruntime", "accelerator": "trt"},
            'parameters { key: "precision_mode" value: "FP16" }',
            "model.py",
        ),
        (
            {"backend": "tensorrt", "capture_cuda_graph": True},
            "optimization { cuda { graphs: true } }",
            "intra_op_thread_count",
        ),
        (
            {
                "backend": "onnxruntime",
                "accelerator": "trt",
                "max_shapes": {"a": (16, 384), "b": (16, 384)},
                "max_workspace_size_bytes": 1 << 30,
            },
            'key: "trt_profile_max_shapes" value: "a:16x384,b:16x384" }',
            "trt_profile_min_shapes",
        ),
        ({"max_seq_length": 384}, "TYPE_INT64 dims: [ 384 ] }", "-1"),
        ({"model_warmup": True}, "dims: [ 1 ] zero_data: true", "optimization"),
    ],
)
def test_the_configuration_of_a_stock_server(
    changes: dict[str, Any], has: str, lacks: str
) -> None:
    """Its backends, its accelerator, and a warm-up."""
    text = format_config("m", Deployment(**changes), TOKENS, LOGITS)

    assert has in text
    assert lacks not in text
