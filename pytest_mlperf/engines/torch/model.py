"""Puts a workload's model on the device: packed where it is a BERT, else padded."""

from __future__ import annotations

import os
from typing import Any

from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.whisper_model import HasWhisperModel
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.api.workload import model_file
from pytest_mlperf.engines.torch import cuda_source
from pytest_mlperf.engines.torch import fuse
from pytest_mlperf.engines.torch import padded
from pytest_mlperf.engines.torch import verify
from pytest_mlperf.engines.torch.bert import recognize
from pytest_mlperf.engines.torch.bert import stream
from pytest_mlperf.engines.torch.bert.encoder import BertEncoder
from pytest_mlperf.engines.torch.bert.encoder import BertWeights
from pytest_mlperf.engines.torch.conv import fp8
from pytest_mlperf.engines.torch.conv import joined
from pytest_mlperf.engines.torch.conv import stem
from pytest_mlperf.engines.torch.conv import tail
from pytest_mlperf.engines.torch.host_fetch import find_copier
from pytest_mlperf.engines.torch.kernel_options import find_kernel
from pytest_mlperf.engines.torch.kernel_options import read_kernels
from pytest_mlperf.engines.torch.onnx_graph import OnnxGraph
from pytest_mlperf.engines.torch.onnx_graph import Program
from pytest_mlperf.engines.torch.onnx_graph import read_graph
from pytest_mlperf.engines.torch.recommender.load import load_recommender
from pytest_mlperf.engines.torch.recommender.stream import RecommenderModel
from pytest_mlperf.engines.torch.volumes import instance_norm
from pytest_mlperf.engines.torch.whisper.load import load_whisper
from pytest_mlperf.engines.torch.whisper.stream import LoadedWhisper

LoadedModel = stream.PackedModel | padded.PaddedModel | RecommenderModel | LoadedWhisper


def load_model(request: BuildRequest) -> LoadedModel:
    """Read the graph, put the model on the device and compare it with fp32."""
    import torch

    # Set here, whatever the environment says: fp32 must not become TF32.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    # Triton 3.10 will not fuse multiplications with additions unless it is told to.
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    device, precision = torch.device("cuda"), request.precision
    workload = request.workload
    if isinstance(workload, HasWhisperModel) and workload.whisper is not None:
        return load_whisper(request, workload.whisper)
    model = model_file(request.workload, "torch", has_lookup=True)
    graph = read_graph(model.path, model.inputs, model.outputs)
    if model.embedding is not None:
        return load_recommender(request, model.embedding, graph)
    samples = verify.gather_samples(request.workload)
    program = Program(graph, device, torch.float32)
    reference = verify.run_reference(program, samples)
    # Timing every algorithm takes half a minute in fp32, which nobody measures.
    torch.backends.cudnn.benchmark = precision != "fp32"
    facts: dict[str, str] = {}
    if precision != "fp32":
        weights = recognize.find_bert(graph)
        names = recognize.find_inputs(model.inputs)
        if weights is not None and names is not None:
            return _load_encoder(weights, names, request, samples, reference)
        program, facts = _load_program(graph, model, request)
    fixed = not model.dynamic_length
    copier = find_copier() if fixed else None
    if copier is not None:
        facts["samples fetched by"] = copier.name
    loaded = padded.PaddedModel(program, fixed, facts=facts)
    verify.check_on_device(padded.tensors_of(loaded))
    max_error = verify.MAX_ERROR_PICTURES
    candidates = [model.outputs.index(name) for name in model.candidates]
    verify.check_agreement(loaded, samples, reference, precision, max_error, candidates)
    loaded.facts["path"] = "padded graph"
    return loaded


def _load_encoder(
    weights: BertWeights,
    names: tuple[str, str, str],
    request: BuildRequest,
    samples: Batch,
    reference: list[Array],
) -> stream.PackedModel:
    import torch

    precision = request.precision
    dtype = _choose_dtype(precision)
    encoder = BertEncoder(weights, dtype, False, torch.device("cuda"))
    kernels = read_kernels(request.options)
    encoder.fp8_attention = kernels.attention == "fp8"
    encoder.attention_kernel = kernels.attention_kernel
    encoder.norm_kernel = kernels.norm_kernel
    model = stream.PackedModel(encoder, names)
    if precision == "fp8":
        model.calibrate()
        model.facts["attention reads"] = kernels.attention
    verify.check_on_device(stream.tensors_of(model))
    verify.check_agreement(model, samples, reference, precision)
    model.facts["path"] = "packed encoder"
    return model


def _load_program(
    graph: OnnxGraph, model: ModelFile, request: BuildRequest
) -> tuple[Program, dict[str, str]]:
    """Return the graph in a precision below fp32, and facts about it."""
    import torch

    device, precision = torch.device("cuda"), request.precision
    facts: dict[str, str] = {}
    graph = instance_norm.fuse_norms(fuse.fuse_convolutions(graph))
    operators = fuse.FusedOperators().table()
    if precision == "fp8":
        if model.calibration is None:
            raise BuildFailed(
                f"{model.path.name} is no encoder that the engine torch knows, and "
                "its workload has no calibration samples, which fp8 needs: use "
                "--mlperf-precision fp16"
            )
        graph, count = fp8.calibrate(graph, device, model.calibration(), operators)
        facts["calibration"] = f"{count} samples that are in no evaluation"
        operators |= fp8.make_operators() | tail.make_operators()
        missing = cuda_source.find_missing()
        choice = find_kernel(request.options, "stem", missing)
        operators |= stem.make_operators(choice)
        if any(node.kind == "Int8StemPool" for node in graph.nodes):
            choice.note(facts, "first convolution by")
        choice = find_kernel(request.options, "blocks", joined.find_missing())
        whole = joined.join(graph)
        if joined.has_joined(whole):
            choice.note(facts, "narrow blocks by")
        if choice.is_cuda:
            graph = whole
            operators |= joined.make_operators(operators, choice)
    return Program(graph, device, _choose_dtype(precision), operators), facts


def _choose_dtype(precision: str) -> Any:
    """Return what everything but the fp8 products is computed in."""
    import torch

    return torch.bfloat16 if precision == "bf16" else torch.float16
