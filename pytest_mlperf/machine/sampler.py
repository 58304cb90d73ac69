"""Samples a device during a run: one line per second in the run's folder."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from typing import TextIO

from pytest_mlperf.machine import tegrastats
from pytest_mlperf.machine.nvml import Nvml
from pytest_mlperf.machine.nvml import NvmlError
from pytest_mlperf.machine.nvml import Reading

FILE = "device.jsonl"
PERIOD_S = 1.0
MEASURED = "run"
"""The phase that the facts cover; the file has the samples of all phases."""
STEADY_C, STEADY_CLOCK = 3.0, 0.05
"""Largest drift over the last third, and spread of clocks, of a settled device."""


class DeviceReader(Protocol):
    """A source of readings of one device."""

    def read(self) -> Reading: ...

    def close(self) -> None: ...


def sample_file_name(number: int) -> str:
    """Return the name of a device's file: ``device.jsonl``, ``device-1.jsonl`` …"""
    return FILE.replace(".", f"-{number}.") if number else FILE


@dataclass(frozen=True, slots=True)
class Sample:
    """A reading with its time, in seconds since the start, and its phase."""

    at_s: float
    phase: str
    reading: Reading

    def to_json(self) -> str:
        """Return one line; what the device does not report is left out."""
        values = asdict(self.reading)
        known = {key: value for key, value in values.items() if value is not None}
        return json.dumps({"at_s": round(self.at_s, 3), "phase": self.phase} | known)


class Sampler:
    """Samples of one run; whoever receives the heartbeats sets the phase."""

    def __init__(self, source: str = "") -> None:
        """``source``: what reads the device, ``NVML`` or ``tegrastats``."""
        self.source = source
        self.phase = ""
        self.samples: list[Sample] = []

    @property
    def facts(self) -> dict[str, str]:
        """The facts of a verdict; empty when nothing was sampled."""
        return summarize([s.reading for s in self.samples if s.phase == MEASURED])

    def mean_watts(self, number: int) -> dict[str, float]:
        """Return the device by name -> its average power; empty where unknown."""
        readings = [s.reading for s in self.samples if s.phase == MEASURED]
        watts = [r.power_w for r in readings if r.power_w is not None]
        device = f"GPU {number}" if self.source == "NVML" else "module"
        return {f"{device} ({self.source})": statistics.fmean(watts)} if watts else {}


def open_reader(visible: str, period_s: float = PERIOD_S) -> DeviceReader | None:
    """Return a reader of a device: NVML for a GPU, ``tegrastats`` on a Jetson."""
    if visible:
        with suppress(NvmlError):
            return Nvml(visible)
        return None
    tool = tegrastats.find_tool()
    if tool:
        with suppress(OSError):
            return tegrastats.Tegrastats(tool, period_s)
    return None


@contextmanager
def sample_device(
    folder: Path,
    reader: DeviceReader | None,
    period_s: float = PERIOD_S,
    file: str = FILE,
) -> Iterator[Sampler]:
    """Sample a device into a file of a folder while the block runs.

    Errors here must not fail a run: without a reader the sampler stays empty, and a
    file that cannot be written is left out.
    """
    is_board = isinstance(reader, tegrastats.Tegrastats)
    sampler = Sampler("tegrastats" if is_board else "NVML")
    if reader is None:
        yield sampler
        return
    stop = threading.Event()
    with ExitStack() as stack:
        lines: TextIO | None = None
        with suppress(OSError):
            stream = (folder / file).open("a", encoding="utf-8", buffering=1)
            lines = stack.enter_context(stream)
        thread = threading.Thread(
            target=_sample,
            args=(reader, sampler, lines, stop, period_s),
            name="mlperf-device",
            daemon=True,
        )
        thread.start()
        try:
            yield sampler
        finally:
            stop.set()
            if isinstance(reader, tegrastats.Tegrastats):
                reader.close()  # it may be waiting for a line
            thread.join(period_s + 5)
            # A driver that does not answer keeps its thread and its handle.
            if not thread.is_alive():
                reader.close()


def _sample(
    reader: DeviceReader,
    sampler: Sampler,
    file: TextIO | None,
    stop: threading.Event,
    period_s: float,
) -> None:
    began = time.monotonic()
    due = began
    while not stop.is_set():
        phase = sampler.phase
        reading = reader.read()
        if reading == Reading():
            return  # the reader has ended, or has nothing to report
        sample = Sample(time.monotonic() - began, phase, reading)
        sampler.samples.append(sample)
        with suppress(OSError, ValueError):  # a full disk; a file closed meanwhile
            if file is not None:
                file.write(f"{sample.to_json()}\n")
        # By the clock, so that the time that readings take does not accumulate.
        due = max(due + period_s, time.monotonic())
        stop.wait(due - time.monotonic())


def summarize(readings: Sequence[Reading]) -> dict[str, str]:
    """Return facts about a measured run, as far as the device reported them."""
    facts: dict[str, str] = {}
    temperatures = [r.temperature_c for r in readings if r.temperature_c is not None]
    if temperatures:
        facts["device temperature"] = _describe_temperature(temperatures)
    powers = [r.power_w for r in readings if r.power_w is not None]
    if powers:
        text = f"mean {statistics.fmean(powers):.0f} W, max {max(powers):.0f} W"
        limits = {r.limit_w for r in readings if r.limit_w}
        if len(limits) == 1:
            text += f" of {limits.pop():.0f} W"
        facts["device power"] = text
    clocks = [r.sm_mhz for r in readings if r.sm_mhz is not None]
    if clocks:
        facts["device clock"] = _describe_clock(clocks, any(r.locked for r in readings))
    held_back = [r.held_back for r in readings if r.held_back is not None]
    if held_back:
        facts["throttling"] = _describe_throttling(held_back)
    return facts


def _describe_temperature(values: Sequence[float]) -> str:
    text = f"{values[0]:.0f} to {values[-1]:.0f} °C, max {max(values):.0f} °C"
    last = values[-max(2, len(values) // 3) :]
    if len(values) >= 9 and max(last) - min(last) > STEADY_C:
        drift = max(last) - min(last)
        # Means of its halves: one hot reading is no slope.
        half = len(last) // 2
        rise = 2 * (statistics.fmean(last[-half:]) - statistics.fmean(last[:half]))
        way = "unsteady"
        if abs(rise) > drift / 2:
            way = "still climbing" if rise > 0 else "still falling"
        return f"{text}; not settled, {way}: {drift:.0f} °C within the last third"
    return f"{text}; steady" if len(values) >= 9 else text


def _describe_clock(values: Sequence[float], locked: bool) -> str:
    mean = statistics.fmean(values)
    text = f"mean {mean:.0f} MHz, {min(values):.0f} to {max(values):.0f}"
    text += " (set by somebody)" * locked
    if len(values) >= 9 and mean and statistics.pstdev(values) / mean > STEADY_CLOCK:
        spread = statistics.pstdev(values) / mean
        text += f"; unstable: spread {spread:.0%}, look at cooling and power"
    return text


def _describe_throttling(held_back: Sequence[Sequence[str]]) -> str:
    counts = Counter(reason for reasons in held_back for reason in reasons)
    if not counts:
        return "none"
    shares = [f"{why} {n / len(held_back):.0%}" for why, n in counts.most_common()]
    return f"{', '.join(shares)} of {len(held_back)} samples"
