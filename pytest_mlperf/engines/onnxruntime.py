"""The onnxruntime engine: CPU by default, other providers by option."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlperf.api.components import Component
from pytest_mlperf.api.components import model_components
from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.api.workload import model_file
from pytest_mlperf.core.whole_file import is_whole
from pytest_mlperf.core.whole_file import replace_whole
from pytest_mlperf.embedding import options as embedding
from pytest_mlperf.embedding.shared_store import open_store
from pytest_mlperf.engines.build_lock import lock_build
from pytest_mlperf.engines.cpu_layouts import spread_over_cpus
from pytest_mlperf.engines.lookup import LookupEngine
from pytest_mlperf.engines.onnx_build import OPENVINO
from pytest_mlperf.engines.onnx_build import explain_miss
from pytest_mlperf.engines.onnx_build import read_sidecar
from pytest_mlperf.engines.onnx_build import write_build
from pytest_mlperf.engines.onnx_build import write_sidecar
from pytest_mlperf.engines.onnx_inputs import explain_refusal
from pytest_mlperf.engines.onnx_precision import convert_to_fp16
from pytest_mlperf.engines.onnx_precision import copy_model
from pytest_mlperf.engines.onnx_precision import quantize_model

CPU = "CPUExecutionProvider"
ON_CPU = (CPU, OPENVINO)
"""Providers that compute on the CPUs that a session is given."""


@dataclass(slots=True)
class OrtEngine:
    """One onnxruntime session."""

    session: Any
    outputs: list[str]
    answers: bool = False

    def infer(self, batch: Batch, size: int) -> Sequence[Array]:  # noqa: ARG002
        try:
            result: Sequence[Array] = self.session.run(self.outputs, batch)
        except Exception as error:
            if text := explain_refusal(self.session, self.outputs, batch):
                raise ValueError(f"{text} ({type(error).__name__}: {error})") from error
            raise
        return result

    def close(self) -> None:
        self.session = None


@dataclass(slots=True)
class OrtComponents:
    """A session for each graph of a model, and the benchmark's loop over them."""

    sessions: dict[str, OrtEngine]
    run: Callable[[Mapping[str, Component], Batch], Sequence[Array]]
    answers: bool = False

    def infer(self, batch: Batch, size: int) -> Sequence[Array]:  # noqa: ARG002
        parts = {
            name: partial(one.session.run, one.outputs)
            for name, one in self.sessions.items()
        }
        return self.run(parts, batch)

    def close(self) -> None:
        self.sessions.clear()


@dataclass(slots=True)
class OrtSampleEngine(OrtEngine):
    """A session whose graph takes one sample: a batch is one run for each."""

    def infer(self, batch: Batch, size: int) -> Sequence[Array]:
        """Return each output of all samples, [size, …], padded with zeros."""
        runs = [
            OrtEngine.infer(self, {n: v[k : k + 1] for n, v in batch.items()}, 1)
            for k in range(size)
        ]
        return [stack_padded(arrays) for arrays in zip(*runs, strict=True)]


