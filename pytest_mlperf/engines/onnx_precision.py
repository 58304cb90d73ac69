"""An ONNX model in another precision, by onnxruntime's own tools."""

from __future__ import annotations

import shutil
from pathlib import Path

from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.engines.calibration import calibration_reader


def quantize_model(model: ModelFile, target: Path) -> None:
    """Write the int8 model, with static scales if there are calibration samples."""
    from onnxruntime import quantization as q

    keep_fp32 = list(model.keep_fp32)
    folded = target.with_suffix(".folded")
    try:
        # The quantizer sees only initializers that feed an operator directly.
        fold_constants(model.path, folded)
        # No static scale fits the activations of a workload without calibration
        # samples (transformers: F1 4 instead of 89 %): scales are found at run time.
        if model.calibration is None:
            q.quantize_dynamic(
                folded,
                target,
                op_types_to_quantize=["MatMul"],
                per_channel=True,
                weight_type=q.QuantType.QInt8,
                nodes_to_exclude=keep_fp32,
            )
            return
        q.quantize_static(
            folded,
            target,
            calibration_reader(model.calibration()),
            quant_format=q.QuantFormat.QDQ,
            per_channel=True,
            activation_type=q.QuantType.QUInt8,
            weight_type=q.QuantType.QInt8,
            calibrate_method=q.CalibrationMethod.MinMax,
            nodes_to_exclude=keep_fp32,
            # 7 bits: CPUs without VNNI add pairs of products in 16 bits.
            reduce_range=True,
        )
    finally:
        folded.unlink(missing_ok=True)


def fold_constants(source: Path, target: Path) -> None:
    """Compute what is constant: weights that are stored in fp16 become plain fp32."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    whole = target.with_suffix(".one-file")
    try:
        if has_weights_beside(source):
            # The tool writes the graph elsewhere, and looks for the weights there.
            copy_model(source, whole)
            source = whole
        quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
    finally:
        whole.unlink(missing_ok=True)


def convert_to_fp16(source: Path, target: Path) -> None:
    """Write a model with half-precision weights; its inputs and outputs stay."""
    import onnx
    from onnxruntime.transformers import float16

    converted = float16.convert_float_to_float16(
        onnx.load(str(source)), keep_io_types=True
    )
    onnx.save(converted, str(target))


def has_weights_beside(path: Path) -> bool:
    """Return whether an ONNX file has weights in files of their own."""
    import onnx
    from onnx.external_data_helper import uses_external_data

    graph = onnx.load(str(path), load_external_data=False).graph
    return any(uses_external_data(tensor) for tensor in graph.initializer)


def copy_model(source: Path, target: Path) -> None:
    """Copy a model into one file, with the weights beside it: 2 GB at most."""
    import onnx

    if has_weights_beside(source):
        onnx.save(onnx.load(str(source)), str(target))
    else:
        shutil.copyfile(source, target)
