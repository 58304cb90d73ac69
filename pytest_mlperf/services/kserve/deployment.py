"""How a model is deployed on Triton: options by Triton's names.

The environment variables of NVIDIA's deployment scripts for BERT are understood too.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from typing import Any

from pytest_mlperf.config.load_options import LoadOptions
from pytest_mlperf.config.load_options import parse_sizes
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


def parse_count(text: str) -> int:
    """A whole number, 0 too."""
    return 0 if text.strip() == "0" else parse_whole(text)


def parse_share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError("a number from 0 to 1")
    return share


def parse_flag(text: str) -> bool:
    """0 or 1, as the scripts write it; true and false as config.pbtxt does."""
    words = {"0": False, "1": True, "false": False, "true": True}
    if text.lower() not in words:
        raise ValueError("0 or 1")
    return words[text.lower()]


@dataclass(frozen=True, slots=True)
class Deployment:
    """The options of a model in a repository; fields have Triton's names."""

    format: str = "onnx"
    """Of the exported model, as NVIDIA's scripts name it."""
    export_format: str = ""
    export_precision: str = ""
    """What the scripts convert from. Here that is always the benchmark's ONNX file."""
    max_seq_length: int | None = None
    """Tokens of every sequence, which the client pads; None: any number."""
    backend: str = "python"
    """``python`` runs onnxruntime or PyTorch in Triton's Python backend; the others are
    of a stock container."""
    max_batch_size: int = MOST_BATCH
    preferred_batch_size: tuple[int, ...] = ()
    max_queue_delay_microseconds: int = 0
    instance_group_count: int = 1
    instance_group_kind: str = "KIND_AUTO"
    intra_op_thread_count: int = 1
    accelerator: str = "none"
    """Of the onnxruntime backend on a GPU: ``trt`` or ``none``."""
    accelerator_precision: str = ""
    max_workspace_size_bytes: int = 0
    """Scratch memory of TensorRT; 0: it decides."""
    min_shapes: Mapping[str, Shape] | None = None
    opt_shapes: Mapping[str, Shape] | None = None
    max_shapes: Mapping[str, Shape] | None = None
    """What TensorRT builds for: a plan, or in the onnxruntime backend."""
    onnx_opset: int | None = None
    """To which an ONNX file is converted; None: its own."""
    capture_cuda_graph: bool = False
    """CUDA graphs: of a plan, and of TorchScript on a GPU in the Python backend."""
    batch_size: tuple[int, ...] = LoadOptions().batch_size
    """Of deployment tables: CUDA graphs are captured for these batches too."""
    response_cache: bool = False
    """An answer out of a cache is no inference: off."""
    gpucacheper: float = 0.1
    """Of a recommender's sparse model: share of the rows in its cache."""
    hit_rate_threshold: float = 1.0
    """Of the same: from this hit rate on, missing rows take the default vector."""
    model_warmup: bool = False
    """Triton runs a batch of zeros before the model is ready."""

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