def stack_padded(arrays: Sequence[Array]) -> Array:
    """Return arrays of one rank on top of each other, each axis as long as needed."""
    shape = np.max([array.shape for array in arrays], axis=0)
    stacked = np.zeros((len(arrays), *shape), arrays[0].dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[tuple(map(slice, array.shape))] = array
    return stacked


@dataclass(frozen=True, slots=True)
class OrtProvider:
    """Optimizes (fp32) or quantizes (int8) an ONNX model once and caches the result."""

    precisions: tuple[str, ...] = ("fp32", "int8")
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    answers: bool = False
    more_exact: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"int8": ("fp32",)}
    )
    options: Mapping[str, str] = field(
        default_factory=lambda: {
            "provider": "the execution provider, such as CUDA",
            **embedding.OPTIONS,
        }
    )

    def check_options(self, given: Mapping[str, str]) -> None:
        embedding.parse_options(given)
        if name := given.get("provider"):
            import onnxruntime as ort

            try:
                _find_provider(name, ort)
            except RequirementMissing as missing:
                raise ValueError(str(missing)) from None

    def unavailable(self) -> str | None:
        needed = ("onnxruntime", "onnx")
        missing = [name for name in needed if not importlib.util.find_spec(name)]
        if not missing:
            return None
        return (
            f"the engine onnxruntime needs {' and '.join(missing)}: "
            "pip install 'pytest-mlperf[onnxruntime]'"
        )

    def build(self, request: BuildRequest) -> Build:
        import onnxruntime as ort

        graphs = _find_graphs(request.workload)
        provider = _find_provider(request.options.get("provider"), ort)
        parts = {
            "engine": "onnxruntime",
            "version": ort.__version__,
            "provider": provider,
            "precision": request.precision,
            "workload": request.workload.digest,
            "keep_fp32": sum((g.keep_fp32 for g in graphs.values()), ()),
            "device": _cpu_model(),
            "recipe": 3,
        }
        given = request.options
        parts |= {n: given[n] for n in embedding.ANSWER_OPTIONS if n in given}
        digest = content_hash(parts)
        path = _graph_path(request.cache / "onnxruntime", digest, "")
        sidecar = path.with_suffix(".json")
        started = time.monotonic()
        targets = {name: _graph_path(path.parent, digest, name) for name in graphs}
        # Two sessions on one host may want the same build: one makes it.
        with lock_build(path.with_suffix(".lock"), targets.values()):
            report = f"cached build {digest[:12]}"
            missed: dict[str, str] = {}
            for name, graph in graphs.items():
                if is_whole(target := targets[name]):
                    continue
                why = explain_miss(sidecar, request.workload.title, parts, target)
                missed = {"why built": why}
                try:
                    write_build(graph, request.precision, provider, target)
                except RequirementMissing:
                    raise
                except Exception as error:
                    text = _explain(error, graph, request.precision)
                    raise BuildFailed(text) from error
                seconds = time.monotonic() - started
                report = f"built {digest[:12]} in {seconds:.1f} s"
            if read_sidecar(sidecar) is None:
                # No run needs it, so a cache that can only be read may lack it.
                with suppress(OSError):
                    write_sidecar(sidecar, request, graphs, parts)
        facts = {"provider": provider, "onnxruntime": ort.__version__, **missed}
        uses_gpu = provider not in ON_CPU
        device = "" if uses_gpu else "CPU"
        # The largest graph stands for the model where its size is asked for.
        path = max(targets.values(), key=lambda one: one.stat().st_size)
        return Build(digest, path, request, report, facts, provider, uses_gpu, device)

    def open(
        self, build: Build, threads: int
    ) -> OrtEngine | OrtComponents | LookupEngine:
        assert build.path is not None
        graphs = _find_graphs(build.request.workload)
        sessions = {
            name: (OrtSampleEngine if graph.one_by_one else OrtEngine)(
                _open_session(
                    _graph_path(build.path.parent, build.digest, name),
                    threads,
                    build.details,
                ),
                list(graph.outputs),
            )
            for name, graph in graphs.items()
        }
        request = build.request
        components = model_components(request.workload)
        if components is not None:
            return OrtComponents(sessions, components.run)
        tables = graphs[""].embedding
        if tables is None:
            return sessions[""]
        return LookupEngine(sessions[""], open_store(tables, request.options))

    def write_onnx(self, model: ModelFile, precision: str, path: Path) -> None:
        """Write a model that any onnxruntime reads: nothing in it is of this machine.

        Raises ``BuildFailed``.
        """
        try:
            with replace_whole(path) as partial:
                if precision == "int8":
                    quantize_model(model, partial)
                elif precision == "fp16":
                    convert_to_fp16(model.path, partial)
                elif precision == "fp32":
                    copy_model(model.path, partial)
                else:
                    raise ValueError("it should be one of fp32, fp16, int8")
        except Exception as error:
            raise BuildFailed(_explain(error, model, precision)) from error

    def layouts(self, cpus: int) -> tuple[Streams, ...]:
        return spread_over_cpus(cpus)


def _find_graphs(workload: TensorWorkload) -> Mapping[str, ModelFile]:
    """Return a model's graphs by name; that of a single file has none."""
    components = model_components(workload)
    if components is not None:
        return components.parts
    return {"": model_file(workload, "onnxruntime", has_lookup=True)}


def _graph_path(folder: Path, digest: str, name: str) -> Path:
    return folder / f"{digest[:32]}{'.' * bool(name)}{name}.onnx"


def _open_session(path: Path, threads: int, provider: Any) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The file is already optimized for this machine, or its provider does that.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings = [provider_settings(provider, threads)]
    try:
        session = ort.InferenceSession(
            path, options, providers=[provider], provider_options=settings
        )
    except Exception as error:
        raise BuildFailed(
            f"the cached build {path} cannot be opened: {error}; it should "
            "be an ONNX file that this onnxruntime wrote: delete it, and the next "
            "run builds it again"
        ) from error
    actual = session.get_providers()[0]
    if actual != provider:
        raise BuildFailed(
            f"onnxruntime runs on {actual}, but should run on {provider}: its "
            "libraries or device are missing; install them, or drop provider from "
            "--mlperf-engine-options to measure the CPU"
        )
    return session


def provider_settings(provider: str, threads: int) -> dict[str, str]:
    """Return what onnxruntime's own options do not tell a provider."""
    if provider != OPENVINO:
        return {}
    # By itself it takes all CPUs, and bf16 for fp32 where the CPU has it.
    return {
        "device_type": "CPU", "precision": "FP32", "num_of_threads": str(threads),
        "num_streams": "1",
    }  # fmt: skip


def _find_provider(name: str | None, ort: Any) -> str:
    legal: list[str] = ort.get_available_providers()
    if name is None:
        return CPU
    for known in legal:
        short = known.lower().removesuffix("executionprovider")
        if name.lower() in (known.lower(), short):
            return known
    raise RequirementMissing(
        f"onnxruntime has no execution provider {name!r}; here it has "
        f"{', '.join(legal)}: install the onnxruntime package that carries it "
        "in onnxruntime's place (pip install onnxruntime-openvino, onnxruntime-gpu …)"
    )


def _explain(error: Exception, model: ModelFile, precision: str) -> str:
    remedy = "the model file is damaged or newer than this onnxruntime"
    if not model.path.is_file():
        remedy = f"the model file {model.path} is not there"
    elif precision != "fp32":
        remedy = f"try --mlperf-precision fp32; if that fails too, {remedy}"
    return (
        f"onnxruntime could not build {model.path.name} in {precision}: "
        f"{type(error).__name__}: {error}; {remedy}"
    )


def _cpu_model() -> str:
    # An optimized graph may use layouts of the instruction set it was made on.
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return os.uname().machine
    return next((x for x in lines if x.startswith(("model name", "CPU part"))), "")


ONNXRUNTIME = OrtProvider()
