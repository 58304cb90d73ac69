"""Locks a GPU's clock for a run where somebody asks for it, and resets it afterwards.

By ``nvidia-smi``, which asks for root. The one who resets is a process of its own
(``clock_guard``): it does so when this one is done, and when this one is dead. Neither
tells what clocks were locked to before, so clocks that somebody has locked already are
not touched.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import closing
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mlperf.core.errors import Refused
from pytest_mlperf.machine import clock_reset
from pytest_mlperf.machine.nvml import LIBRARY
from pytest_mlperf.machine.nvml import Nvml
from pytest_mlperf.machine.nvml import NvmlError
from pytest_mlperf.machine.nvml import parent_gpu

if TYPE_CHECKING:
    from pytest_mlperf.config.options import Options
    from pytest_mlperf.machine.system import System

HIGHEST = "max"
"""Stands for the highest clock that the GPU names."""
FEWEST_MHZ, MOST_MHZ = 100, 10_000
TIMEOUT_S = 30.0
_PERMISSION = ("permission", "not permitted", "insufficient")


class Unanswered(Refused):
    """nvidia-smi was asked and said nothing in time."""


def parse(text: str) -> str:
    """Return MHz, or ``HIGHEST``; ``ValueError`` says what it should be."""
    wish = text.strip()
    if wish == HIGHEST or (wish.isdecimal() and FEWEST_MHZ <= int(wish) <= MOST_MHZ):
        return wish
    raise ValueError(f"max, or MHz from {FEWEST_MHZ} to {MOST_MHZ}")


def wished(options: Options, system: System) -> str | None:
    """Return what is asked for: the option, else the system file; None: nothing."""
    if options.rehearsal:
        return None
    if options.lock_clocks is not None:
        return options.lock_clocks
    wish = system.settings.get("lock_clocks")
    if wish is None or wish is False:
        return None
    return HIGHEST if wish is True else str(wish)


@contextmanager
def locked(wish: str | None, visible: str) -> Iterator[Mapping[str, str]]:
    """Lock a GPU's clock while the block runs; yields the facts of the verdict.

    ``visible``: the device's ``CUDA_VISIBLE_DEVICES`` value. Raises ``Refused`` where
    nothing was changed, with what to do.
    """
    if wish is None:
        yield {}
        return
    uuid = _card(visible)
    _refuse_if_set(uuid)
    mhz = _highest(uuid) if wish == HIGHEST else int(wish)
    reset = ["nvidia-smi", "-i", uuid, "-rgc"]
    guard = subprocess.Popen(
        [sys.executable, "-P", str(Path(clock_reset.__file__)), *reset],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Out of Ctrl-C's way, and of whatever ends this process's group.
        start_new_session=True,
    )
    assert guard.stdin is not None
    assert guard.stdout is not None
    facts: dict[str, str] = {}
    word = clock_reset.RESET
    try:
        guard.stdout.readline()  # it stands guard from here on
        lock = ["nvidia-smi", "-i", uuid, "-lgc", f"{mhz},{mhz}"]
        try:
            said = _asked(lock, f"locking the clock of {uuid} at {mhz} MHz", uuid, mhz)
        except Refused as refused:
            # A refused wish has changed nothing, and a reset is a change too. Whoever
            # never answered, or was interrupted, may have done it.
            if not isinstance(refused, Unanswered):
                word = clock_reset.LEAVE
            raise
        facts["clocks locked"] = f"{mhz} MHz for this run ({said})"
        yield facts
    finally:
        guard.stdin.write(word)
        guard.stdin.close()
        told = guard.stdout.read().strip()
        guard.stdout.close()
        if guard.wait():
            told = f"; NOT RESET: {told or 'no reason'}; run {' '.join(reset)} as root"
        else:
            told = ", then reset"
        if facts:
            facts["clocks locked"] += told


@contextmanager
def all_locked(wish: str | None, visible: Sequence[str]) -> Iterator[Mapping[str, str]]:
    """Lock the clocks of all of a run's GPUs, as ``locked`` does of one; the facts are
    there once the block has ended.
    """
    facts: dict[str, str] = {}
    with ExitStack() as stack:
        each = [stack.enter_context(locked(wish, one)) for one in visible or [""]]
        yield facts
    # Only now is it known whether all were reset.
    for number, said in enumerate(each):
        front = f"device {number} " if len(each) > 1 else ""
        facts |= {f"{front}{name}": text for name, text in said.items()}


def _card(visible: str) -> str:
    if not visible:
        raise Refused(
            "--mlperf-lock-clocks: there is no GPU to lock the clock of; leave the "
            "option (or lock_clocks in the system file) away"
        )
    if not visible.startswith("MIG-"):
        return visible
    parent = parent_gpu(visible)
    raise Refused(
        f"--mlperf-lock-clocks: {visible} is a part of the GPU {parent or 'it is on'}, "
        "whose clock its other instances share; leave the option away, or measure on "
        "the whole GPU"
    )


def _refuse_if_set(uuid: str, library: str = LIBRARY) -> None:
    """Clocks that somebody has set cannot be read back, so they are left alone."""
    with suppress(NvmlError), closing(Nvml(uuid, library)) as gpu:
        if gpu.read().locked:
            raise Refused(
                f"--mlperf-lock-clocks: somebody has set the clocks of {uuid} already "
                "(NVML's reason: applications clocks setting), and what they were set "
                f"to would be lost; leave the option away, or: sudo nvidia-smi -i "
                f"{uuid} -rgc"
            )


def _highest(uuid: str) -> int:
    query = ["nvidia-smi", "-i", uuid, "--query-gpu=clocks.max.sm"]
    query.append("--format=csv,noheader,nounits")
    said = _asked(query, f"the highest clock of {uuid}", uuid, None)
    if not said.isdecimal():
        raise Refused(
            f"{' '.join(query)}: found {said!r}, but it should be MHz; name them: "
            "--mlperf-lock-clocks MHZ"
        )
    return int(said)


def _asked(command: list[str], doing: str, uuid: str, mhz: int | None) -> str:
    """Return the last line that nvidia-smi says; ``Refused`` where it says no."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unanswered(
            f"{doing} failed: {error}; see whether nvidia-smi answers at all, or leave "
            "the option away"
        ) from None
    except OSError as error:
        raise Refused(
            f"{doing} failed: {error}; clocks are locked through nvidia-smi, which "
            "should be on PATH; or leave the option away"
        ) from None
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    lines = [line for line in lines if line]
    said = " ".join(lines)[:300]
    if done.returncode == 0 and "not supported" not in said.lower():
        known = [line for line in lines if line != "All done."]
        return known[-1] if known else "done"
    if mhz is not None and any(word in said.lower() for word in _PERMISSION):
        remedy = (
            "run as root, or lock it yourself before the session and reset it after: "
            f"sudo nvidia-smi -i {uuid} -lgc {mhz},{mhz}"
        )
    else:
        remedy = "look at nvidia-smi -q -d SUPPORTED_CLOCKS; or leave the option away"
    raise Refused(
        f"{doing} failed: {' '.join(command)} ended with status {done.returncode} "
        f"({said or 'no output'}); {remedy}"
    )
