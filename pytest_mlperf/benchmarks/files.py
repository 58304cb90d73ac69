"""Files that ship with this package, and the packages that read them."""

from __future__ import annotations

import hashlib
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.samples import Array
from pytest_mlperf.core.whole_file import replace_whole

EMBEDDED = Path(__file__).resolve().parents[1] / "embedded"
"""Folder of the embedded workloads, one sub-folder a benchmark."""
USE_EMBEDDED = "choose --mlperf-workload embedded, which needs no download"
LLM_EXTRA = "pip install 'pytest-mlperf[llm]'"
SPEECH_EXTRA = "pip install 'pytest-mlperf[speech]'"


def find_embedded(scratch: Path | None, benchmark: str) -> Path:
    """Return a stand-in's folder: ``embedded/BENCHMARK`` of the scratch folder, where a
    script of ``scripts/`` made another one, or else the package's own.
    """
    made = scratch / "embedded" / benchmark if scratch else None
    if made is not None and (made / "manifest.json").is_file():
        return made
    return EMBEDDED / benchmark


def read_manifest(folder: Path, script: str) -> dict[str, Any]:
    """Return a shipped folder's manifest, once the files that it names are its own.

    ``sha256`` there is file -> hash. Raises what ``check_embedded`` raises.
    """
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    manifest: dict[str, Any] = json.loads(text)
    for name, sha256 in manifest["sha256"].items():
        check_embedded(folder / name, sha256, script)
    return manifest


def check_embedded(path: Path, sha256: str, script: str) -> Path:
    """Return a shipped file once its content is the one that its manifest records.

    Raises ``RequirementMissing`` for an absent file, ``ValueError`` for a changed one.
    """
    if not path.is_file():
        raise RequirementMissing(
            f"{path} is not there, but is part of this package; install it again"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != sha256:
        raise ValueError(
            f"{path} has sha256 {digest}, but should be {sha256} [manifest.json]: its"
            " answers would not be comparable. Install the package again, or make the"
            f" files and their manifest together with scripts/{script}."
        )
    return path


def save_array(path: Path, values: Array) -> None:
    """Write an array as NumPy's own file, whole or not at all. Raises ``OSError``."""
    with replace_whole(path) as partial, partial.open("wb") as file:
        np.save(file, values)


def unknown_kind(benchmark: str, kind: str, *kinds: str) -> ValueError:
    """Return the error for a kind of workload that a benchmark does not have."""
    return ValueError(
        f"{benchmark} has no {kind!r} workload, but has {', '.join(map(repr, kinds))};"
        " choose one with --mlperf-workload"
    )


def require_package(
    package: str,
    consequence: str,
    remedy: str = "pip install 'pytest-mlperf[onnxruntime]'",
    module: str = "",
) -> None:
    """Raise ``RequirementMissing`` unless the package can be imported.

    ``consequence`` says what is not possible without it.
    """
    try:
        import_module(module or package)
    except ImportError as error:
        raise RequirementMissing(
            f"the package {package} is not installed, and {consequence} without it;"
            f" {remedy}."
        ) from error
