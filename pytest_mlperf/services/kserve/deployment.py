"""How a model is deployed on Triton: options by Triton's names.

The environment variables of NVIDIA's deployment scripts for BERT are understood too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from typing import Any

from pytest_mlperf.config.load_options import LoadOptions
from pytest_mlperf.config.load_options import parse_sizes
from pytest_mlperf.config.named_option import list_help
from pytest_mlperf.config.named_option import list_variables
from pytest_mlperf.config.named_option import named_option
from pytest_mlperf.config.named_option import read_named
from pytest_mlperf.config.number_types import parse_count
from pytest_mlperf.config.number_types import parse_flag
from pytest_mlperf.config.number_types import parse_fraction
from pytest_mlperf.config.option_types import one_of
from pytest_mlperf.config.option_types import parse_whole
from pytest_mlperf.config.option_types import suggest
from pytest_mlperf.config.shape_options import KINDS as SHAPES
from pytest_mlperf.config.shape_options import Shape
from pytest_mlperf.config.shape_options import parse_shapes

MOST_BATCH = 16
"""``max_batch_size`` where nobody chose: that of NVIDIA's tables for BERT."""
BACKENDS = ("python", "onnxruntime", "tensorrt", "pytorch")
KINDS = ("KIND_AUTO", "KIND_CPU", "KIND_GPU")
BACKEND_FORMATS = {"pytorch": ("ts-trace", "ts-script"), "tensorrt": ("trt",)}
"""Backend of a stock server -> the formats that it reads, the default first."""
MODULES = ("ts-trace", "ts-script")
FORMATS = ("onnx", "ts-trace", "ts-script", "trt")


@dataclass(frozen=True, slots=True)
class Deployment:
    """The options of a model in a repository; fields have Triton's names."""

    format: str = named_option(
        one_of(*FORMATS),
        "(of the exported model: onnx, ts-trace, ts-script or trt)",
        "FORMAT",
        default="onnx",
    )
    """Of the exported model, as NVIDIA's scripts name it."""
    export_format: str = named_option(
        one_of(*FORMATS),
        "(of what is converted: onnx, or the format itself)",
        "EXPORT_FORMAT",
        default="",
    )
    export_precision: str = named_option(
        one_of("fp32", "fp16", "int8"),
        "(of what is converted: not used, it is always fp32)",
        "EXPORT_PRECISION",
        default="",
    )
    """What the scripts convert from. Here that is always the benchmark's ONNX file."""
    max_seq_length: int | None = named_option(
        parse_whole,
        "(tokens that every sequence is padded to; default: its own)",
        "MAX_SEQ_LENGTH",
    )
    """Tokens of every sequence, which the client pads; None: any number."""
    backend: str = named_option(
        one_of(*BACKENDS),
        "(python, onnxruntime, tensorrt or pytorch)",
        default="python",
    )
    """``python`` runs onnxruntime or PyTorch in Triton's Python backend; the others are
    of a stock container."""
    max_batch_size: int = named_option(
        parse_whole,
        f"(the largest batch that Triton makes; default {MOST_BATCH})",
        "MAX_BATCH_SIZE",
        default=MOST_BATCH,
    )
    preferred_batch_size: tuple[int, ...] = named_option(
        parse_sizes,
        "(batch sizes that Triton waits for, such as 4+8)",
        "TRITON_PREFERRED_BATCH_SIZES",
        default=(),
    )
    max_queue_delay_microseconds: int = named_option(
        parse_count,
        "(longest wait for a batch to fill; default 0)",
        "TRITON_MAX_QUEUE_DELAY",
        default=0,
    )
    instance_group_count: int = named_option(
        parse_whole,
        "(instances of the model; default: the CPUs)",
        "NUMBER_OF_MODEL_INSTANCES",
        "TRITON_GPU_ENGINE_COUNT",
        default=1,
    )
    instance_group_kind: str = named_option(
        one_of(*KINDS), "(KIND_AUTO, KIND_CPU or KIND_GPU)", default="KIND_AUTO"
    )
    intra_op_thread_count: int = named_option(
        parse_whole, "(threads of an instance; default 1)", default=1
    )
    accelerator: str = named_option(
        one_of("none", "trt"),
        "(of the onnxruntime backend on a GPU: none or trt)",
        "ACCELERATOR",
        default="none",
    )
    """Of the onnxruntime backend on a GPU: ``trt`` or ``none``."""
    accelerator_precision: str = named_option(
        one_of("fp32", "fp16", "int8"),
        "(fp32, fp16 or int8)",
        "ACCELERATOR_PRECISION",
        default="",
    )
    max_workspace_size_bytes: int = named_option(
        parse_count, "(of TensorRT; default 0: it decides)", default=0
    )
    """Scratch memory of TensorRT; 0: it decides."""
    min_shapes: Mapping[str, Shape] | None = named_option(
        parse_shapes,
        "(that TensorRT builds for, with the batch: 1x64, or input:1x64+…)",
    )
    opt_shapes: Mapping[str, Shape] | None = named_option(
        parse_shapes, "(at which TensorRT is at its best; default: max_shapes)"
    )
    max_shapes: Mapping[str, Shape] | None = named_option(
        parse_shapes, "(default: max_batch_size, and the longest sequence)"
    )
    """What TensorRT builds for: a plan, or in the onnxruntime backend."""
    onnx_opset: int | None = named_option(
        parse_whole, "(to which an ONNX file is converted; default: its own)"
    )
    """To which an ONNX file is converted; None: its own."""
    capture_cuda_graph: bool = named_option(
        parse_flag,
        "(CUDA graphs of a plan, or TorchScript on a GPU: 0 or 1)",
        "CAPTURE_CUDA_GRAPH",
        default=False,
    )
    """CUDA graphs: of a plan, and of TorchScript on a GPU in the Python backend."""
    batch_size: tuple[int, ...] = LoadOptions().batch_size
    """Of deployment tables: CUDA graphs are captured for these batches too."""
    response_cache: bool = named_option(
        parse_flag, "(0 or 1; default 0)", default=False
    )
    """An answer out of a cache is no inference: off."""
    model_warmup: bool = named_option(
        parse_flag,
        "(a batch of zeros before the model is ready: 0 or 1)",
        default=False,
    )
    """Triton runs a batch of zeros before the model is ready."""
    gpucacheper: float = named_option(
        parse_fraction,
        "(of a recommender: share of the rows in the cache; default 0.1)",
        default=0.1,
    )
    """Of a recommender's sparse model: share of the rows in its cache."""
    hit_rate_threshold: float = named_option(
        parse_fraction, "(of a recommender: 1 is always exact; default 1)", default=1.0
    )
    """Of the same: from this hit rate on, missing rows take the default vector."""

    @property
    def is_accelerated(self) -> bool:
        """True where the onnxruntime backend runs TensorRT."""
        return self.backend == "onnxruntime" and self.accelerator == "trt"

    @property
    def runs_on_gpu(self) -> bool:
        """True where the Python backend runs TorchScript on a GPU."""
        is_module = self.backend == "python" and self.format in MODULES
        return is_module and self.instance_group_kind == "KIND_GPU"

    @property
    def captures_torchscript(self) -> bool:
        """True where it captures CUDA graphs."""
        return self.capture_cuda_graph and self.runs_on_gpu

    @property
    def graph_batch_sizes(self) -> tuple[int, ...]:
        """The batches for which CUDA graphs are captured: those that somebody names."""
        named = {1, self.max_batch_size, *self.preferred_batch_size, *self.batch_size}
        return tuple(sorted(n for n in named if n <= self.max_batch_size))

    @property
    def is_tensorrt(self) -> bool:
        return self.is_accelerated or self.backend == "tensorrt"


