"""Where the files of an endpoints result lie, and which folders hold one."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

CONFIGS = ("config.yaml", "config.yml")
"""The first that is there counts (checker: parsers/endpoints_parser.py)."""
PERFORMANCE, ACCURACY = "performance", "accuracy"
SUMMARY = "result_summary.json"
SCORES = "accuracy_results.json"
FILES = {PERFORMANCE: SUMMARY, ACCURACY: SCORES}
"""Folder of a run -> the file that the client writes there."""
LOADGEN = ("mlperf_log_summary.txt", "mlperf_log_detail.txt")
AUDIT = "audit"
"""Folder beside the runs, of the audit's own runs and its verdict."""


def find_home(folder: Path) -> Path:
    """Return the folder of a run's config.yaml: the run's own, or one above it.

    The client's publishing script copies the configuration into ``performance/run_1``,
    where the official checker does not look.
    """
    above = folder.parent.parent if folder.name.startswith("run_") else folder.parent
    return next((home for home in (folder, above) if find_config(home)), above)


def find_config(home: Path) -> Path | None:
    """Return the configuration in a folder; None without one."""
    paths = (home / name for name in CONFIGS)
    return next((path for path in paths if path.is_file()), None)


def is_result(folder: Path, names: Collection[str]) -> bool:
    """True for the folder of an endpoints run, by the names in it.

    Without its file, too, where the configuration beside it says whose run it was.
    LoadGen's logs decide otherwise, as the official checker has it.
    """
    if any(name in names for name in LOADGEN):
        return False
    if any(name in names for name in FILES.values()):
        return True
    if any(name.startswith("run_") for name in names):
        return False
    return folder.name in FILES and find_config(folder.parent) is not None
