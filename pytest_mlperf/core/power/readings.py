"""A power meter's readings: the lines of spl.txt.

``Time,MM-DD-YYYY HH:MM:SS.mmm,Watts,W,Volts,V,Amps,A,PF,P,Mark,NAME`` and, of a meter
of several channels, the same five figures again for each of them. UTC.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from datetime import datetime
from pathlib import Path

from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.lines import read_lines

STAMP = re.compile(r"^(\d\d-\d\d-\d{4} \d\d:\d\d:\d\d\.\d{3})")
FORM = "Time,<stamp>,Watts,<watts>,…"

Window = tuple[float, float]
"""Begin and end, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class MeterSample:
    """One line; ``at_s`` in seconds since 1970."""

    at_s: float
    watts: float


def parse_stamp(stamp: str) -> float:
    """Return MM-DD-YYYY HH:MM:SS.mmm as seconds since 1970, without strptime's cost.

    ``ValueError`` for any other text.
    """
    if not STAMP.match(stamp):
        raise ValueError(f"{stamp[:40]!r} is no time stamp")
    month, day, year = int(stamp[:2]), int(stamp[3:5]), int(stamp[6:10])
    hour, minute, second = int(stamp[11:13]), int(stamp[14:16]), int(stamp[17:19])
    whole = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    return whole.timestamp() + int(stamp[20:23]) / 1000


def read_readings(path: Path, root: Path | None = None) -> Iterator[MeterSample]:
    """Yield the readings of a file; ``LogError`` names a line that is none.

    ``root``: no link may leave it.
    """
    for number, text in read_lines(path, root=root or path.parent):
        if not text.startswith("Time"):
            continue
        fields = text.split(",")
        try:
            yield MeterSample(parse_stamp(fields[1]), float(fields[3]))
        except (ValueError, IndexError):
            raise LogError(path, number, f"{text[:60]!r}", FORM) from None


def select_within(
    readings: Iterable[MeterSample], window: Window
) -> Iterator[MeterSample]:
    """Yield the readings above zero watts that were taken strictly within a window.

    Those are the ones that the submission checker averages.
    """
    begin, end = window
    return (r for r in readings if begin < r.at_s < end and r.watts > 0)


def find_mean_watts(readings: Iterable[MeterSample], window: Window) -> float | None:
    """Return the average power within a window; None where nothing was read."""
    watts = [reading.watts for reading in select_within(readings, window)]
    return statistics.fmean(watts) if watts else None
