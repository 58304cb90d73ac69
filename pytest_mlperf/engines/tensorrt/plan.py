"""Makes the plan of one key: graph, search for the batch, and what is known of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.errors import Missing
from pytest_mlperf.api.workload import Workload
from pytest_mlperf.engines.calibration import Calibration
from pytest_mlperf.engines.tensorrt import onnx_model
from pytest_mlperf.engines.tensorrt.build import Order
from pytest_mlperf.engines.tensorrt.build_process import attempt
from pytest_mlperf.engines.tensorrt.cache import Entry
from pytest_mlperf.engines.tensorrt.cache import Parts
from pytest_mlperf.engines.tensorrt.failures import Failure
from pytest_mlperf.engines.tensorrt.options import Settings
from pytest_mlperf.engines.tensorrt.search import largest

RECIPE = 1
"""Counts up when the same request would give another plan."""
OFF = "off"


def parts_of(
    request: BuildRequest,
    settings: Settings,
    most: int,
    chosen: Calibration | None,
    version: str,
    device: str,
) -> Parts:
    """Return everything that decides a plan, by the reason it is built again for."""
    workload = request.workload
    return {
        "workload": {"digest": workload.digest, "model": workload.model.path.name},
        "engine": {
            "batch": str(most),
            "longest sequence": str(longest(workload)),
            "precision": request.precision,
            "calibration": chosen.digest[:16] if chosen else "none",
            "kept in fp32": ", ".join(workload.model.keep_fp32) or "nothing",
        },
        "settings": {
            "workspace-mib": str(settings.workspace_mib),
            "level": str(settings.level),
            "plugins": ", ".join(settings.plugins) or "none",
            "cuda-graphs": str(settings.graphs),
            "recipe": f"{RECIPE}.{onnx_model.RECIPE}",
        },
        "version": {"tensorrt": version},
        "device": {"name": device},
    }


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the plan of one key."""

    request: BuildRequest
    entry: Entry
    settings: Settings
    chosen: Calibration | None
    trial: bool

    def make(self, most: int) -> dict[str, Any]:
        """Return what is to be kept: facts, and the failure where there is no plan."""
        folder, workload = self.entry.folder, self.request.workload
        try:
            onnx = onnx_model.prepared(
                workload,
                self.request.precision,
                self.chosen,
                folder / "models",
                self.request.beat,
            )
        except (Missing, BuildFailed):
            raise
        except Exception as error:
            raise BuildFailed(
                f"{workload.model.path.name} could not be written in "
                f"{self.request.precision} for TensorRT: {type(error).__name__}: "
                f"{error}; try --mlperf-precision fp32. If that fails too, the model "
                "file is damaged"
            ) from error
        graphs = self.settings.graphs
        found = largest(partial(self._attempt, onnx), most, graphs=graphs)
        tried = ", ".join(f"{batch}: {outcome}" for batch, outcome in found.tried)
        facts = {"tried batches": tried} if len(found.tried) > 1 else {}
        if found.made is None:
            assert found.failure is not None
            failure = asdict(found.failure) | {"tried": found.tried}
            return {"facts": facts, "failure": str(Failure(**failure))}
        # The search may have ended with a larger batch that failed.
        self._scratch(found.batch, graphs=found.graphs).replace(self.entry.plan)
        self._clean()
        facts |= found.made
        facts["largest batch"] = f"{found.batch} of {most}"
        if found.batch < most and found.failure is not None:
            facts["larger batches"] = f"{found.failure.kind}: {found.failure.line}"
        facts["cuda graphs"] = "one a batch size" if found.graphs else OFF
        return {"facts": facts}

    def _attempt(
        self, onnx: Path, batch: int, graphs: bool
    ) -> dict[str, str] | Failure:
        order = Order(
            onnx=str(onnx),
            plan=str(self._scratch(batch, graphs=graphs)),
            timing_cache=str(self.entry.folder / "timing.cache"),
            batch=batch,
            longest=longest(self.request.workload),
            workspace_mib=self.settings.workspace_mib,
            level=self.settings.level,
            plugins=self.settings.plugins,
            graphs=graphs,
            trial=self.trial,
        )
        return attempt(order, self.request.beat)

    def _scratch(self, batch: int, *, graphs: bool) -> Path:
        name = f"{self.entry.plan.stem}.b{batch}{'' if graphs else '-no-graphs'}.making"
        return self.entry.folder / name

    def _clean(self) -> None:
        for leftover in self.entry.folder.glob(f"{self.entry.plan.stem}.b*"):
            leftover.unlink()


def longest(workload: Workload) -> int:
    """Return the longest sequence a plan must take; 0 where length does not vary."""
    if not workload.model.dynamic_length:
        return 0
    lengths = workload.dataset.lengths
    assert lengths is not None, "a dynamic length is the length of samples"
    return int(lengths.max())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; ``BuildFailed`` where the cache cannot be written."""
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise BuildFailed(
            f"plans cannot be kept in {path.parent}: {error}; give a folder that can "
            "be written with --mlperf-cache DIR"
        ) from error
    try:
        yield
    finally:
        lock.release()
