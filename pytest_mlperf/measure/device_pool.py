"""What a pytest process holds to measure: devices by lease, and the runner on them."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager
from pathlib import Path

from pytest_mlperf.machine.lease import FOLDER
from pytest_mlperf.machine.lease import lease
from pytest_mlperf.machine.lease import list_locks
from pytest_mlperf.machine.nvml import find_parent_gpu
from pytest_mlperf.measure.exclusive import ExclusiveLock
from pytest_mlperf.measure.placement import Placement
from pytest_mlperf.runner.runner import Runner

TURNOVER_S = 120.0
"""How long a worker's own session may take to let go of its devices: it measures
nothing meanwhile, and gives them up before its next item or at its end."""


class DevicePool:
    """Devices and runner, kept from item to item while nobody else is to have them."""

    def __init__(
        self,
        make: Callable[[Placement], Runner],
        session: str,
        *,
        lock: ExclusiveLock | None = None,
        wait_s: float = 0.0,
        say: Callable[[str], None] = lambda _: None,
        folder: Path = FOLDER,
    ) -> None:
        self._make, self._session = make, session
        self._lock, self._wait_s, self._say = lock, wait_s, say
        self._folder = folder
        self._held: Placement | None = None
        self._runner: Runner | None = None
        self._stack = ExitStack()
        self._locks = ExitStack()

    @contextmanager
    def on(
        self, wanted: Placement, *, following: Placement | None = None
    ) -> Iterator[Runner]:
        """Hold an item's devices while the block runs; yields the runner on them.

        ``following``: what this process's next item takes. Raises ``DeviceHeld`` and
        ``LeaseError``.
        """
        if not (wanted.alone and self._held == wanted):  # else it is shut behind us
            if self._held and self._held.alone:
                self.leave()  # first: who comes in wants devices of it
            self._locks.close()
            if self._lock is not None:
                enter = self._lock.alone if wanted.alone else self._lock.beside
                self._locks.enter_context(enter(self.leave))
        try:
            yield self._take(wanted)
        finally:
            if not wanted.alone:
                self._locks.close()
            elif following != wanted:
                self.close()

    def _take(self, wanted: Placement) -> Runner:
        if self._runner is not None and self._held == wanted:
            return self._runner
        self.leave()
        keys = [
            claim
            for one in wanted.visible
            for claim in list_locks(one, find_parent_gpu)
        ]
        # Others of this session are about to give up what they hold.
        wait_s = max(self._wait_s, TURNOVER_S) if wanted.alone else self._wait_s
        self._stack.enter_context(
            lease(
                keys, self._session, wait_s=wait_s, say=self._say, folder=self._folder
            )
        )
        self._held, self._runner = wanted, self._make(wanted)
        self._stack.callback(self._runner.close)
        return self._runner

    def leave(self) -> None:
        """End the runner and give the devices back."""
        self._held = self._runner = None
        self._stack.close()

    def close(self) -> None:
        """End what is held and let the others in."""
        self.leave()
        self._locks.close()
