"""Files of the engine onnxruntime: models optimized for a machine."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.core.whole_file import note_content
from pytest_mlperf.core.whole_file import write_whole
from pytest_mlperf.engines.onnx_precision import copy_model
from pytest_mlperf.engines.onnx_precision import has_weights_beside
from pytest_mlperf.engines.onnx_precision import quantize_model

OPENVINO = "OpenVINOExecutionProvider"
COMPILING = (OPENVINO,)
"""Providers that compile a graph when a session is opened: their nodes cannot be
written into a file, and onnxruntime's own optimizations would hide some from them."""


def write_build(model: ModelFile, precision: str, provider: str, path: Path) -> None:
    """Write a model that onnxruntime has optimized for this machine, in a precision.

    For a provider that compiles, the model is written as it is.
    """
    import onnxruntime as ort

    scratch, quantized = path.with_suffix(".making"), path.with_suffix(".int8")
    source, whole = model.path, path.with_suffix(".whole")
    if precision == "int8":
        quantize_model(model, quantized)
        source = quantized
    elif has_weights_beside(source):
        # What onnxruntime writes would look for them beside itself.
        copy_model(source, whole)
        source = whole
    if provider in COMPILING:
        copy_model(source, scratch)
    else:
        options = ort.SessionOptions()
        options.optimized_model_filepath = os.fspath(scratch)
        options.log_severity_level = 3  # it warns that the file is this machine's
        ort.InferenceSession(source, options, providers=[provider])
    scratch.replace(path)
    note_content(path)
    quantized.unlink(missing_ok=True)
    whole.unlink(missing_ok=True)


def write_sidecar(
    path: Path,
    request: BuildRequest,
    graphs: Mapping[str, ModelFile],
    parts: Mapping[str, object],
) -> None:
    """Say in clear whose build lies beside it, for people and for ``explain_miss``."""
    content = {
        "title": request.workload.title,
        "kind": request.workload.kind,
        "model": ", ".join(graph.path.name for graph in graphs.values()),
        **{name: str(value) for name, value in parts.items()},
    }
    write_whole(path, json.dumps(content, indent=1) + "\n")


def explain_miss(
    path: Path, title: str, parts: Mapping[str, object], graph: Path
) -> str:
    """Return why the ``graph`` of a sidecar's build is not in the cache.

    The nearest build of a workload with this title tells what changed since.
    """
    if graph.is_file():
        return "its file was damaged"
    if path.is_file():
        return "it was deleted"
    builds = [one for one in map(read_sidecar, path.parent.glob("*.json")) if one]
    changes = [
        [
            f"{name} {_cut(old.get(name))} → {_cut(new)}"
            for name, new in parts.items()
            if old.get(name) != str(new)
        ]
        for old in builds
        if old.get("title") == title
    ]
    # The text breaks ties, so that the same build is always named.
    nearest = min(changes, key=lambda one: (len(one), one), default=None)
    return ", ".join(nearest) if nearest else "none of this workload was there"


def _cut(value: object) -> str:
    """Return the beginning of a value: digests are long."""
    return "none" if value is None else str(value)[:12]


def read_sidecar(path: Path) -> dict[str, str] | None:
    """Return what a sidecar says; None for one that is damaged or not there."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
