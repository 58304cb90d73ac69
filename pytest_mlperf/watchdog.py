"""When a runner counts as hung: judged by its progress, never by a run's length."""

from __future__ import annotations

import time
from dataclasses import dataclass
from dataclasses import field

from pytest_mlperf.job import Beat

UNTIMED = frozenset({"", "open", "build"})
"""Phases that may take long without a sign of life: downloads, engine builds."""


def progress_text(beat: Beat) -> str:
    """Return a heartbeat in words."""
    text = f"phase {beat.phase or 'start'} after {beat.elapsed_s:.1f} s"
    if beat.issued:
        text += f", {beat.issued:,} samples issued, {beat.completed:,} completed"
    return text


@dataclass(slots=True)
class Watch:
    """When a runner counts as hung."""

    stall_s: float
    build_s: float
    _state: tuple[object, ...] = ()
    _changed: float = field(default_factory=time.monotonic)
    _heard: float = field(default_factory=time.monotonic)
    _beat: Beat | None = None

    def see(self, beat: Beat) -> None:
        """Note a heartbeat."""
        self._heard = time.monotonic()
        state = (beat.phase, beat.issued, beat.completed, beat.marks)
        if state != self._state:
            self._state, self._changed = state, self._heard
        self._beat = beat

    def complaint(self) -> str | None:
        """Return what is wrong, or None while all is well."""
        now = time.monotonic()
        beat = self._beat
        phase = beat.phase if beat else ""
        stall = (self.stall_s, "--mlperf-stall")
        build = (self.build_s, "--mlperf-build-timeout")
        patience = build if phase in UNTIMED or self._at_rest() else stall
        # A build may keep the GIL, and with it the heartbeat; a run may not.
        quiet = build if phase in UNTIMED else stall
        if now - self._heard >= quiet[0]:
            what, (limit, option) = "no sign of life", quiet
        elif now - self._changed >= patience[0]:
            what, (limit, option) = "no progress", patience
        else:
            return None
        if beat and beat.issued > beat.completed:
            lost = beat.issued - beat.completed
            what += f" with {lost:,} samples issued but never completed"
        return (
            f"the run hangs: {what} for {limit:g} s in phase {phase or 'start'}; "
            f"the runner was ended. If it is only slow, raise {option} SECONDS"
        )

    def _at_rest(self) -> bool:
        # LoadGen prepares its queries, waits for the next one of a light Server load,
        # or writes its logs: nothing happens, rightly, but not for ever.
        beat = self._beat
        return bool(beat and beat.phase == "run" and beat.issued <= beat.completed)
