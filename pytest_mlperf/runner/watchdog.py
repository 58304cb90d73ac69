"""When a runner counts as hung: judged by its progress, never by a run's length."""

from __future__ import annotations

import time
from dataclasses import dataclass
from dataclasses import field

from pytest_mlperf.runner.messages import DeviceStatus
from pytest_mlperf.runner.messages import Heartbeat

UNTIMED = frozenset({"", "open", "build"})
"""Phases that may take long without a sign of life: downloads, engine builds."""


def progress_text(beat: Heartbeat) -> str:
    """Return a heartbeat in words."""
    text = f"phase {beat.phase or 'start'} after {beat.elapsed_s:.1f} s"
    if beat.issued:
        text += f", {beat.issued:,} samples issued, {beat.completed:,} completed"
    return text


@dataclass(slots=True)
class Watch:
    """When a runner counts as hung, and with several devices which of them does."""

    stall_s: float
    build_s: float
    stuck: DeviceStatus | None = None
    """The device that the complaint is about, where it is about one."""
    _state: tuple[object, ...] = ()
    _changed: float = field(default_factory=time.monotonic)
    _heard: float = field(default_factory=time.monotonic)
    _beat: Heartbeat | None = None
    _devices: dict[str, tuple[object, float]] = field(default_factory=dict)

    def see(self, beat: Heartbeat) -> None:
        """Note a heartbeat."""
        self._heard = time.monotonic()
        shares = tuple(one.progress for one in beat.devices)
        state = (beat.phase, beat.issued, beat.completed, beat.marks, shares)
        if state != self._state:
            self._state, self._changed = state, self._heard
        for device in beat.devices:
            # What a device owes may grow while it hangs; only progress is life.
            own = (beat.phase, device.progress, device.owed > 0)
            if self._devices.get(device.name, ((), 0.0))[0] != own:
                self._devices[device.name] = (own, self._heard)
        self._beat = beat

    def complaint(self) -> str | None:
        """Return what is wrong, or None while all is well."""
        now = time.monotonic()
        beat = self._beat
        phase = beat.phase if beat else ""
        devices = beat.devices if beat else ()
        stall = (self.stall_s, "--mlperf-stall")
        build = (self.build_s, "--mlperf-build-timeout")
        patience = build if phase in UNTIMED or self._at_rest() else stall
        # A build may keep the GIL, and with it the heartbeat; a run may not.
        quiet = build if phase in UNTIMED else stall
        # The others may be well: their progress is not this one's.
        self.stuck = next((d for d in devices if self._hangs(d, now)), None)
        if now - self._heard >= quiet[0]:
            what, (limit, option) = "no sign of life", quiet
        elif self.stuck:
            what, (limit, option) = f"no progress of {self.stuck.name}", stall
        elif now - self._changed >= patience[0]:
            what, (limit, option) = "no progress", patience
            self.stuck = next((d for d in devices if d.is_busy), None)
            what += f" of {self.stuck.name}" if self.stuck else ""
        else:
            return None
        if self.stuck and self.stuck.owed:
            lost = f"{self.stuck.owed:,} samples"
            what += f" with {lost} handed to it but never answered"
        elif beat and beat.issued > beat.completed:
            lost = f"{beat.issued - beat.completed:,} samples"
            what += f" with {lost} issued but never completed"
        return (
            f"the run hangs: {what} for {limit:g} s in phase {phase or 'start'}; "
            f"the runner was ended. If it is only slow, raise {option} SECONDS"
        )

    def _hangs(self, device: DeviceStatus, now: float) -> bool:
        """Return whether a device keeps samples to itself for too long."""
        changed = self._devices.get(device.name, ((), now))[1]
        return device.owed > 0 and now - changed >= self.stall_s

    def _at_rest(self) -> bool:
        # LoadGen prepares its queries, waits for the next one of a light Server load,
        # or writes its logs: nothing happens, rightly, but not for ever.
        beat = self._beat
        return bool(beat and beat.phase == "run" and beat.issued <= beat.completed)