OPTIONS = list_help(Deployment)
VARIABLES = list_variables(Deployment)
"""Environment variable of NVIDIA's scripts -> the option that it means."""


def read_deployment(
    given: Mapping[str, str],
    environ: Mapping[str, str],
    default: Deployment | None = None,
) -> Deployment:
    """Return a deployment; what is given wins over the environment.

    Raises ``ValueError`` for an unknown name and for a value that is none.
    """
    for name in given:
        if name not in OPTIONS:
            legal = ", ".join(OPTIONS)
            raise ValueError(
                f"{name!r} is no option of a Triton deployment, but should be one of "
                f"{legal}.{suggest(name, OPTIONS)}"
            )
    values = read_named(Deployment, given, environ)
    made = replace(default or Deployment(), **values)
    formats = BACKEND_FORMATS.get(made.backend, (made.format,))
    if made.format not in formats:
        made = replace(made, format=formats[0])
    if made.export_format not in {"", "onnx", made.format}:
        raise ValueError(
            f"export_format={made.export_format} (EXPORT_FORMAT), but should be onnx: "
            f"the benchmarks' models are ONNX files, and {made.format} is made of them"
        )
    refuse_unused(made, values)
    if too_large := [n for n in made.preferred_batch_size if n > made.max_batch_size]:
        raise ValueError(
            f"preferred_batch_size {too_large[0]}, but should be at most max_batch_size"
            f" ({made.max_batch_size})"
        )
    return made


def refuse_unused(made: Deployment, given: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for what the chosen format and backend would pass over."""
    asked = [name for name in (*SHAPES, "max_workspace_size_bytes") if name in given]
    if asked and not made.is_tensorrt:
        raise ValueError(
            f"{asked[0]} is of TensorRT, but the backend is {made.backend}; export "
            "with --format trt or accelerator=trt, or leave it out"
        )
    is_python = made.backend == "python"
    if made.capture_cuda_graph and is_python and not made.runs_on_gpu:
        raise ValueError(
            "capture_cuda_graph=1 (CAPTURE_CUDA_GRAPH), but the Python backend has "
            f"format={made.format} and {made.instance_group_kind}: it captures "
            "TorchScript on a GPU; add format=ts-trace and "
            "instance_group_kind=KIND_GPU, or leave it out"
        )
    if made.onnx_opset and made.format != "onnx":
        raise ValueError(
            f"onnx_opset={made.onnx_opset} is of ONNX files, but the format is "
            f"{made.format}; leave it out"
        )
