"""Readings from ``tegrastats`` on a Jetson, which has no complete NVML."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from pytest_mlperf.machine.nvml import Reading

TOOL = "tegrastats"
INPUTS = ("VDD_IN", "POM_5V_IN", "VIN")
"""Rails that carry the whole module, if the board measures one."""
PARTS = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)
"""Rails that together carry the module, if no single one does."""


@dataclass(frozen=True, slots=True)
class Stats:
    """One line of the tool; empty for what the board does not report."""

    gpu_mhz: float | None
    temperatures_c: Mapping[str, float]
    """By sensor, as the board spells it: ``gpu``, ``tj``, ``CPU``."""
    rails_mw: Mapping[str, float]
    """Power by rail, at this moment."""

    def reading(self) -> Reading:
        """Return the line as a device's reading; power is the module's."""
        by_name = {name.lower(): value for name, value in self.temperatures_c.items()}
        return Reading(
            temperature_c=by_name.get("gpu", by_name.get("tj")),
            power_w=self.power_w,
            sm_mhz=self.gpu_mhz,
        )

    @property
    def power_w(self) -> float | None:
        """The whole module's power; None when its rails do not add up to it."""
        whole = next((n for n in INPUTS if n in self.rails_mw), None)
        if whole:
            return self.rails_mw[whole] / 1000
        for parts in PARTS:
            if all(name in self.rails_mw for name in parts):
                return sum(self.rails_mw[name] for name in parts) / 1000
        return None


def parse_line(line: str) -> Stats | None:
    """Return the values of a line; None for a line that is not the tool's."""
    load = re.search(r"\bGR3D_FREQ \d+%(?:@\[?(\d+))?", line)
    if not load and not re.search(r"\bRAM \d+/\d+MB", line):
        return None
    # An unplugged sensor shows -256 °C; a rail without meter shows 0/0.
    sensors = re.findall(r"\b([A-Za-z]\w*)@(-?\d+(?:\.\d+)?)C\b", line)
    rails = re.findall(r"\b([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/(\d+)(?:mW)?(?=\s|$)", line)
    temperatures = {name: float(value) for name, value in sensors}
    return Stats(
        gpu_mhz=float(load[1]) if load and load[1] else None,
        temperatures_c={n: value for n, value in temperatures.items() if value > -100},
        rails_mw={name: float(now) for name, now, _ in rails},
    )


class Tegrastats:
    """The running tool; each ``read`` waits for its next line."""

    def __init__(self, tool: str, interval_s: float) -> None:
        self._process = subprocess.Popen(
            [tool, "--interval", str(max(1, round(interval_s * 1000)))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )

    def read(self) -> Reading:
        """Return the next line's reading; an empty one when the tool has ended."""
        assert self._process.stdout is not None
        with suppress(ValueError):  # the stream was closed
            for line in self._process.stdout:
                stats = parse_line(line)
                if stats:
                    return stats.reading()
        return Reading()

    def close(self) -> None:
        """End the tool; a ``read`` that waits for it returns."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        if self._process.stdout is not None:
            self._process.stdout.close()


def find_tool() -> str | None:
    """Return the tool's path on this machine."""
    return shutil.which(TOOL)