BACKEND_FORMATS = {"pytorch": ("ts-trace", "ts-script"), "tensorrt": ("trt",)}
"""Backend of a stock server -> the formats that it reads, the default first."""
MODULES = ("ts-trace", "ts-script")
FORMATS = ("onnx", "ts-trace", "ts-script", "trt")
PARSERS: dict[str, Callable[[str], Any]] = {
    "format": one_of(*FORMATS),
    "export_format": one_of(*FORMATS),
    "export_precision": one_of("fp32", "fp16", "int8"),
    "max_seq_length": parse_whole,
    "backend": one_of(*BACKENDS),
    "max_batch_size": parse_whole,
    "preferred_batch_size": parse_sizes,
    "max_queue_delay_microseconds": parse_count,
    "instance_group_count": parse_whole,
    "instance_group_kind": one_of(*KINDS),
    "intra_op_thread_count": parse_whole,
    "accelerator": one_of("none", "trt"),
    "accelerator_precision": one_of("fp32", "fp16", "int8"),
    "max_workspace_size_bytes": parse_count,
    **dict.fromkeys(SHAPES, parse_shapes),
    "onnx_opset": parse_whole,
    "capture_cuda_graph": parse_flag,
    "response_cache": parse_flag,
    "model_warmup": parse_flag,
    "gpucacheper": parse_share,
    "hit_rate_threshold": parse_share,
}
"""Name of an option -> what its text means."""
OPTIONS = {
    "format": "(of the exported model: onnx, ts-trace, ts-script or trt)",
    "export_format": "(of what is converted: onnx, or the format itself)",
    "export_precision": "(of what is converted: not used, it is always fp32)",
    "max_seq_length": "(tokens that every sequence is padded to; default: its own)",
    "backend": "(python, onnxruntime, tensorrt or pytorch)",
    "max_batch_size": f"(the largest batch that Triton makes; default {MOST_BATCH})",
    "preferred_batch_size": "(batch sizes that Triton waits for, such as 4+8)",
    "max_queue_delay_microseconds": "(longest wait for a batch to fill; default 0)",
    "instance_group_count": "(instances of the model; default: the CPUs)",
    "instance_group_kind": "(KIND_AUTO, KIND_CPU or KIND_GPU)",
    "intra_op_thread_count": "(threads of an instance; default 1)",
    "accelerator": "(of the onnxruntime backend on a GPU: none or trt)",
    "accelerator_precision": "(fp32, fp16 or int8)",
    "max_workspace_size_bytes": "(of TensorRT; default 0: it decides)",
    "min_shapes": "(that TensorRT builds for, with the batch: 1x64, or input:1x64+…)",
    "opt_shapes": "(at which TensorRT is at its best; default: max_shapes)",
    "max_shapes": "(default: max_batch_size, and the longest sequence)",
    "onnx_opset": "(to which an ONNX file is converted; default: its own)",
    "capture_cuda_graph": "(CUDA graphs of a plan, or TorchScript on a GPU: 0 or 1)",
    "response_cache": "(0 or 1; default 0)",
    "model_warmup": "(a batch of zeros before the model is ready: 0 or 1)",
    "gpucacheper": "(of a recommender: share of the rows in the cache; default 0.1)",
    "hit_rate_threshold": "(of a recommender: 1 is always exact; default 1)",
}
"""Name of an option -> what it says."""
VARIABLES = {
    "FORMAT": "format",
    "EXPORT_FORMAT": "export_format",
    "EXPORT_PRECISION": "export_precision",
    "MAX_SEQ_LENGTH": "max_seq_length",
    "NUMBER_OF_MODEL_INSTANCES": "instance_group_count",
    "MAX_BATCH_SIZE": "max_batch_size",
    "TRITON_PREFERRED_BATCH_SIZES": "preferred_batch_size",
    "TRITON_MAX_QUEUE_DELAY": "max_queue_delay_microseconds",
    "TRITON_GPU_ENGINE_COUNT": "instance_group_count",
    "ACCELERATOR": "accelerator",
    "ACCELERATOR_PRECISION": "accelerator_precision",
    "CAPTURE_CUDA_GRAPH": "capture_cuda_graph",
}
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
        if name not in PARSERS:
            legal = ", ".join(OPTIONS)
            raise ValueError(
                f"{name!r} is no option of a Triton deployment, but should be one of "
                f"{legal}.{suggest(name, OPTIONS)}"
            )
    texts = {
        option: (variable, environ[variable])
        for variable, option in VARIABLES.items()
        if environ.get(variable, "").strip()
    }
    texts |= {name: (name, text) for name, text in given.items()}
    values = {}
    for name, (source, text) in texts.items():
        try:
            values[name] = PARSERS[name](text.strip())
        except ValueError as error:
            raise ValueError(f"{source}={text}, but should be {error}") from None
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
