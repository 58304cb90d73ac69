"""What judging whole trees of results costs: time, memory, and whether it streams.

``python -m perf.explain_trees TREE…`` runs ``pytest-mlperf explain TREE… --json`` with
its error stream on a terminal, and prints runs, wall and CPU seconds, the memory of all
its processes, when verdicts came, and the progress bar. Exit status: 0 where time and
memory are within ``--seconds`` and ``--memory``, else 1.
"""

from __future__ import annotations

import argparse
import os
import pty
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from threading import Event
from threading import Thread

RECORD = b'\n  "path": '
"""What each verdict of the list has once, in this depth."""
EVERY_S = 0.2


@dataclass(slots=True)
class Watched:
    """What a run of the command took."""

    done_s: list[float] = field(default_factory=list)
    """When each verdict had been printed, seconds after the start."""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    shared_once_mb: float = 0.0
    """Memory of all processes at most, a page that several share counted once."""
    resident_mb: float = 0.0
    """The same, a shared page counted in each."""
    bars: list[str] = field(default_factory=list)
    """What the terminal showed, one after another."""


def list_processes(pid: int) -> Iterator[int]:
    """Yield a process and all that it started, while they live."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from list_processes(int(child))


def sample_memory(pid: int, watched: Watched, over: Event) -> None:
    """Keep the largest memory that is seen, until it is over."""
    while not over.wait(EVERY_S):
        pss = rss = 0.0
        for one in list_processes(pid):
            try:
                lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            sizes = {line.split()[0]: line.split()[1] for line in lines[1:]}
            pss += int(sizes.get("Pss:", 0)) / 1024
            rss += int(sizes.get("Rss:", 0)) / 1024
        watched.shared_once_mb = max(watched.shared_once_mb, pss)
        watched.resident_mb = max(watched.resident_mb, rss)


def read_bars(terminal: int, watched: Watched) -> None:
    """Keep every line that the command writes over the one before."""
    text = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # its other end is closed
            break
        if not part:
            break
        text += part
    bars = text.decode(errors="replace").replace("\x1b[K", "").split("\r")
    watched.bars = [bar.strip() for bar in bars if bar.strip()]


def watch(trees: list[Path]) -> Watched:
    """Judge the trees, and return what that took."""
    watched, over = Watched(), Event()
    terminal, theirs = pty.openpty()
    script = (
        "import sys; from pytest_mlperf.commands.main import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", script, "explain", *map(str, trees), "--json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    threads = [
        Thread(target=sample_memory, args=(process.pid, watched, over)),
        Thread(target=read_bars, args=(terminal, watched)),
    ]
    for thread in threads:
        thread.start()
    assert process.stdout is not None
    tail = b""
    while part := os.read(process.stdout.fileno(), 1 << 16):
        text = tail + part
        now = time.perf_counter() - started
        watched.done_s += [now] * text.count(RECORD)
        tail = text[-(len(RECORD) - 1) :]
    process.wait()
    watched.wall_s = time.perf_counter() - started
    over.set()
    for thread in threads:
        thread.join()
    os.close(terminal)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    watched.cpu_s = sum(
        getattr(after, name) - getattr(before, name)
        for name in ("ru_utime", "ru_stime")
    )
    return watched


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trees", nargs="+", type=Path, metavar="TREE")
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="wall time allowed"
    )
    parser.add_argument("--memory", type=float, default=300.0, help="MB allowed")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    watched = watch(arguments.trees)
    runs = len(watched.done_s)
    if not runs:
        parser.error("no run found below " + ", ".join(map(str, arguments.trees)))
    cpus, done = len(os.sched_getaffinity(0)), watched.done_s
    told = {
        "runs": f"{runs:,} on {cpus} CPUs; load before {load:.2f}",
        "wall": f"{watched.wall_s:.1f} s; allowed {arguments.seconds:g}",
        "CPU": f"{watched.cpu_s:.1f} s",
        "memory": f"{watched.shared_once_mb:.0f} MB; allowed {arguments.memory:g}",
        "shared pages in each": f"{watched.resident_mb:.0f} MB",
        "first verdict after": f"{done[0]:.1f} s",
        "middle verdict after": f"{done[runs // 2]:.1f} s",
        "last verdict after": f"{done[-1]:.1f} s",
        "progress bar": f"{len(watched.bars)} times; last: {watched.bars[-1:]}",
    }
    for name, text in told.items():
        print(f"{name:22}{text}")  # noqa: T201
    fits = watched.wall_s <= arguments.seconds
    return int(not fits or watched.shared_once_mb > arguments.memory)


if __name__ == "__main__":
    sys.exit(main())
