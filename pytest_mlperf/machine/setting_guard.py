"""A setting of this machine for the length of a block, restored whatever happens.

A process of its own (``setting_reset``) restores it, so that it happens even when this
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
from pytest_mlperf.machine import setting_reset

TIMEOUT_S = 30.0


class NoAnswer(RunRefused):
    """The program that changes a setting did not answer in time."""


def run_program(command: Sequence[str], purpose: str, instead: str) -> str:
    """Return the last line that a program prints, but nvidia-smi's ``All done.``.

    ``instead``: what else the user can do. Raises ``RunRefused`` when it fails;
    nvidia-smi ends with status 0 where a device does not support a setting.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(
            f"{purpose} failed: {error}; see whether it answers at all, or {instead}"
        ) from None
    except OSError as error:
        raise RunRefused(
            f"{purpose} failed: {error}; {command[0]}, which should be on PATH, does "
            f"that; or {instead}"
        ) from None
    lines = [x.strip() for x in (done.stdout + done.stderr).splitlines() if x.strip()]
    output = " ".join(lines)[:300]
    if done.returncode or "not supported" in output.lower():
        raise RunRefused(
            f"{purpose} failed: {' '.join(command)} ended with status "
            f"{done.returncode} ({output or 'no output'}); run as root, or {instead}"
        )
    answers = [line for line in lines if line != "All done."]
    return answers[-1] if answers else "done"


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
        [sys.executable, "-P", str(Path(setting_reset.__file__)), *restore],
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
    command = setting_reset.RESET
    try:
        guard.stdout.readline()  # from here on it restores whatever happens
        try:
            facts[name] = apply()
        except RunRefused as refused:
            # A refusal has changed nothing, and a reset would be a change. A command
            # that never answered, or was interrupted, may have changed the setting.
            if not isinstance(refused, NoAnswer):
                command = setting_reset.LEAVE
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
