"""Options of a deployment by Triton's names, and config.pbtxt as people read it."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_mlperf.services.kserve.deployment import Deployment
from pytest_mlperf.services.kserve.deployment import TensorSpec
from pytest_mlperf.services.kserve.deployment import format_config
from pytest_mlperf.services.kserve.deployment import read_deployment

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
    ],
)
def test_a_wrong_option_says_what_is_legal(
    given: dict[str, str], environ: dict[str, str], problem: str
) -> None:
    """Name, value, and what it should be."""
    with pytest.raises(ValueError, match=problem):
        read_deployment(given, environ)


def test_the_configuration_of_the_python_backend() -> None:
    """Sequences of several lengths make one batch."""
    made = Deployment(
        preferred_batch_size=(4, 8), max_queue_delay_microseconds=100,
        instance_group_count=2, instance_group_kind="KIND_CPU",
    )  # fmt: skip

    assert format_config("m", made, TOKENS, LOGITS) == PYTHON


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
