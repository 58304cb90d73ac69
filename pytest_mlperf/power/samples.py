"""A meter's samples as lines of spl.txt, and the ranges that follow from them."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from decimal import Decimal
from decimal import InvalidOperation
from itertools import pairwise

HEADROOM = 1.1
"""The tested run's range of amperes over the most that ranging saw."""
KEYS = ("Watts", "Volts", "Amps", "PF")
UNKNOWN = "-1.000000"


def mark_sample(line: str, mark: str) -> str:
    """Return a sample with its mark behind the sum's figures, and channels numbered.

    In: ``Time,T,Watts,…,PF,P`` and, of each channel, ``,Watts,…,PF,P``.
    """
    head, *groups = line.rstrip(",").split(",Watts,")
    if not groups:
        raise ValueError(f"{line[:60]!r}, but should be Time,T,Watts,W,…")
    sums, *channels = groups
    parts = [head, f"Watts,{sums}", f"Mark,{mark}"]
    parts += [f"Ch{n},Watts,{one}" for n, one in enumerate(channels, 1)]
    return ",".join(parts)


def find_ranges(lines: Iterable[str]) -> tuple[str, str]:
    """Return the volts and amperes to set, from all samples and channels of ranging.

    ``ValueError`` where no sample tells them.
    """
    volts, amps = Decimal(-1), Decimal(-1)
    for line in lines:
        fields = line.split(",")
        for name, text in pairwise(fields):
            try:
                if name == "Volts":
                    volts = max(volts, Decimal(text))
                elif name == "Amps":
                    amps = max(amps, Decimal(text))
            except InvalidOperation:  # a reading that the meter could not make
                continue
    if volts <= 0 or amps <= 0:
        raise ValueError(
            "no sample has volts and amperes; ranging has to last longer than a "
            "sample, which is a second"
        )
    return str(volts), str(float(amps) * HEADROOM)


def merge_samples(meters: Sequence[Sequence[str]]) -> list[str]:
    """Return the samples of all meters of a system, their watts added line by line.

    Time and mark are the first meter's; what cannot be added is -1. A meter's samples
    beyond the shortest list are left out.
    """
    if len(meters) == 1:
        return list(meters[0])
    merged = []
    for together in zip(*meters, strict=False):
        fields = [line.split(",") for line in together]
        first = fields[0]
        watts = [float(one[3]) for one in fields]
        total = sum(abs(one) for one in watts if one != -1)
        sums = ["Time", first[1], "Watts", f"{total:.6f}"]
        for key in KEYS[1:]:
            sums += [key, UNKNOWN]
        sums += ["Mark", first[11]]
        for number, line in enumerate(together, 1):
            sums += [f"Analyzer{number}", line]
        merged.append(",".join(sums))
    return merged
