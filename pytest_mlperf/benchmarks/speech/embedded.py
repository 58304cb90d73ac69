"""Clips that ship with the project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.speech.recordings import Recording


def open_clips(
    folder: Path, manifest: Mapping[str, Any], script: str
) -> list[Recording]:
    """Return the clips of a shipped manifest.

    Raises ``RequirementMissing`` for an absent file, ``ValueError`` for a changed one.
    """
    return [
        Recording(
            files.check_embedded(folder / clip["file"], clip["sha256"], script),
            clip["transcript"],
            clip["samples"],
        )
        for clip in manifest["clips"]
    ]
