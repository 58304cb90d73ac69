"""A setting of this machine for the length of a block, restored whatever happens.

A process of its own (``clock_reset``) restores it, so that it happens even when this
process dies.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.machine import clock_reset


class NoAnswer(RunRefused):
    """The program that changes a setting did not answer in time."""


@contextmanager
def hold_setting(
    name: str, apply: Callable[[], str], restore: Sequence[str], end: str
) -> Iterator[Mapping[str, str]]:
    """Apply a setting while the block runs; yields the verdict's fact of that name.

    ``apply`` changes it and returns what became of it, or raises ``RunRefused`` with
    nothing changed. ``restore``: the command that undoes it. ``end``: what the fact
    calls that: ``reset``. The fact is complete after the block.
    """
    guard = subprocess.Popen(
        [sys.executable, "-P", str(Path(clock_reset.__file__)), *restore],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Neither Ctrl-C nor a signal to this process's group may end it.
        start_new_session=True,
    )
    assert guard.stdin is not None
    assert guard.stdout is not None
    facts: dict[str, str] = {}
    command = clock_reset.RESET
    try:
        guard.stdout.readline()  # from here on it restores whatever happens
        try:
            facts[name] = apply()
        except RunRefused as refused:
            # A refusal has changed nothing, and a reset would be a change. A command
            # that never answered, or was interrupted, may have changed the setting.
            if not isinstance(refused, NoAnswer):
                command = clock_reset.LEAVE
            raise
        yield facts
    finally:
        guard.stdin.write(command)
        guard.stdin.close()
        output = guard.stdout.read().strip()
        guard.stdout.close()
        if guard.wait():
            reason = output or "no reason"
            done = f"; NOT {end.upper()}: {reason}; run {' '.join(restore)} as root"
        else:
            done = f", then {end}"
        if facts:
            facts[name] += done
