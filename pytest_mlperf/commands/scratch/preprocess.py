"""Makes the items of a preprocessing step side by side, where they are not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import as_completed
from multiprocessing import get_context
from pathlib import Path

from pytest_mlperf.api.benchmark import Preprocessing
from pytest_mlperf.machine.process import die_with_parent

Show = Callable[[int, int | None, str], None]


def make_items(step: Preprocessing, scratch: Path, show: Show) -> str:
    """Make every item in as many processes as there are CPUs; return the place.

    Raises what the first item that fails raises, once those that run are done.
    """
    items = list(step.list_items(scratch))
    todo = [item for item in items if not step.is_made(scratch, item)]
    show(len(items) - len(todo), len(items), "items")
    if todo:
        workers = min(len(os.sched_getaffinity(0)), len(todo))
        context = get_context("spawn")
        with ProcessPoolExecutor(workers, context, die_with_parent) as pool:
            running = [pool.submit(step.make, scratch, item) for item in todo]
            try:
                for count, one in enumerate(as_completed(running), start=1):
                    one.result()
                    show(len(items) - len(todo) + count, len(items), "items")
            finally:
                for one in running:
                    one.cancel()
    return f"{step.finish(scratch)} ({len(todo)} of {len(items)} made now)"
