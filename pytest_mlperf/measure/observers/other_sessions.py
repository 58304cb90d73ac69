"""Observes which other sessions measure on this machine meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.api.observer import ObservedRun
from pytest_mlperf.api.observer import RunHeartbeat
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.machine import sessions
from pytest_mlperf.machine.lease import Holder
from pytest_mlperf.machine.sampler import MEASURED

PERIOD_S = 1.0


@dataclass(slots=True)
class ObservedSessions:
    """The other sessions that measured while LoadGen did."""

    session: str
    folder: Path
    found: dict[Holder, None] = field(default_factory=dict)
    _looked_at: float = field(default=float("-inf"))

    def see(self, heartbeat: RunHeartbeat) -> None:
        """Look now and then."""
        now = time.monotonic()
        if heartbeat.step == MEASURED and now - self._looked_at >= PERIOD_S:
            self._looked_at = now
            others = sessions.list_others(self.session, self.folder)
            self.found |= dict.fromkeys(others)

    @property
    def facts(self) -> dict[str, str]:
        """Return who measured beside this run, if anybody did."""
        others = "; ".join(map(str, self.found))
        return {"other sessions": others} if others else {}

    def complete_facts(self, facts: RunFacts) -> RunFacts:
        """Return the facts with the other sessions."""
        names = dict.fromkeys(one.session for one in self.found)
        return replace(facts, sessions_beside=tuple(names))


@dataclass(frozen=True, slots=True)
class OtherSessions:
    """An ``Observer`` of the sessions beside, which tells them of this one."""

    session: str
    folder: Path = sessions.FOLDER

    @contextmanager
    def around(self, task: ObservedRun) -> Iterator[ObservedSessions]:
        del task
        with sessions.announce(self.session, self.folder):
            yield ObservedSessions(self.session, self.folder)
