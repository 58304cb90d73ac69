"""How long a machine held a real LoadGen run up, so that no test judges the machine.

A run that is to keep a bound of milliseconds cannot keep it where something else has
the processor for longer. Its script has a thread that ticks; how long the longest tick
was late, or all of those that were late by 10 ms, is written beside the logs.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

FILE = "pause.txt"
TICK = """
import threading as pause_threading, time as pause_time
pause_over = pause_threading.Event()

def watch_pauses(path, longest=0.0, total=0.0):
    while not pause_over.is_set():
        began = pause_time.monotonic()
        pause_time.sleep(0.001)
        pause = pause_time.monotonic() - began - 0.001
        longest = max(longest, pause)
        total += pause if pause > 0.01 else 0.0
    with open(path, "w") as stream:
        stream.write(str(max(longest, total)))

def begin_watch(folder):
    watch = pause_threading.Thread(target=watch_pauses, args=(f"{folder}/pause.txt",))
    watch.start()
    return watch

def end_watch(watch):
    pause_over.set()
    watch.join()
"""
"""What a script runs first; it calls ``begin_watch`` and ``end_watch``."""


def find_longest_s(folders: Iterable[Path]) -> float:
    """Return how long one of the runs below some folders was held up, in seconds."""
    files = [file for folder in folders for file in folder.rglob(FILE)]
    return max((float(file.read_text()) for file in files), default=0.0)
