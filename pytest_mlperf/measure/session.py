"""What measuring needs to know of a session, with or without pytest."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from datetime import datetime
from pathlib import Path

from pytest_mlperf.api.observer import Observer
from pytest_mlperf.config.options import Options
from pytest_mlperf.machine.system import System
from pytest_mlperf.machine.system import detect_system
from pytest_mlperf.measure.baseline import Baseline
from pytest_mlperf.measure.observe import find_observers
from pytest_mlperf.reporting.progress import Progress
from pytest_mlperf.reporting.results import claim_folder


def ignore_progress(progress: Progress) -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True)
class MeasureSession:
    """The user's choices, the machine, and where results go."""

    options: Options
    system: System
    reports: Path
    """Folder of the session; each run gets a folder below its ``logs``."""
    observers: Mapping[str, Observer] = field(default_factory=dict)
    """Name -> who watches every run."""
    on_progress: Callable[[Progress], None] = ignore_progress
    baseline: Baseline | None = None
    """An earlier session: cells run by its tuning, and are compared with it."""
    worker: int = 0
    """Which of ``workers`` processes this is; each has its share of the devices."""
    workers: int = 1

    @classmethod
    def start(
        cls,
        options: Options,
        *,
        folder: Path | None = None,
        on_progress: Callable[[Progress], None] = ignore_progress,
    ) -> MeasureSession:
        """Return a session on this machine, alone on all of its devices.

        ``folder``: of the system files' folder ``systems``; the working directory where
        it is None. Makes the reports folder. Raises ``ValueError`` for a bad system
        file or name, ``OSError`` where the folder cannot be made.
        """
        system = detect_system(
            options.system,
            rootdir=folder or Path.cwd(),
            numa_config=options.numa_config,
        )
        reports = claim_folder(options.reports, datetime.now())
        observers = find_observers(options, system, str(reports.resolve()))
        return cls(options, system, reports, observers, on_progress)
