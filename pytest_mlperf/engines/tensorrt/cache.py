"""Plans on disk: named by what went into them, and able to say why one is built again.

Beside each plan lies a sidecar with the parts of its key in clear. A wanted key that
is not there is compared with the nearest one that is, and the difference is the reason.
A build that failed leaves a sidecar without a plan: its verdict holds until it is
deleted or a part changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlperf.api.engine import content_hash

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


def digest(parts: Parts) -> str:
    """Return the content hash of a key."""
    flat = {f"{g}.{n}": v for g, names in parts.items() for n, v in names.items()}
    return content_hash(flat)


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one plan and its sidecar lie."""

    folder: Path
    title: str
    """Readable start of the names: ``model-fp16-b64``."""
    parts: Parts

    @property
    def digest(self) -> str:
        return digest(self.parts)

    @property
    def plan(self) -> Path:
        safe = re.sub(r"[^\w.-]", "_", self.title)
        return self.folder / f"{safe}-{self.digest[:16]}.plan"

    @property
    def sidecar(self) -> Path:
        return self.plan.with_suffix(".json")

    def read(self) -> dict[str, Any] | None:
        """Return what is known of this plan, or None: not built, deleted, damaged."""
        found = _read(self.sidecar)
        if found is None or ("failure" not in found and not self.plan.is_file()):
            return None
        return found

    def write(self, known: Mapping[str, Any]) -> None:
        """Keep what is known of this plan; the plan itself is there already."""
        text = json.dumps({"parts": self.parts, **known}, indent=1, sort_keys=True)
        scratch = self.sidecar.with_suffix(".writing")
        scratch.write_text(f"{text}\n", encoding="utf-8")
        scratch.replace(self.sidecar)

    def reason(self) -> str:
        """Say why this plan is not to be had from the cache."""
        if _read(self.sidecar) is not None:
            return f"the engine was deleted: {self.plan.name}"
        sidecars = self.folder.glob("*.json") if self.folder.is_dir() else ()
        stored = [found["parts"] for path in sidecars if (found := _read(path))]
        return why(self.parts, stored)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and isinstance(found.get("parts"), dict)
    return found if whole else None


def changes(old: Parts, new: Parts) -> dict[str, list[str]]:
    """Return group -> ``name old → new`` of each value that differs."""
    found: dict[str, list[str]] = {}
    for group in REASONS:
        before, after = old.get(group, {}), new.get(group, {})
        said = [
            f"{name} {before.get(name, 'not set')} → {after.get(name, 'not set')}"
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        ]
        if said:
            found[group] = said
    return found


def why(wanted: Parts, stored: Iterable[Parts]) -> str:
    """Say what changed since the nearest of the stored keys.

    Nearest is the one of the same workload with the fewest differing values; keys of
    other workloads explain nothing.
    """
    own = [old for old in stored if "workload" not in changes(old, wanted)]
    if not own:
        return f"{REASONS['workload']} (or the cache was cleaned)"
    # Sorted, so that of equally near ones always the same is named.
    nearest = min(
        own,
        key=lambda old: (
            sum(map(len, changes(old, wanted).values())),
            json.dumps(old, sort_keys=True),
        ),
    )
    found = changes(nearest, wanted)
    return "; ".join(f"{REASONS[g]}: {', '.join(said)}" for g, said in found.items())
