"""Locks a GPU's clock during a run on request, and resets it afterwards.

Both use ``nvidia-smi``, which requires root (``setting_guard``). Nothing reports the
values that clocks were locked to, so clocks that are locked already are not touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import closing
from contextlib import contextmanager
from contextlib import suppress

from pytest_mlperf.config.option_types import HIGHEST_CLOCK
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.machine.nvml import LIBRARY
from pytest_mlperf.machine.nvml import Nvml
from pytest_mlperf.machine.nvml import NvmlError
from pytest_mlperf.machine.nvml import find_parent_gpu
from pytest_mlperf.machine.setting_guard import hold_setting
from pytest_mlperf.machine.setting_guard import run_program


def choose_clock(
    option: str | None, setting: bool | int | None, *, rehearsal: bool = False
) -> str | None:
    """Return the requested clock: the option's, else the system file's, else None.

    ``setting``: ``lock_clocks`` of the system file; True stands for the highest clock.
    A rehearsal locks nothing.
    """
    if rehearsal:
        return None
    if option is not None:
        return option
    if setting is None or setting is False:
        return None
    return HIGHEST_CLOCK if setting is True else str(setting)


@contextmanager
def lock_clock(clock: str | None, visible: str) -> Iterator[Mapping[str, str]]:
    """Lock a GPU's clock while the block runs; yields the facts of the verdict.

    ``clock``: MHz, or ``HIGHEST_CLOCK``; None does nothing. ``visible``: the device's
    ``CUDA_VISIBLE_DEVICES`` value. Raises ``RunRefused`` when nothing could be locked.
    """
    if clock is None:
        yield {}
        return
    uuid = _find_gpu(visible)
    _refuse_if_set(uuid)
    mhz = _read_highest_mhz(uuid) if clock == HIGHEST_CLOCK else int(clock)

    def lock() -> str:
        command = ["nvidia-smi", "-i", uuid, "-lgc", f"{mhz},{mhz}"]
        purpose = f"locking the clock of {uuid} at {mhz} MHz"
        instead = (
            "lock it yourself before the session and reset it after (sudo "
            f"{' '.join(command)}; nvidia-smi -q -d SUPPORTED_CLOCKS lists clocks), or "
            "omit the option"
        )
        answer = run_program(command, purpose, instead)
        return f"{mhz} MHz for this run ({answer})"

    reset = ["nvidia-smi", "-i", uuid, "-rgc"]
    with hold_setting("clocks locked", lock, reset, "reset") as facts:
        yield facts


@contextmanager
def lock_clocks(
    clock: str | None, visible: Sequence[str]
) -> Iterator[Mapping[str, str]]:
    """Lock the clocks of several GPUs; the facts are complete after the block."""
    facts: dict[str, str] = {}
    with ExitStack() as stack:
        each = [stack.enter_context(lock_clock(clock, one)) for one in visible or [""]]
        yield facts
    # Whether all were reset is known only now.
    for number, own in enumerate(each):
        front = f"device {number} " if len(each) > 1 else ""
        facts |= {f"{front}{name}": text for name, text in own.items()}


def _find_gpu(visible: str) -> str:
    if not visible:
        raise RunRefused(
            "--mlperf-lock-clocks: there is no GPU to lock the clock of; omit the "
            "option (or lock_clocks in the system file)"
        )
    if not visible.startswith("MIG-"):
        return visible
    parent = find_parent_gpu(visible)
    raise RunRefused(
        f"--mlperf-lock-clocks: {visible} is a part of the GPU {parent or 'it is on'}, "
        "whose clock its other instances share; omit the option, or measure on the "
        "whole GPU"
    )


def _refuse_if_set(uuid: str, library: str = LIBRARY) -> None:
    """Raise ``RunRefused`` when the clocks are set already: they cannot be restored."""
    with suppress(NvmlError), closing(Nvml(uuid, library)) as gpu:
        if gpu.read().locked:
            raise RunRefused(
                f"--mlperf-lock-clocks: somebody has set the clocks of {uuid} already "
                "(NVML's reason: applications clocks setting), and what they were set "
                f"to would be lost; omit the option, or: sudo nvidia-smi -i {uuid} -rgc"
            )


def _read_highest_mhz(uuid: str) -> int:
    query = ["nvidia-smi", "-i", uuid, "--query-gpu=clocks.max.sm"]
    query.append("--format=csv,noheader,nounits")
    instead = "name MHz: --mlperf-lock-clocks MHZ"
    answer = run_program(query, f"the highest clock of {uuid}", instead)
    if not answer.isdecimal():
        raise RunRefused(
            f"{' '.join(query)}: found {answer!r}, but it should be MHz; {instead}"
        )
    return int(answer)
