"""The onnxruntime engine: CPU by default, other providers by option."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.errors import Missing
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch

CPU = "CPUExecutionProvider"
MOST_STREAMS = 16
"""Sessions at most; every one holds the weights. Wide machines get wider sessions."""


@dataclass(slots=True)
class OrtEngine:
    """One onnxruntime session."""

    session: Any
    outputs: list[str]
    answers: bool = False

    def infer(self, batch: Batch, size: int) -> Sequence[Array]:  # noqa: ARG002
        result: Sequence[Array] = self.session.run(self.outputs, batch)
        return result

    def close(self) -> None:
        self.session = None


@dataclass(frozen=True, slots=True)
class OrtProvider:
    """Optimises (fp32) or quantises (int8) an ONNX model once and keeps the result."""

    precisions: tuple[str, ...] = ("fp32", "int8")
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    answers: bool = False

    def unavailable(self) -> str | None:
        absent = [m for m in ("onnxruntime", "onnx") if not importlib.util.find_spec(m)]
        if not absent:
            return None
        return (
            f"the engine onnxruntime needs {' and '.join(absent)}: "
            "pip install 'pytest-mlperf[onnxruntime]'"
        )

    def build(self, request: BuildRequest) -> Build:
        import onnxruntime as ort

        provider = _provider(request.options.get("provider"), ort)
        model = request.workload.model
        digest = content_hash(
            {
                "engine": "onnxruntime",
                "version": ort.__version__,
                "provider": provider,
                "precision": request.precision,
                "workload": request.workload.digest,
                "keep_fp32": model.keep_fp32,
                "device": _cpu_model(),
                "recipe": 3,
            }
        )
        path = request.cache / "onnxruntime" / f"{digest[:32]}.onnx"
        started = time.monotonic()
        # Two sessions on one host may want the same build: one makes it.
        with _locked(path.with_suffix(".lock")):
            report = f"cached build {digest[:12]}"
            if not path.is_file():
                try:
                    _make(request, provider, path)
                except Missing:
                    raise
                except Exception as error:
                    raise BuildFailed(_explain(error, request)) from error
                seconds = time.monotonic() - started
                report = f"built {digest[:12]} in {seconds:.1f} s"
        facts = {"provider": provider, "onnxruntime": ort.__version__}
        if provider == CPU:
            # Also on a machine with a GPU, which this engine then leaves alone.
            facts["device"] = "CPU"
        return Build(digest, path, request, report, facts)

    def open(self, build: Build, threads: int) -> OrtEngine:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # The file is already optimised for this machine.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        provider = build.facts["provider"]
        try:
            session = ort.InferenceSession(build.path, options, providers=[provider])
        except Exception as error:
            raise BuildFailed(
                f"the cached build {build.path} cannot be opened: {error}; it should "
                "be an ONNX file that this onnxruntime wrote: delete it, and the next "
                "run builds it again"
            ) from error
        found = session.get_providers()[0]
        if found != provider:
            raise BuildFailed(
                f"onnxruntime runs on {found}, but should run on {provider}: its "
                "libraries or device are missing; install them, or drop "
                "--mlperf-provider to measure the CPU"
            )
        return OrtEngine(session, list(build.request.workload.model.outputs))

    def layouts(self, cpus: int) -> tuple[Streams, ...]:
        many = min(cpus, MOST_STREAMS)
        few = max(1, many // 4)
        spread = {Streams(many, cpus // many), Streams(few, cpus // few)}
        latency = Streams(1, cpus)
        ordered = sorted(spread - {latency}, key=lambda s: -s.count)
        return (*ordered, latency)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file; ``BuildFailed`` where the cache cannot be written."""
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise BuildFailed(
            f"built engines cannot be kept in {path.parent}: {error}; give a folder "
            "that can be written with --mlperf-cache DIR"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _provider(name: str | None, ort: Any) -> str:
    legal: list[str] = ort.get_available_providers()
    if name is None:
        return CPU
    for known in legal:
        short = known.lower().removesuffix("executionprovider")
        if name.lower() in (known.lower(), short):
            return known
    raise Missing(
        f"onnxruntime has no execution provider {name!r}; here it has "
        f"{', '.join(legal)}: install the onnxruntime package that carries it"
    )


def _make(request: BuildRequest, provider: str, path: Path) -> None:
    import onnxruntime as ort

    scratch = path.with_suffix(".making")
    source = request.workload.model.path
    made = [scratch]
    if request.precision == "int8":
        quantised = path.with_suffix(".int8")
        made.append(quantised)
        _quantise(request, quantised)
        source = quantised
    options = ort.SessionOptions()
    options.optimized_model_filepath = os.fspath(scratch)
    options.log_severity_level = 3  # it warns that the file is bound to this machine
    ort.InferenceSession(source, options, providers=[provider])
    scratch.replace(path)
    for leftover in made:
        leftover.unlink(missing_ok=True)


def _quantise(request: BuildRequest, target: Path) -> None:
    """Write the int8 model: calibrated, or with activations scaled as they come."""
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = request.workload.model
    keep = list(model.keep_fp32)
    # Folds the casts of weights that are stored in fp16: the quantiser sees only
    # initialisers that feed an operator directly.
    folded = target.with_suffix(".folded")
    quant_pre_process(str(model.path), str(folded), skip_symbolic_shape=True)
    try:
        # A workload without calibration has activations that no scale fixed beforehand
        # fits (transformers: F1 4 instead of 89 %): they are scaled as they come.
        if model.calibration is None:
            q.quantize_dynamic(
                folded,
                target,
                op_types_to_quantize=["MatMul"],
                per_channel=True,
                weight_type=q.QuantType.QInt8,
                nodes_to_exclude=keep,
            )
            return

        class Reader(q.CalibrationDataReader):  # type: ignore[misc]
            def __init__(self, batches: Iterator[Batch]) -> None:
                self.batches = batches

            def get_next(self) -> Batch | None:
                return next(self.batches, None)

        q.quantize_static(
            folded,
            target,
            Reader(iter(model.calibration())),
            quant_format=q.QuantFormat.QDQ,
            per_channel=True,
            activation_type=q.QuantType.QUInt8,
            weight_type=q.QuantType.QInt8,
            calibrate_method=q.CalibrationMethod.MinMax,
            nodes_to_exclude=keep,
            # 7 bits: CPUs without VNNI add pairs of products in 16 bits.
            reduce_range=True,
        )
    finally:
        folded.unlink(missing_ok=True)


def _explain(error: Exception, request: BuildRequest) -> str:
    title = f"onnxruntime could not build {request.workload.model.path.name}"
    return (
        f"{title} in {request.precision}: {type(error).__name__}: {error}. "
        "Try --mlperf-precision fp32; if that fails too, the model file is damaged "
        "or newer than this onnxruntime"
    )


def _cpu_model() -> str:
    # An optimised graph may use layouts of the instruction set it was made on.
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return os.uname().machine
    return next((x for x in lines if x.startswith(("model name", "CPU part"))), "")


ONNXRUNTIME = OrtProvider()
