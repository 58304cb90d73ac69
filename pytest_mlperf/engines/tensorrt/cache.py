"""Plans on disk: named by what went into them, and able to say why one is built again.

Beside each plan lies a sidecar with the parts of its key in clear. A key that is not
in the cache is compared with the nearest one that is, and the difference is the reason
for the build. A build that failed leaves a sidecar without a plan: its verdict holds
until it is deleted or a part changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.api.workload import model_file
from pytest_mlperf.config.shape_options import format_shapes
from pytest_mlperf.core.whole_file import is_whole
from pytest_mlperf.core.whole_file import note_content
from pytest_mlperf.core.whole_file import write_whole
from pytest_mlperf.engines.calibration import Calibration
from pytest_mlperf.engines.tensorrt import onnx_model
from pytest_mlperf.engines.tensorrt.build_search import BuildFailure
from pytest_mlperf.engines.tensorrt.build_search import find_largest_batch
from pytest_mlperf.engines.tensorrt.build_search import run_build
from pytest_mlperf.engines.tensorrt.builder import PlanRequest
from pytest_mlperf.engines.tensorrt.settings import BuildSettings

RECIPE = 1
"""Counts up when the same request would give another plan."""

Parts = Mapping[str, Mapping[str, str]]
"""Group -> name -> value. The groups are the reasons below."""

REASONS = {
    "workload": "no engine was built for this workload yet",
    "settings": "builder settings changed",
    "version": "another TensorRT",
    "engine": "batch size or another engine setting changed",
    "device": "another device",
}
"""Why a plan is built, beside "it was deleted": NVIDIA's MLPerf Inference v5.1 README,
"Do I need to generate engines each time". The device is ours: plans are not portable.
"""


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """What is known of a plan, as its sidecar has it."""

    facts: Mapping[str, str]
    cuda_graphs: bool = True
    """False where the plan fits its device only without them, or was asked to."""
    failure: str = ""
    """Why there is no plan."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """Where one plan and its sidecar lie."""

    folder: Path
    title: str
    """Readable start of the names: ``model-fp16-b64``."""
    parts: Parts

    @property
    def digest(self) -> str:
        return content_hash(
            {f"{g}.{n}": v for g, names in self.parts.items() for n, v in names.items()}
        )

    @property
    def plan(self) -> Path:
        safe = re.sub(r"[^\w.-]", "_", self.title)
        return self.folder / f"{safe}-{self.digest[:16]}.plan"

    @property
    def sidecar(self) -> Path:
        return self.plan.with_suffix(".json")

    def read(self) -> PlanRecord | None:
        """Return what is known of this plan, or None: not built, deleted, damaged."""
        content = _read_sidecar(self.sidecar)
        if content is None or ("failure" not in content and not is_whole(self.plan)):
            return None
        return PlanRecord(
            content["facts"],
            content.get("cuda_graphs", True),
            content.get("failure", ""),
        )

    def write(self, record: PlanRecord) -> None:
        """Write the sidecar; the plan itself is there already."""
        content = {"parts": self.parts, **asdict(record)}
        if not record.failure:
            del content["failure"]
        text = json.dumps(content, indent=1, sort_keys=True)
        write_whole(self.sidecar, f"{text}\n")

    def explain_miss(self) -> str:
        """Say why this plan is not in the cache."""
        if self.plan.is_file():
            return f"the engine's file was cut: {self.plan.name}"
        if _read_sidecar(self.sidecar) is not None:
            return f"the engine was deleted: {self.plan.name}"
        sidecars = self.folder.glob("*.json") if self.folder.is_dir() else ()
        contents = map(_read_sidecar, sidecars)
        return explain_change(self.parts, [c["parts"] for c in contents if c])


def _read_sidecar(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(content, dict) and isinstance(content.get("parts"), dict)
    return content if whole else None


def compare_parts(old: Parts, new: Parts) -> dict[str, list[str]]:
    """Return group -> ``name old → new`` of each value that differs."""
    changes: dict[str, list[str]] = {}
    for group in REASONS:
        before, after = old.get(group, {}), new.get(group, {})
        lines = [
            f"{name} {before.get(name, 'not set')} → {after.get(name, 'not set')}"
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        ]
        if lines:
            changes[group] = lines
    return changes


def explain_change(wanted: Parts, stored: Iterable[Parts]) -> str:
    """Say what changed since the nearest of the stored keys.

    Nearest is the one of the same workload with the fewest differing values; keys of
    other workloads explain nothing.
    """
    own = [old for old in stored if "workload" not in compare_parts(old, wanted)]
    if not own:
        return f"{REASONS['workload']} (or the cache was cleaned)"
    # The text breaks ties, so that the same key is always named.
    nearest = min(
        own,
        key=lambda old: (
            sum(map(len, compare_parts(old, wanted).values())),
            json.dumps(old, sort_keys=True),
        ),
    )
    changes = compare_parts(nearest, wanted)
    return "; ".join(f"{REASONS[g]}: {', '.join(x)}" for g, x in changes.items())


def key_parts(
    request: BuildRequest,
    settings: BuildSettings,
    max_batch: int,
    calibration: Calibration | None,
    version: str,
    device: str,
) -> Parts:
    """Return everything that decides a plan, by the reason it is built again for."""
    workload, model = request.workload, model_file(request.workload, "tensorrt")
    return {
        "workload": {"digest": workload.digest, "model": model.path.name},
        "engine": {
            "batch": str(max_batch),
            "longest sequence": str(longest_sequence(workload)),
            "precision": request.precision,
            "calibration": calibration.digest[:16] if calibration else "none",
            "kept in fp32": ", ".join(model.keep_fp32) or "nothing",
        },
        "settings": {
            "workspace-mib": str(settings.workspace_mib),
            "level": str(settings.level),
            "plugins": ", ".join(settings.plugins) or "none",
            "cuda-graphs": str(settings.cuda_graphs),
            **_describe_profile(settings),
            "recipe": f"{RECIPE}.{onnx_model.RECIPE}",
        },
        "version": {"tensorrt": version},
        "device": {"name": device},
    }


def _describe_profile(settings: BuildSettings) -> dict[str, str]:
    """Return the profile that was asked for; chosen ones follow from the rest."""
    every = settings.min_shapes, settings.opt_shapes, settings.max_shapes
    given = [format_shapes(shapes) for shapes in every if shapes]  # all or none
    return {"profile": ", ".join(given)} if given else {}


@dataclass(frozen=True, slots=True)
class PlanBuilder:
    """Builds the plan of one key."""

    request: BuildRequest
    entry: CacheEntry
    settings: BuildSettings
    calibration: Calibration | None
    trial: bool
    """Run the plan once: there is a device that takes it."""

    def build(self, max_batch: int) -> PlanRecord:
        """Build the plan; return its record, with the failure where there is none."""
        onnx = self._write_model()
        result = find_largest_batch(
            partial(self._attempt, onnx),
            max_batch,
            cuda_graphs=self.settings.cuda_graphs,
        )
        tried = ", ".join(f"{batch}: {outcome}" for batch, outcome in result.tried)
        facts = {"tried batches": tried} if len(result.tried) > 1 else {}
        failure = result.failure
        if result.plan is None:
            assert failure is not None
            text = str(replace(failure, tried=result.tried))
            return PlanRecord(facts, result.cuda_graphs, text)
        # The search may have ended with a larger batch that failed.
        scratch = self._scratch(result.batch, cuda_graphs=result.cuda_graphs)
        scratch.replace(self.entry.plan)
        note_content(self.entry.plan)
        for leftover in self.entry.folder.glob(f"{self.entry.plan.stem}.b*"):
            leftover.unlink()
        facts |= result.plan
        facts["largest batch"] = f"{result.batch} of {max_batch}"
        if result.batch < max_batch and failure is not None:
            facts["larger batches"] = f"{failure.cause}: {failure.line}"
        facts["cuda graphs"] = "one a batch size" if result.cuda_graphs else "off"
        return PlanRecord(facts, result.cuda_graphs)

    def _write_model(self) -> Path:
        workload, precision = self.request.workload, self.request.precision
        try:
            return onnx_model.write_model(
                workload,
                precision,
                self.calibration,
                self.entry.folder / "models",
                self.request.beat,
            )
        except (RequirementMissing, BuildFailed):
            raise
        except Exception as error:
            name = model_file(workload, "tensorrt").path.name
            raise BuildFailed(
                f"{name} could not be written in {precision} for TensorRT: "
                f"{type(error).__name__}: {error}; try --mlperf-precision fp32. If "
                "that fails too, the model file is damaged"
            ) from error

    def _attempt(
        self, onnx: Path, batch: int, cuda_graphs: bool
    ) -> dict[str, str] | BuildFailure:
        request = PlanRequest(
            onnx=str(onnx),
            plan=str(self._scratch(batch, cuda_graphs=cuda_graphs)),
            timing_cache=str(self.entry.folder / "timing.cache"),
            max_batch=batch,
            max_length=longest_sequence(self.request.workload),
            settings=replace(self.settings, cuda_graphs=cuda_graphs),
            trial=self.trial,
        )
        return run_build(request, self.request.beat)

    def _scratch(self, batch: int, *, cuda_graphs: bool) -> Path:
        variant = f"b{batch}{'' if cuda_graphs else '-no-graphs'}"
        return self.entry.folder / f"{self.entry.plan.stem}.{variant}.making"


def longest_sequence(workload: TensorWorkload) -> int:
    """Return the longest sequence a plan must take; 0 where length does not vary."""
    if not model_file(workload, "tensorrt").dynamic_length:
        return 0
    lengths = workload.dataset.lengths
    assert lengths is not None, "a dynamic length is the length of samples"
    return int(lengths.max())
