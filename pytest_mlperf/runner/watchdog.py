"""When a runner counts as hung: judged by its progress, never by a run's length."""

from __future__ import annotations

import time
from dataclasses import dataclass
from dataclasses import field
from typing import NamedTuple

from pytest_mlperf.machine.cpu_usage import read_family_s
from pytest_mlperf.runner.messages import DeviceStatus
from pytest_mlperf.runner.messages import Heartbeat

UNTIMED = frozenset({"open", "build"})
"""Phases that may take long without a sign of life: downloads, engine builds."""
LEAST_CPU_S = 0.01
"""What the kernel counts in."""
HEARD_S = 2.0
"""A runner without a heartbeat for this long sends none now."""
PAUSE_S = 2.0
"""The parent looks a few times a second. After a longer gap it was stopped itself, and
its runner probably with it: a job that Slurm suspends, a paused container, a virtual
machine that moves to another host."""
START_S = 300.0
"""A process may take this long to start: from a cold disk, beside other programs."""
STALL = "--mlperf-stall"


class Limit(NamedTuple):
    """How long something is borne, and the option that says so."""

    seconds: float
    option: str


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
    last: Heartbeat | None = None
    _state: tuple[object, ...] = ()
    _changed: float = field(default_factory=time.monotonic)
    _heard: float = field(default_factory=time.monotonic)
    _work: int = 0
    _worked: float = field(default_factory=time.monotonic)
    _cpu: dict[str, float] = field(default_factory=dict)
    """What used CPU time -> its seconds."""
    _used: float = field(default_factory=time.monotonic)
    _looked: float = 0.0
    _awake: float = field(default_factory=time.monotonic)
    """When the parent looked last."""
    _devices: dict[str, tuple[object, float]] = field(default_factory=dict)

    def see(self, beat: Heartbeat) -> None:
        """Note a heartbeat."""
        now = time.monotonic()
        self._pass_over_pause(now)
        self._heard = now
        shares = tuple(one.progress for one in beat.devices)
        state = (beat.phase, beat.issued, beat.completed, beat.marks, shares)
        if state != self._state:
            self._state, self._changed = state, self._heard
            self._worked = self._used = self._heard
        self._note_cpu("runner", beat.cpu_s)
        if beat.work != self._work:
            self._work, self._worked = beat.work, self._heard
        for device in beat.devices:
            # What a device owes may grow while it hangs; only progress is life.
            own = (beat.phase, device.progress, device.owed > 0)
            if self._devices.get(device.name, ((), 0.0))[0] != own:
                self._devices[device.name] = (own, self._heard)
        self.last = beat

    def _pass_over_pause(self, now: float) -> None:
        """Count no time in which nobody could be heard."""
        gap, self._awake = now - self._awake, now
        if gap <= PAUSE_S:
            return
        self._changed += gap
        self._heard += gap
        self._worked += gap
        self._used += gap
        for name, (own, since) in self._devices.items():
            self._devices[name] = own, since + gap

    def _look_at_cpu(self, pid: int) -> None:
        # Only where it counts: all processes of the machine are looked through.
        now = time.monotonic()
        beat = self.last
        is_quiet = now - self._used >= self.stall_s / 2
        if beat and beat.phase in UNTIMED and is_quiet and now - self._looked >= 1:
            self._looked = now
            # Heartbeats use some, and tell of all else that the runner uses.
            is_silent = now - self._heard >= HEARD_S
            whose = "all" if is_silent else "children"
            self._note_cpu(whose, read_family_s(pid, with_self=is_silent))

    def _note_cpu(self, whose: str, seconds: float) -> None:
        before = self._cpu.setdefault(whose, seconds)
        if seconds - before >= LEAST_CPU_S:
            self._cpu[whose], self._used = seconds, time.monotonic()

    def complaint(self, unfinished_s: float = 0.0, pid: int = 0) -> str | None:
        """Return what is wrong, or None while all is well.

        ``unfinished_s``: for how long no more came of a message that has begun.
        ``pid``: the runner, whose CPU time is looked at where it says nothing.
        """
        fault = self._find_fault(unfinished_s, pid)
        if fault is None:
            return None
        what, limit = fault
        beat = self.last
        if self.stuck and self.stuck.owed:
            lost = f"{self.stuck.owed:,} samples"
            what += f" with {lost} handed to it but never answered"
        elif beat and beat.issued > beat.completed:
            lost = f"{beat.issued - beat.completed:,} samples"
            what += f" with {lost} issued but never completed"
        phase = self._phase or "start"
        return (
            f"the run hangs: {what} for {limit.seconds:g} s in phase {phase}; the "
            f"runner was ended. If it is only slow, raise {limit.option} SECONDS"
        )

    def _find_fault(self, unfinished_s: float, pid: int) -> tuple[str, Limit] | None:
        """Return what is wrong, and which limit it passed; notes whose fault it is."""
        now = time.monotonic()
        self._pass_over_pause(now)
        if pid:
            self._look_at_cpu(pid)
        stall = Limit(self.stall_s, STALL)
        build = Limit(self.build_s, "--mlperf-build-timeout")
        start = Limit(max(self.stall_s, START_S), STALL)
        # A build may keep the GIL, and with it the heartbeat; a run may not.
        usual = {"": start, **dict.fromkeys(UNTIMED, build)}.get(self._phase, stall)
        devices = self.last.devices if self.last else ()
        # The others may be well: their progress is not this one's.
        self.stuck = next((d for d in devices if self._hangs(d, now)), None)

        # Half a message is no build that keeps the GIL.
        silence = stall if unfinished_s >= self.stall_s else usual
        if now - self._heard >= silence.seconds:
            within = ", in the middle of a message," if unfinished_s else ""
            return f"no sign of life{within}", silence
        if self.stuck:
            return f"no progress of {self.stuck.name}", stall
        busy = next((d for d in devices if d.is_busy), None)
        knows_cpu = pid or now - self._heard < HEARD_S
        is_idle = knows_cpu and not busy and now - self._used >= self.stall_s
        if self._phase in UNTIMED and is_idle:
            return "no progress, and no CPU time used,", stall
        if self._at_rest() and not busy:
            longest = self.last.longest_rest_s if self.last else 0.0
            rest = Limit(max(self.stall_s, longest), STALL)
            if now - self._worked >= rest.seconds:
                return "LoadGen issues nothing and writes nothing", rest
        patience = build if self._at_rest() else usual
        if now - self._changed >= patience.seconds:
            self.stuck = busy
            return f"no progress of {busy.name}" if busy else "no progress", patience
        return None

    @property
    def _phase(self) -> str:
        return self.last.phase if self.last else ""

    def _hangs(self, device: DeviceStatus, now: float) -> bool:
        """Return whether a device keeps samples to itself for too long."""
        changed = self._devices.get(device.name, ((), now))[1]
        return device.owed > 0 and now - changed >= self.stall_s

    def _at_rest(self) -> bool:
        # LoadGen prepares its queries, waits for the next one of a light Server load,
        # or writes its logs: nothing is issued, rightly, but not for ever.
        beat = self.last
        return bool(beat and beat.phase == "run" and beat.issued <= beat.completed)
