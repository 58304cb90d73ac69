"""``pytest-mlperf triton export``: a benchmark's model as a Triton model repository."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pytest_mlperf.api import registry
from pytest_mlperf.api.embedded_server import ExportsModels
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.commands.shared.arguments import add_workload_arguments
from pytest_mlperf.commands.shared.arguments import name_own_options
from pytest_mlperf.config.option_types import parse_pairs
from pytest_mlperf.config.shape_options import KINDS as SHAPES
from pytest_mlperf.core.errors import RunRefused

HELP = "write a benchmark's model as a Triton model repository"
WRITTEN, REFUSED = 0, 2
FORMATS: dict[str, dict[str, str]] = {
    "onnx": {"format": "onnx"},
    "trt": {"backend": "tensorrt", "format": "trt"},
    "ts-trace": {"backend": "pytorch", "format": "ts-trace"},
    "ts-script": {"backend": "pytorch", "format": "ts-script"},
}
"""NVIDIA's name of a format -> the options that it means."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    export = actions.add_parser("export", help=HELP, description=HELP)
    export.add_argument("benchmark", metavar="BENCHMARK", help="such as bert, resnet50")
    export.add_argument(
        "--to", "--model-repository-path", type=Path, required=True, metavar="DIR",
        help="the model repository",
    )  # fmt: skip
    export.add_argument(
        "--format", "--dense-format", metavar="NAME",
        default=os.environ.get("FORMAT") or "onnx",
        help="onnx (default), trt, a TensorRT plan for this machine's GPU, or ts-trace "
        "or ts-script, TorchScript; of a recommender the dense model's. FORMAT in the "
        "environment counts too",
    )  # fmt: skip
    export.add_argument(
        "--precision", "--model-precision", metavar="NAME",
        default=os.environ.get("PRECISION") or "fp32",
        help="fp32 (default; PRECISION in the environment counts too), fp16 or int8",
    )  # fmt: skip
    export.add_argument(
        "--sparse-format", default="hps", metavar="NAME",
        help="of a recommender's tables: hps (default), this package's embedding store"
        " with the parameters of NVIDIA's HPS",
    )  # fmt: skip
    export.add_argument(
        "--hps_gpucacheper", metavar="SHARE",
        help="of the rows that the store caches, such as 0.1 (default); the same as "
        "--options gpucacheper=SHARE",
    )  # fmt: skip
    export.add_argument(
        "--fused_embedding", action="store_true",
        help="understood; a recommender's tables are always one lookup and one cache",
    )  # fmt: skip
    export.add_argument(
        "--name", metavar="NAME", help="of the model (default: the benchmark's)"
    )
    export.add_argument(
        "--options", default="", metavar="NAME=VALUE,...",
        help="of the deployment, by Triton's names: backend=python, max_batch_size=16, "
        "preferred_batch_size=4+8, max_queue_delay_microseconds=100 …",
    )  # fmt: skip
    export.add_argument(
        "--onnx-opset", metavar="N",
        help="the same as --options onnx_opset=N: to which the ONNX file is converted",
    )  # fmt: skip
    for kind in SHAPES:
        export.add_argument(
            f"--{kind.replace('_', '-')}", nargs="+", metavar="INPUT=SIZES",
            help=f"the same as --options {kind}: that TensorRT builds for, with the "
            "batch: ids=16,384",
        )  # fmt: skip
    add_workload_arguments(export)


def run(arguments: argparse.Namespace) -> int:
    """Export the model and print its files; return the exit code."""
    try:
        sys.stdout.write("\n".join(export(arguments)) + "\n")
    except (BuildFailed, RequirementMissing, RunRefused, ValueError) as error:
        sys.stderr.write(f"pytest-mlperf triton export: {name_own_options(error)}\n")
        return REFUSED
    return WRITTEN


def export(arguments: argparse.Namespace) -> list[str]:
    """Return the lines that tell what was written."""
    if arguments.format not in FORMATS:
        raise ValueError(
            f"--format {arguments.format}, but should be one of {', '.join(FORMATS)}"
        )
    if arguments.sparse_format != "hps":
        raise ValueError(
            f"--sparse-format {arguments.sparse_format}, but should be hps: no "
            "TensorFlow model is written"
        )
    pairs = dict(parse_pairs(arguments.options) if arguments.options else ())
    words = {kind: "+".join(getattr(arguments, kind) or ()) for kind in SHAPES}
    words["onnx_opset"] = arguments.onnx_opset or ""
    words = {name: text for name, text in words.items() if text}
    pairs = {**FORMATS[arguments.format], **words, **pairs}
    benchmark = registry.benchmark(arguments.benchmark)
    if "tensors" not in benchmark.takes:
        raise ValueError(
            f"{benchmark.name} takes prompts, but Triton is given tensors here; serve "
            "it by an OpenAI-compatible server"
        )
    scratch = Path(arguments.scratch) if arguments.scratch else None
    workload = benchmark.open_workload(arguments.workload, scratch)
    assert isinstance(workload, TensorWorkload), "the benchmark takes tensors"
    if arguments.hps_gpucacheper or arguments.fused_embedding:
        if not (workload.model and workload.model.embedding):
            raise ValueError(
                f"--hps_gpucacheper and --fused_embedding are of recommenders, but "
                f"{benchmark.name} has no embedding tables; leave them out"
            )
        if arguments.hps_gpucacheper:
            pairs["gpucacheper"] = arguments.hps_gpucacheper
    provider = registry.provider("triton")
    assert isinstance(provider, ExportsModels)
    name = arguments.name or benchmark.name
    made = provider.export_model(
        workload, name, arguments.precision, pairs, arguments.to
    )
    lines = [str(path) for path in made.files]
    lines += [
        f"{output}: differs by at most {share:.2%} of the largest value of the source "
        f"model's (allowed: {made.tolerance:.2%})"
        for output, share in made.differences.items()
    ]
    return [*lines, made.note] if made.note else lines
