"""The tensorrt engine: plans of NVIDIA TensorRT, run through pycuda.

Building needs TensorRT alone (the one for RTX builds without a GPU). Running has not
been seen yet on any machine of this project: docs/tensorrt.md says what was tried and
gives the command for whoever can.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING

from pytest_mlperf.api.device_dataset import DeviceDataset
from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.engines import calibration
from pytest_mlperf.engines.tensorrt import onnx_model
from pytest_mlperf.engines.tensorrt.cache import Entry
from pytest_mlperf.engines.tensorrt.library import TensorRT
from pytest_mlperf.engines.tensorrt.library import load_library
from pytest_mlperf.engines.tensorrt.options import read
from pytest_mlperf.engines.tensorrt.plan import OFF
from pytest_mlperf.engines.tensorrt.plan import Maker
from pytest_mlperf.engines.tensorrt.plan import locked
from pytest_mlperf.engines.tensorrt.plan import longest
from pytest_mlperf.engines.tensorrt.plan import parts_of

if TYPE_CHECKING:
    from pytest_mlperf.engines.tensorrt.runtime import Plan

MOST = 256
"""Samples of the largest batch, where nobody names one."""


@dataclass(frozen=True, slots=True)
class TensorrtProvider:
    """Builds plans once and keeps them; streams of one plan share its weights."""

    precisions: tuple[str, ...] = ("fp16", "fp32", "int8", "fp8")
    batches: tuple[int, ...] = (8, 16, 32, 64, 128, MOST)
    answers: bool = False
    on_device: frozenset[str] = frozenset({"start_from_device"})
    precision_for: Mapping[str, str] = field(
        default_factory=lambda: {"int8": "fp16", "fp32": "fp16"}
    )
    """Benchmark's default precision -> this engine's: int8 and fp8 need calibration
    samples, which not every workload has, and are asked for by name."""
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
        from pytest_mlperf.engines.tensorrt import cuda

        device = cuda.device()
        if isinstance(device, str):
            return f"the engine tensorrt needs a CUDA device: {device}"
        return library.refuses(device.capability)

    def build(self, request: BuildRequest) -> Build:
        try:
            library = load_library()
        except ImportError as error:
            raise BuildFailed(str(error)) from error
        started = time.monotonic()
        settings, most = read(request.options), request.batch or MOST
        workload, beat = request.workload, request.beat
        facts = {"tensorrt": library.version}
        chosen: calibration.Calibration | None = None
        if request.precision in onnx_model.QUANTISED:
            chosen = calibration.read(workload, request.precision, beat)
            facts["calibration"] = chosen.said
        device, trial = _device(library)
        entry = Entry(
            request.cache / "tensorrt",
            f"{workload.model.path.stem}-{request.precision}-b{most}",
            parts_of(request, settings, most, chosen, library.version, device),
        )
        with locked(entry.plan.with_suffix(".lock")):
            known, report = entry.read(), f"cached plan {entry.plan.name}"
            if known is None:
                facts["why built"] = entry.reason()
                maker = Maker(request, entry, settings, chosen, trial)
                known = maker.make(most)
                entry.write(known)
                seconds = time.monotonic() - started
                report = f"built {entry.plan.name} in {seconds:.1f} s"
            elif "failure" in known:
                report = f"failed earlier (delete {entry.sidecar} to try again)"
        facts |= known["facts"]
        if "failure" in known:
            again = "" if "why built" in facts else f"; {report}"
            raise BuildFailed(f"TensorRT built no plan: {known['failure']}{again}")
        return Build(entry.digest, entry.plan, request, report, facts)

    def open(self, build: Build, threads: int) -> Engine:  # noqa: ARG002 - protocol
        from pytest_mlperf.engines.tensorrt.runtime import RunFailed

        try:
            return self._plan(build).open(build.request.workload.model)
        except RunFailed as error:
            raise BuildFailed(
                f"the plan {build.path} cannot be opened: {error}; delete it, and the "
                "next run builds it again"
            ) from error

    def place(self, build: Build) -> DeviceDataset:
        """Return the dataset as one that is kept beside the plan."""
        from pytest_mlperf.engines.tensorrt.device_samples import Rows

        workload = build.request.workload
        store = Rows(
            partial(self._plan, build), workload.model.dynamic_length, longest(workload)
        )
        return DeviceDataset(workload.dataset, store)

    def _plan(self, build: Build) -> Plan:
        from pytest_mlperf.engines.tensorrt.runtime import Plan

        assert build.path is not None, "a build without a plan raises BuildFailed"
        plan = self._plans.get(build.digest)
        if plan is None or plan.closed:
            graphs = build.facts["cuda graphs"] != OFF
            plan = self._plans[build.digest] = Plan.load(build.path, graphs=graphs)
        return plan

    def layouts(self, cpus: int) -> tuple[Streams, ...]:
        # While one stream's batch is gathered and answered, another's computes.
        return tuple(Streams(n, max(1, cpus // n)) for n in (2, 3, 1))


def _device(library: TensorRT) -> tuple[str, bool]:
    """Return the device a plan is for, and whether it can be tried on it.

    TensorRT for RTX builds for every device it knows, without having one.
    """
    found: cuda.Device | str = "pycuda is not installed"
    if importlib.util.find_spec("pycuda"):
        from pytest_mlperf.engines.tensorrt import cuda

        found = cuda.device()
    usable = not isinstance(found, str) and not library.refuses(found.capability)
    if library.rtx:
        return "any", usable
    return (found if isinstance(found, str) else str(found)), usable


TENSORRT = TensorrtProvider()
