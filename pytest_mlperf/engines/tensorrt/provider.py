"""The tensorrt engine: plans of NVIDIA TensorRT, run through pycuda.

Building needs TensorRT alone (the one for RTX builds without a GPU). No machine of this
project has run a plan yet: docs/reference/tensorrt.md says what was tried and gives the
command for whoever can.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from functools import partial

from pytest_mlperf.api.device_dataset import DeviceDataset
from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.workload import model_file
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.engines.build_lock import lock_build
from pytest_mlperf.engines.calibration import Calibration
from pytest_mlperf.engines.calibration import read_calibration
from pytest_mlperf.engines.tensorrt import cuda
from pytest_mlperf.engines.tensorrt import onnx_model
from pytest_mlperf.engines.tensorrt.cache import CacheEntry
from pytest_mlperf.engines.tensorrt.cache import PlanBuilder
from pytest_mlperf.engines.tensorrt.cache import PlanRecord
from pytest_mlperf.engines.tensorrt.cache import key_parts
from pytest_mlperf.engines.tensorrt.cache import longest_sequence
from pytest_mlperf.engines.tensorrt.device_samples import PlanSampleStore
from pytest_mlperf.engines.tensorrt.library import TensorRT
from pytest_mlperf.engines.tensorrt.library import load_library
from pytest_mlperf.engines.tensorrt.runtime import Plan
from pytest_mlperf.engines.tensorrt.settings import OPTIONS
from pytest_mlperf.engines.tensorrt.settings import read_settings
from pytest_mlperf.engines.tensorrt.stream import TensorrtStream
from pytest_mlperf.engines.tensorrt.stream import open_stream

MAX_BATCH = 256
"""Samples of the largest batch, unless the user names one."""


@dataclass(frozen=True, slots=True)
class TensorrtProvider:
    """Builds plans once and caches them; streams of one plan share its weights."""

    precisions: tuple[str, ...] = ("fp16", "fp32", "int8", "fp8")
    batches: tuple[int, ...] = (8, 16, 32, 64, 128, MAX_BATCH)
    answers: bool = False
    on_device: frozenset[str] = frozenset({"start_from_device"})
    checks_in_own_process: bool = True
    options: Mapping[str, str] = field(default_factory=lambda: OPTIONS)
    precision_for: Mapping[str, str] = field(
        default_factory=lambda: {"int8": "fp16", "fp32": "fp16"}
    )
    """Benchmark's default precision -> this engine's: int8 and fp8 need calibration
    samples, which not every workload has, so users ask for them by name."""
    _plans: dict[str, Plan] = field(default_factory=dict, repr=False)

    def unavailable(self) -> str | None:
        try:
            library = load_library()
        except ImportError as error:
            return f"the engine tensorrt cannot be used: {error}"
        if not importlib.util.find_spec("pycuda"):
            return (
                "the engine tensorrt runs plans through pycuda, which is not "
                "installed: CUDA_ROOT=/usr/local/cuda pip install pycuda (it is "
                "compiled against the CUDA toolkit)"
            )
        device = cuda.find_device()
        if isinstance(device, str):
            return f"the engine tensorrt needs a CUDA device: {device}"
        return library.explain_refusal(device.capability)

    def check_options(self, given: Mapping[str, str]) -> None:
        read_settings(given)

    def build(self, request: BuildRequest) -> Build:
        try:
            library = load_library()
        except ImportError as error:
            raise BuildFailed(str(error)) from error
        started = time.monotonic()
        try:
            settings = read_settings(request.options)
        except ValueError as error:
            raise RunRefused(f"--mlperf-engine-options: {error}") from None
        max_batch = request.batch or MAX_BATCH
        facts = {"tensorrt": library.version}
        calibration: Calibration | None = None
        if request.precision in onnx_model.QUANTIZED:
            calibration = read_calibration(
                request.workload, request.precision, request.beat
            )
            facts["calibration"] = calibration.summary
        device, trial = _find_target(library)
        model = model_file(request.workload, "tensorrt").path
        entry = CacheEntry(
            request.cache / "tensorrt",
            f"{model.stem}-{request.precision}-b{max_batch}",
            key_parts(
                request, settings, max_batch, calibration, library.version, device
            ),
        )
        files = (entry.plan, entry.sidecar)
        with lock_build(entry.plan.with_suffix(".lock"), files):
            record, report = entry.read(), f"cached plan {entry.plan.name}"
            if record is None:
                facts["why built"] = entry.explain_miss()
                builder = PlanBuilder(request, entry, settings, calibration, trial)
                record = builder.build(max_batch)
                entry.write(record)
                seconds = time.monotonic() - started
                report = f"built {entry.plan.name} in {seconds:.1f} s"
            elif record.failure:
                report = f"failed earlier (delete {entry.sidecar} to try again)"
        facts |= record.facts
        if record.failure:
            again = "" if "why built" in facts else f"; {report}"
            raise BuildFailed(f"TensorRT built no plan: {record.failure}{again}")
        return Build(entry.digest, entry.plan, request, report, facts, record)

    def open(self, build: Build, threads: int) -> TensorrtStream:  # noqa: ARG002
        model = model_file(build.request.workload, "tensorrt")
        try:
            return open_stream(self._load_plan(build), model)
        except cuda.PlanRunFailed as error:
            raise BuildFailed(
                f"the plan {build.path} cannot be opened: {error}; delete it, and the "
                "next run builds it again"
            ) from error

    def place(self, build: Build) -> DeviceDataset:
        """Return the dataset as one whose samples lie beside the plan."""
        workload = build.request.workload
        store = PlanSampleStore(
            partial(self._load_plan, build),
            model_file(workload, "tensorrt").dynamic_length,
            longest_sequence(workload),
        )
        return DeviceDataset(workload.dataset, store)

    def _load_plan(self, build: Build) -> Plan:
        assert build.path is not None, "a build without a plan raises BuildFailed"
        assert isinstance(build.details, PlanRecord)
        plan = self._plans.get(build.digest)
        if plan is None or plan.closed:
            plan = Plan.load(build.path, cuda_graphs=build.details.cuda_graphs)
            self._plans[build.digest] = plan
        return plan

    def layouts(self, cpus: int) -> tuple[Streams, ...]:
        # While one stream's batch is gathered and answered, another's computes.
        return tuple(Streams(n, max(1, cpus // n)) for n in (2, 3, 1))


def _find_target(library: TensorRT) -> tuple[str, bool]:
    """Return the device a plan is for, and whether it can be tried on it.

    TensorRT for RTX builds for every device it knows, without having one.
    """
    device: cuda.CudaDevice | str = "pycuda is not installed"
    if importlib.util.find_spec("pycuda"):
        device = cuda.find_device()
    usable = False
    if isinstance(device, cuda.CudaDevice):
        usable = library.explain_refusal(device.capability) is None
    return "any" if library.rtx else str(device), usable


TENSORRT = TensorrtProvider()
