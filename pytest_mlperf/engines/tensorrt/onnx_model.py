"""ONNX files that TensorRT builds as they are: fp32, fp16, int8 and fp8 in the graph.

A strongly typed network computes in the types that its graph states, so precision is
decided here and nowhere else. It can be checked without a GPU: onnxruntime runs the
same files.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.api.workload import model_file
from pytest_mlperf.core.whole_file import is_whole
from pytest_mlperf.core.whole_file import note_content
from pytest_mlperf.engines.calibration import Calibration
from pytest_mlperf.engines.calibration import calibration_reader
from pytest_mlperf.engines.onnx_precision import convert_to_fp16
from pytest_mlperf.engines.onnx_precision import fold_constants

RECIPE = 1
"""Counts up when the files that are written here change."""
QUANTIZED = ("int8", "fp8")
INT8_MAX = 127.0
FP8_MAX = 448.0
"""Largest magnitudes of the two types; fp8 is E4M3."""
QUANTIZED_OPSET = 19
"""The first in which QuantizeLinear takes fp16 and gives fp8."""
OPERATORS = ["Conv", "Gemm", "MatMul", "Add"]
"""What is quantized: matrix products, and sums so that residuals stay in 8 bits."""


def model_path(
    workload: TensorWorkload,
    precision: str,
    calibration: Calibration | None,
    folder: Path,
) -> Path:
    """Return where a workload's graph in a precision is stored.

    The name is a hash of the workload, the calibration samples and what makes it.
    """
    model = model_file(workload, "tensorrt")
    parts = {
        "workload": workload.digest,
        "precision": precision,
        "calibration": calibration.digest if calibration else "",
        "keep_fp32": model.keep_fp32,
        "onnxruntime": version("onnxruntime"),
        "recipe": RECIPE,
    }
    return folder / f"{model.path.stem}-{precision}-{content_hash(parts)[:16]}.onnx"


def write_model(
    workload: TensorWorkload,
    precision: str,
    calibration: Calibration | None,
    folder: Path,
    beat: Callable[[], None] = lambda: None,
) -> Path:
    """Write the workload's graph in a precision, unless the cache has it."""
    model = model_file(workload, "tensorrt")
    path = model_path(workload, precision, calibration, folder)
    if is_whole(path):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".making")
    folded, quantized = path.with_suffix(".folded"), path.with_suffix(".quantized")
    try:
        fold_constants(model.path, folded)
        beat()
        source = folded
        if precision in QUANTIZED:
            _raise_opset(folded)
            _quantize(model, folded, quantized, precision, beat)
            source = quantized
        if precision == "fp32":
            folded.replace(scratch)
        else:
            convert_to_fp16(source, scratch)
        scratch.replace(path)
        note_content(path)
    finally:
        for leftover in (scratch, folded, quantized):
            leftover.unlink(missing_ok=True)
    return path


def _raise_opset(path: Path) -> None:
    import onnx
    from onnx import version_converter

    model = onnx.load(path)
    if any(o.domain in ("", "ai.onnx") and o.version < QUANTIZED_OPSET
           for o in model.opset_import):  # fmt: skip
        onnx.save(version_converter.convert_version(model, QUANTIZED_OPSET), path)


def _quantize(
    model: ModelFile,
    source: Path,
    target: Path,
    precision: str,
    beat: Callable[[], None],
) -> None:
    """Write the graph with explicit Q/DQ pairs, scaled by the calibration samples.

    TensorRT takes symmetric scales only: int8 with a zero point of 0, weights per
    channel in int8, per tensor in fp8; no quantized bias.
    """
    from onnxruntime import quantization as q

    assert model.calibration is not None, "read_calibration refuses such a model"
    q.quantize_static(
        source,
        target,
        calibration_reader(model.calibration(), beat),
        quant_format=q.QuantFormat.QDQ,
        op_types_to_quantize=OPERATORS,
        per_channel=precision == "int8",
        activation_type=q.QuantType.QInt8,
        weight_type=q.QuantType.QInt8,
        calibrate_method=q.CalibrationMethod.MinMax,
        nodes_to_exclude=list(model.keep_fp32),
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            # Only what a product reads: quantising what it writes as well tripled the
            # error of the embedded network and gained no speed.
            "OpTypesToExcludeOutputQuantization": OPERATORS,
        },
    )
    if precision == "fp8":
        _to_fp8(source, target)


def _to_fp8(source: Path, quantized: Path) -> None:
    """Turn int8 Q/DQ pairs to fp8: smaller scales, and weights from the originals.

    The ranges are the same, but fp8 reaches its largest magnitude at 448, not at 127.
    """
    import ml_dtypes
    import numpy as np
    import onnx
    from onnx import numpy_helper

    model = onnx.load(quantized)
    originals = {t.name: t for t in onnx.load(source).graph.initializer}
    graph = model.graph
    tensors = {t.name: t for t in graph.initializer}
    pairs = [
        n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")
    ]
    scales = {node.input[1] for node in pairs}
    for name in scales:
        values = numpy_helper.to_array(tensors[name])
        scaled = np.asarray(values * (INT8_MAX / FP8_MAX), np.float32)
        tensors[name].CopyFrom(numpy_helper.from_array(scaled, name))
    for name in {node.input[2] for node in pairs}:
        shape = tuple(tensors[name].dims)
        zero = np.zeros(shape, ml_dtypes.float8_e4m3fn)
        tensors[name].CopyFrom(numpy_helper.from_array(zero, name))
    for node in pairs:
        weight = tensors.get(node.input[0])
        if weight is None or node.op_type != "DequantizeLinear":
            continue
        # The quantizer adds this suffix to the name of the original.
        original = originals[weight.name.removesuffix("_quantized")]
        scale = numpy_helper.to_array(tensors[node.input[1]])
        values = (numpy_helper.to_array(original) / scale).clip(-FP8_MAX, FP8_MAX)
        low = values.astype(ml_dtypes.float8_e4m3fn)
        weight.CopyFrom(numpy_helper.from_array(low, weight.name))
    del graph.value_info[:]  # they state int8
    onnx.save(model, quantized)
